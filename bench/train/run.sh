#!/usr/bin/env bash
# How many images per second does Penjing train, and how many PyTorch?
#
#   usage: bench/train/run.sh [--rounds N] [--seconds S] [--threads N] [--batch N] [--out FOLDER]
#
# Takes about five minutes. The first time it installs PyTorch, about 4 GB with the CUDA wheels that its wheel needs to import.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --release --locked -p penjing-exec --example throughput
python=$(scripts/python bench)
PYTHONPATH=bench exec "$python" bench/train/compare.py --penjing target/release/examples/throughput "$@"
