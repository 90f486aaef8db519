.PHONY: demo test check generate

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
