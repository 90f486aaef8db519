.PHONY: demo test check dependencies static image image-test generate bench bench-peer chaos fuzz

# The main job on a real API server and a fake of Astro. KEEP=1 leaves it running until Ctrl-C.
demo:
	cargo build --workspace --bins
	KEEP=$(KEEP) ./target/debug/demo

# Everything but the image, on a real API server.
test:
	cargo test --workspace

# What else keeps the tree honest.
check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cp Cargo.lock tests/fuzz
	rustfmt --edition 2024 --check tests/fuzz/*.rs
	CUSTOM_LIBFUZZER_PATH=/none/none.a cargo clippy --manifest-path tests/fuzz/Cargo.toml --target-dir target -- \
		-D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

# Built once and kept in the user's cache directory. They run for a second, so that optimizing them would take
# longer than it saves.
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/orginvite-operator/tools
INSTALL_TOOLS = CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
	cargo install --quiet --locked --root $(TOOLS)
DENY := $(TOOLS)/bin/cargo-deny --locked

# Dependencies that are unwanted by deny.toml, not used, or known to be vulnerable where the database can be had.
dependencies:
	$(INSTALL_TOOLS) cargo-deny@0.20.2 cargo-machete@0.9.2
	$(DENY) check --hide-inclusion-graph bans licenses sources
	$(TOOLS)/bin/cargo-machete
	@if $(DENY) fetch db; then $(DENY) check advisories; \
	else echo "NOT CHECKED for vulnerabilities: the advisory database cannot be had here"; fi

# Where `make static` puts what the image holds.
IMAGE_ROOT := target/image
MUSL := $(shell uname -m)-unknown-linux-musl
# Debian's ca-certificates, without the authorities that this machine trusts besides.
AUTHORITIES := /usr/share/ca-certificates/mozilla
# The binary does not tell where it was built.
REMAP = --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo --remap-path-prefix=$(CURDIR)=/src

# The static binary. Needs musl-gcc, from Debian's musl-tools.
static:
	rustup target add $(MUSL)
	RUSTFLAGS="$(REMAP)" cargo build --release --locked --target $(MUSL) --target-dir target
	rm -rf $(IMAGE_ROOT)
	install -D -m 755 target/$(MUSL)/release/orginvite-operator $(IMAGE_ROOT)/orginvite-operator
	install -d -m 755 $(IMAGE_ROOT)/etc/ssl/certs
	cat $(AUTHORITIES)/*.crt > $(IMAGE_ROOT)/etc/ssl/certs/ca-certificates.crt

IMAGE := orginvite-operator
REVISION := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
# docker or buildah, whichever is there.
BUILD_IMAGE = $(shell docker info >/dev/null 2>&1 && echo docker build || echo buildah bud)

# The image, without pulling a base image. IMAGE is its name.
image: static
	$(BUILD_IMAGE) --target prebuilt --build-arg REVISION=$(REVISION) --tag $(IMAGE) .

# What is in the image, and that it works. As root on Linux, with buildah.
image-test:
	cargo test --test image -- --ignored --nocapture

# Writes the files that are made from the types and from the chart.
generate:
	UPDATE=1 cargo test --test definitions
	UPDATE=1 cargo test --test packaging generated

# What it costs and how long it takes, with as many objects as docs/benchmarks.md tells of.
bench:
	cargo build --release --workspace --bin orginvite-operator --bin control-plane --bin bench
	./target/release/bench --size full --json target/bench.json

# The same for another operator, of controller-runtime, where both can be compared. Needs Go.
bench-peer:
	cargo build --release --workspace --bin control-plane --bin bench
	cd tests/support/peer && go build -o ../../../target/peer .
	./target/release/bench burst paced deletion kills lost-answers --size full --operator target/peer --peer \
		--json target/bench-peer.json

# Everything goes wrong for MINUTES [5], as drawn from SEED [any], with so many PEOPLE [300]. SOAK=1 kills no process
# and compares what each holds. docs/reliability.md tells what is judged.
chaos:
	cargo build --workspace --bins
	SEED=$(SEED) MINUTES=$(MINUTES) PEOPLE=$(PEOPLE) SOAK=$(SOAK) \
		cargo test --test chaos minutes -- --ignored --nocapture

# Whatever others send, tried for SECONDS [60] each, guided by what it reaches. Needs rustup.
fuzz:
	rustup toolchain install nightly --profile minimal --no-self-update
	$(INSTALL_TOOLS) cargo-fuzz@0.13.1
	cp Cargo.lock tests/fuzz
	set -e; for target in answer object text; do \
		mkdir -p target/fuzz/corpus/$$target; \
		RUSTUP_TOOLCHAIN=nightly $(TOOLS)/bin/cargo-fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz $$target \
			target/fuzz/corpus/$$target tests/fuzz/seeds/$$target -- \
			-max_total_time=$(or $(SECONDS),60) -max_len=4096 -timeout=10; \
	done
