#!/usr/bin/env bash
# How long does it take to find one threshold over all weights of resnet-50 and to mask those below it?
#
#   usage: bench/prune/run.sh [--rounds N] [--sparsity S] [--out FOLDER]
#
# PyTorch's torch.nn.utils.prune.global_unstructured does the same on the same tensors, read from the same ONNX file.
# The first time it installs PyTorch, about 4 GB with the CUDA wheels that its wheel needs to import.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --release --locked --bin penjing
cargo build --release --locked -p penjing-compress --example select
model=.cache/bench/resnet-50.onnx
mkdir -p "${model%/*}"
[[ -f $model ]] || target/release/penjing new resnet-50 -o "$model"

python=$(scripts/python bench)
PYTHONPATH=bench exec "$python" bench/prune/compare.py --penjing target/release/examples/select --model "$model" "$@"
