# `make demo` and `make test` install what is missing by themselves; see scripts/install.sh.
.PHONY: demo test bench

demo: ## the whole story on PostgreSQL servers of its own
	@scripts/install.sh demo
	cargo build --release --locked
	target/release/driftline demo

test: ## format, lints, tests, docs, audit, demo, Parquet contract
	@scripts/install.sh test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --locked --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
	scripts/audit.sh
	cargo build --locked
	scripts/demo-parquet.sh target/debug/driftline
	cargo test --workspace --locked

bench: ## measures, and prints what it measured against which baseline
	benches/run.sh
