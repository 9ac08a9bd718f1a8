# Thin: each target is one script or one cargo command. CONTRIBUTING.md says what they show.
.PHONY: demo test matrix bench lint dist dist-test site

# GROUPS="connect upload" chooses among the benchmarks; KEEP=1 leaves the demo running and prints commands to try.
demo:
	tests/servers/install demo
	cargo build --bin rdsgate --example demo
	@cargo run --quiet --example demo

# The scenarios mostly wait: more threads than cores.
test:
	tests/servers/install test
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-8} cargo test --workspace --no-fail-fast

# ROWS="pg-13 maria-10.5" chooses among the servers.
matrix:
	tests/servers/install test
	tests/servers/matrix $(ROWS)

bench:
	tests/servers/install test
	cargo bench --bench bench -- $(GROUPS)

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# The files of a release for Linux, in dist/; dist-test installs and runs them. RELEASING.md describes both.
dist:
	packaging/dist

dist-test:
	packaging/test

# The documentation as a site, in target/site. mdBook is installed below target/ if it is not in PATH.
site:
	@command -v mdbook >/dev/null || [ -x target/tools/bin/mdbook ] || \
	  cargo install --locked --debug --root target/tools --target-dir target/tools/build --no-default-features --features search mdbook@0.5.4
	@PATH="$$PATH:$$PWD/target/tools/bin" docs/build-site mdbook
