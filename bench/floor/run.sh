#!/usr/bin/env bash
# How far does the floor loop prune a network on Fashion-MNIST, and does it end by itself?
#
#   usage: bench/floor/run.sh [lenet-5|resnet-50] [--out FOLDER]
#
# lenet-5 (the default) takes a quarter of an hour. resnet-50, on images resized to 3×32×32 and with few epochs, takes
# hours: a record of the loop on 25.6 M weights, not of what the network can reach. PENJING names a built binary to use.
set -euo pipefail
cd "$(dirname "$0")/../.."

network=lenet-5 out=bench/floor/results
while (($#)); do
    case $1 in
        lenet-5 | resnet-50) network=$1 ;;
        --out) out=${2:?--out takes a folder} && shift ;;
        *) echo "bench/floor/run.sh: no network or option is named \`$1\` (hint: lenet-5, resnet-50, --out FOLDER)" >&2 && exit 2 ;;
    esac
    shift
done
case $network in
    lenet-5) new=() read=() train=(--epochs 6 --lr 0.02) retrain=(--epochs 2 --lr 0.02) ;;
    resnet-50)
        new=(--input 3x32x32) read=(--preprocess bench/floor/resnet-50.toml)
        train=(--epochs 1 --batch 256 --lr 0.05) retrain=(--epochs 1 --batch 256 --lr 0.01)
        ;;
esac

if [[ -z ${PENJING-} ]]; then
    cargo build --release --locked --bin penjing
    PENJING=target/release/penjing
fi
scripts/assets fashion-mnist
data=${PENJING_ASSETS:-.cache/assets}/fashion-mnist
python=$(scripts/python)
work=.cache/bench/floor
mkdir -p "$work"

"$PENJING" train "$network" "${new[@]}" --data "$data" "${read[@]}" "${train[@]}" -o "$work/$network.onnx" --force
"$PENJING" prune "$work/$network.onnx" --data "$data" --max-drop 0.5 "${retrain[@]}" \
    --run "$work/$network.run" -o "$work/$network-pruned.onnx" --force
PYTHONPATH=bench exec "$python" bench/floor/record.py --network "$network" --outcome "$work/$network.run/outcome.json" --out "$out"
