#!/usr/bin/env bash
# Does the floor loop work on a large network, and how long does a round take?
#
#   usage: bench/floor-resnet-50/run.sh [--out FOLDER]
#
# resnet-50 on Fashion-MNIST, resized to 3×32×32, with few epochs: a record of the loop on 25.6 M weights, not of what
# the network can reach. The outcome of the run is the record.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=bench/floor-resnet-50/results
case ${1-} in
    '') ;;
    --out) out=${2:?--out takes a folder} ;;
    *) echo "bench/floor-resnet-50/run.sh: no option is named \`$1\` (hint: --out FOLDER)" >&2 && exit 2 ;;
esac

cargo build --release --locked --bin penjing
scripts/assets fashion-mnist
data=${PENJING_ASSETS:-.cache/assets}/fashion-mnist
work=.cache/bench/floor-resnet-50
mkdir -p "$work" "$out"

target/release/penjing new resnet-50 --input 3x32x32 --classes 10 --seed 0 -o "$work/new.onnx" --force
target/release/penjing train "$work/new.onnx" --data "$data" --preprocess bench/floor-resnet-50/preprocess.toml \
    --epochs 1 --batch 64 --optimizer sgd --lr 0.05 --momentum 0.9 --schedule cosine --seed 0 -o "$work/dense.onnx" --force
target/release/penjing prune "$work/dense.onnx" --data "$data" --max-drop 0.5 \
    --epochs 1 --batch 64 --optimizer sgd --lr 0.01 --momentum 0.9 --seed 0 --run "$work/run" -o "$work/pruned.onnx" --force
cp "$work/run/outcome.json" "$out/outcome.json"
