#!/usr/bin/env bash
# How many samples per second does Penjing train and run, and how many PyTorch? How much memory does training take?
#
#   usage: bench/train/run.sh [--quick] [--rounds N] [--seconds S] [--threads N] [--batch N] [--out FOLDER]
#          bench/train/run.sh --memory [--quick] [--steps N] [--threads N] [--batch N] [--out FOLDER]
#
# Speed takes about a quarter of an hour, memory one minute. `--quick` takes a minute or less, to show that the script works,
# not how fast anything is. The first time it installs PyTorch, about 4 GB with the CUDA wheels that its wheel needs to import.
set -euo pipefail
cd "$(dirname "$0")/../.."

question=compare quick=(--rounds 1 --seconds 0.3)
if [[ ${1-} == --memory ]]; then
    question=memory quick=(--steps 1)
    shift
fi
options=("$@")
if [[ ${1-} == --quick ]]; then
    options=("${quick[@]}" --out .cache/bench/train-quick "${@:2}")
fi

cargo build --release --locked -p penjing-exec --example throughput
python=$(scripts/python bench)
PYTHONPATH=bench exec "$python" "bench/train/$question.py" --penjing target/release/examples/throughput "${options[@]}"
