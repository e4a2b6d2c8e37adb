#!/usr/bin/env bash
# How much memory does `penjing inspect` take for a model of 500 MB?
#
#   usage: bench/inspect/run.sh [--runs N] [--out FOLDER]
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --release --locked --bin penjing
python=$(scripts/python)
model=.cache/bench/500-mb.onnx
mkdir -p "${model%/*}"
[[ -f $model ]] || "$python" bench/inspect/make_model.py "$model"

PYTHONPATH=bench exec "$python" bench/inspect/measure.py --model "$model" "$@" -- target/release/penjing inspect "$model"
