# The verbs of this repository. CI runs the same ones: see .ci/run.

.PHONY: help run build test sim sim-mutants contract interleavings fuzz live soak bench bench-quick bench-parts counts counts-write lint fmt check-licenses docker-replay clean
.DEFAULT_GOAL := help

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## serve with config.toml
	cargo run --locked

build: ## the release binary, target/release/tidegate
	cargo build --locked --release

test: ## every test but those of "make live"; says what is missing to run them
	.ci/need test
	cargo test --locked -- --skip live::

interleavings: ## small models of what threads share, in every order of their steps
	cargo test --locked --lib --features interleavings interleavings

fuzz: ## every fuzz target for FUZZ_SECONDS (60) or FUZZ_RUNS each; what they find stays in target/fuzz
	fuzz/run

contract: ## the running binary held to its OpenAPI document by an independent tool
	.ci/contract

sim: ## a whole fleet in virtual time, seed by seed: SIM_SEEDS, SIM_SEED_START, or SIM_SEED for one
	SIM_SEEDS=$${SIM_SEEDS:-2000} cargo test --locked --profile sim --test all -- sim::seeds --nocapture

sim-mutants: ## deliberate mistakes, and which seed or story of the simulation finds each
	cargo test --locked --profile sim --features mutants --test all -- sim::mutants --nocapture

live: ## what a fleet promises, on real nodes and real Redis, with figures: about half an hour of the whole machine
	.ci/need test
	FLEET_VISITORS=30000 FLEET_POLLS=1000000 FLEET_LOAD_SECONDS=30 cargo test --locked --release --test all -- store:: doctor:: legacy:: live:: --skip live::soak --nocapture --test-threads 1
	RESTART_TICKETS=1000000 cargo bench --locked --profile release --bench restart

soak: ## ten minutes of a sale on a real fleet, one fault after another: SOAK_SECONDS, SOAK_SEED; wants the machine to itself
	.ci/need test
	SOAK_SECONDS=$${SOAK_SECONDS:-600} cargo test --locked --release --test all -- live::soak --nocapture --test-threads 1

bench: ## Tidegate beside a bare server and Redis-only designs: target/bench/report.html
	.ci/need bench
	cargo bench --locked --bench side_by_side

bench-quick: ## the same in three minutes, smaller
	.ci/need bench
	cargo bench --locked --bench side_by_side -- quick

bench-parts: ## the parts one by one, with the allocator told as in deploy/
	.ci/need bench
	GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1048576 cargo bench --locked --bench line --bench status --bench restart --bench store --bench redis

counts: ## instructions of a poll and a join, held to benches/counts.toml
	.ci/need counts
	cargo bench --locked --profile quick --bench counts

counts-write: ## write benches/counts.toml anew
	.ci/need counts
	cargo bench --locked --profile quick --bench counts -- write

lint: ## format, clippy, dependencies, documentation; warnings are errors
	.ci/need lint
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	.ci/dependencies
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

fmt: ## format the sources
	cargo fmt

check-licenses: ## the licenses of all dependencies
	.ci/need lint
	cargo deny --locked check licenses

docker-replay: ## the Dockerfile's build stage, without an engine
	deploy/replay-dockerfile

clean: ## what cargo built
	cargo clean
