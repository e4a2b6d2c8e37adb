#!/usr/bin/env bash
# How many weights do the LeNets of Han et al. 2015 need on MNIST?
#
#   usage: bench/han2015/run.sh [--quick] [--out FOLDER]
#
# From nothing: trains each network, prunes it to 12 times fewer parameters, measures both on the 10,000 test images,
# for three seeds. Takes about an hour on two cores; `--quick` (one seed, one epoch, lenet-300-100) less than a minute,
# to show that the script works, not what the method reaches. PENJING names a built binary to use.
set -euo pipefail
cd "$(dirname "$0")/../.."

networks=(lenet-300-100 lenet-5) seeds=(0 1 2) epochs=20 steps=4 retrain_epochs=6 out=bench/han2015/results
while (($#)); do
    case $1 in
        --quick) networks=(lenet-300-100) seeds=(0) epochs=1 steps=1 retrain_epochs=1 out=.cache/bench/han2015/quick ;;
        --out) out=${2:?--out takes a folder} && shift ;;
        *) echo "bench/han2015/run.sh: no option is named \`$1\` (hint: --quick, --out FOLDER)" >&2 && exit 2 ;;
    esac
    shift
done

# 0.92 of the weights; biases stay, so 12.3 times fewer parameters: 21,706 of 266,610 and 35,020 of 431,080.
sparsity=0.92
settings=(--batch 64 --optimizer sgd --momentum 0.9 --weight-decay 0.0001 --schedule cosine)

if [[ -z ${PENJING-} ]]; then
    cargo build --release --locked --bin penjing
    PENJING=target/release/penjing
fi
scripts/assets mnist
mnist=${PENJING_ASSETS:-.cache/assets}/mnist
python=$(scripts/python)
models=.cache/bench/han2015
mkdir -p "$models"

for network in "${networks[@]}"; do
    for seed in "${seeds[@]}"; do
        dense=$models/$network-$seed-dense.onnx pruned=$models/$network-$seed-pruned.onnx
        echo "── $network, seed $seed" >&2
        "$PENJING" train "$network" --data "$mnist" -o "$dense" --force --seed "$seed" \
            --epochs "$epochs" --lr 0.05 "${settings[@]}" >&2
        "$PENJING" prune "$dense" --data "$mnist" -o "$pruned" --force --seed "$seed" \
            --sparsity "$sparsity" --steps "$steps" --epochs "$retrain_epochs" --lr 0.02 "${settings[@]}" >&2
    done
done

PYTHONPATH=bench exec "$python" bench/han2015/table.py --models "$models" --mnist "$mnist" --out "$out" \
    --networks "${networks[@]}" --seeds "${seeds[@]}"
