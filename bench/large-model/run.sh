#!/usr/bin/env bash
# Does a model of more than 2 GB, which one ONNX file cannot hold, come through inspect and prune, and in how much memory?
#
#   usage: bench/large-model/run.sh [--out FOLDER]
#
# Takes about 12 GB of disk and 17 GB of memory while it runs.
set -euo pipefail
cd "$(dirname "$0")/../.."

penjing=${PENJING:-target/release/penjing}
[[ -n ${PENJING-} ]] || cargo build --release --locked --bin penjing
python=$(scripts/python)
# ONNX Runtime is found through the python3 on PATH.
PATH=$(dirname "$python"):$PATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" bench/large-model/make_model.py "$folder/large.onnx"
PYTHONPATH=bench "$python" bench/large-model/measure.py --penjing "$penjing" --model "$folder/large.onnx" "$@"
