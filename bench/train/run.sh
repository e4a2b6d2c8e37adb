#!/usr/bin/env bash
# How many images per second does Penjing train, and how many PyTorch?
#
#   usage: bench/train/run.sh [--quick] [--rounds N] [--seconds S] [--threads N] [--batch N] [--out FOLDER]
#
# Takes about five minutes; `--quick` half a minute, to show that the script works, not how fast anything is. The first
# time it installs PyTorch, about 4 GB with the CUDA wheels that its wheel needs to import.
set -euo pipefail
cd "$(dirname "$0")/../.."

options=("$@")
if [[ ${1-} == --quick ]]; then
    options=(--rounds 1 --seconds 0.3 --out .cache/bench/train-quick "${@:2}")
fi

cargo build --release --locked -p penjing-exec --example throughput
python=$(scripts/python bench)
PYTHONPATH=bench exec "$python" bench/train/compare.py --penjing target/release/examples/throughput "${options[@]}"
