.PHONY: demo test check generate bench

# The main job on a real API server and a fake of Astro. KEEP=1 leaves it running until Ctrl-C.
demo:
	cargo build --workspace --bins
	KEEP=$(KEEP) ./target/debug/demo

# Everything, on a real API server.
test:
	cargo test --workspace

# What else keeps the tree honest.
check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

# Writes the files that are made from the types and from the chart.
generate:
	UPDATE=1 cargo test --test definitions
	UPDATE=1 cargo test --test packaging generated

# What it costs and how long it takes, with as many objects as docs/benchmarks.md tells of.
bench:
	cargo build --release --workspace --bins
	./target/release/bench --size full --json target/bench.json
