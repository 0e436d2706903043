# `make demo` and `make test` install what is missing by themselves; scripts/install.sh says what.
.PHONY: demo test bench

# Not the release build: the story takes as long in this one, it is made in half the time, and `make test` needs it anyway.
demo: ## the whole story on PostgreSQL servers of its own
	@scripts/install.sh demo
	cargo build --workspace --locked
	$(or $(CARGO_TARGET_DIR),target)/debug/driftline demo

test: ## format, lints, docs, dependency audit, alert rules, the demo and its Parquet, every test
	@scripts/install.sh test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --locked --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
	scripts/audit.sh
	scripts/rules-test.sh
	cargo build --workspace --locked
	scripts/demo-parquet.sh $(or $(CARGO_TARGET_DIR),target)/debug/driftline
	cargo test --workspace --locked --doc
	cargo test --workspace --locked --lib --bins --tests --no-fail-fast

bench: ## measures, and prints what it measured against which baseline
	benches/run.sh
