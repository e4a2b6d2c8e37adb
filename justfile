# `just` lists the recipes. Each is one ordinary command, so that nothing here is needed to work on Penjing.

default:
    @just --list

# What CI runs: formatting, lints, every test
check:
    ./scripts/test

# The tests of one crate, or those whose name contains FILTER: just test penjing-graph conv
test crate *filter:
    cargo nextest run -p penjing-{{ trim_start_match(crate, "penjing-") }} {{ filter }}

format:
    cargo fmt --all

lint:
    cargo clippy --workspace --all-targets -- -D warnings

# The main job on embedded data, offline
demo:
    cargo run --release -- demo

# Public data and models for tests and benches: just assets mnist
assets *names:
    ./scripts/assets {{ names }}

# The CPU kernels' tests under Valgrind: reads and writes outside, and memory that was never written (needs valgrind)
valgrind cases="40":
    cargo test --workspace --lib --no-run
    PROPTEST_CASES={{ cases }} valgrind --error-exitcode=9 --quiet $(ls -t ${CARGO_TARGET_DIR:-target}/debug/deps/penjing_exec-* | grep -v '\.d$' | head -1) cpu:: --skip exp_is_within

# Licences, duplicates, sources and advisories of the dependencies (needs cargo-deny)
deny:
    cargo deny check

# A model of more than 2 GB through inspect and prune: about 12 GB of disk, 17 GB of memory
large-model:
    ./bench/large-model/run.sh

# One question of bench/, against its peer: just bench prune
bench question *arguments:
    ./bench/{{ question }}/run.sh {{ arguments }}

doc:
    cargo doc --workspace --no-deps --open
