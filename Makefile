.PHONY: run test bench deny schema

# Installs what is missing, builds, and starts a server with a ready environment and a page to look at.
run:
	scripts/setup
	cargo build --release
	target/release/cardwire demo

# Installs what is missing and runs every check.
test:
	scripts/setup tests
	scripts/check

# Measures, beside peers in the same run, and writes docs/benchmarks.md.
bench:
	scripts/setup
	scripts/bench

# Licences and duplicate crates; needs cargo-deny.
deny:
	cargo deny check licenses bans sources

# Writes src/db/schema.rs from the migrations; needs diesel_cli.
schema:
	scripts/schema
