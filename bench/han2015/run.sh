#!/usr/bin/env bash
# How many weights do the LeNets of Han et al. 2015 need on MNIST?
#
#   usage: bench/han2015/run.sh [--network NAME]… [--seed N]… [--quick] [--out FOLDER]
#
# From nothing: trains each network, prunes it to 12 times fewer parameters, measures both on the 10,000 test images,
# for seeds 0, 1 and 2: about an hour on two cores. What an interrupted run finished is kept, so that the same command
# goes on where it stopped; networks and seeds can also be run one at a time. The table covers all that is finished.
#
# `--quick` shows in less than a minute that the script works, not what the method reaches: lenet-300-100, seed 0, 211
# steps of training and 211 of retraining. PENJING names a built binary to use.
set -euo pipefail
cd "$(dirname "$0")/../.."

networks=() seeds=() out=
models=.cache/bench/han2015
train=(--epochs 20 --batch 64 --lr 0.05) retrain=(--epochs 6 --batch 64 --lr 0.02) steps=4
quick=()
while (($#)); do
    case $1 in
        --network) networks+=("${2:?--network takes a name}") && shift ;;
        --seed) seeds+=("${2:?--seed takes a number}") && shift ;;
        --out) out=${2:?--out takes a folder} && shift ;;
        --quick)
            quick=(--quick) networks=(lenet-300-100) seeds=(0) models=.cache/bench/han2015-quick
            train=(--epochs 1 --batch 256 --lr 0.1) retrain=(--epochs 1 --batch 256 --lr 0.05) steps=1
            ;;
        *) echo "bench/han2015/run.sh: no option is named \`$1\` (hint: --network, --seed, --quick, --out)" >&2 && exit 2 ;;
    esac
    shift
done
((${#networks[@]})) || networks=(lenet-300-100 lenet-5)
((${#seeds[@]})) || seeds=(0 1 2)
[[ -n $out ]] || out=$([[ ${quick[*]} ]] && echo "$models" || echo bench/han2015/results)

# 0.92 of the weights; biases stay, so 12.3 times fewer parameters: 21,706 of 266,610 and 35,020 of 431,080.
prune=(--sparsity 0.92 --steps "$steps")
both=(--optimizer sgd --momentum 0.9 --weight-decay 0.0005 --schedule cosine)

if [[ -z ${PENJING-} ]]; then
    cargo build --release --locked --bin penjing
    PENJING=target/release/penjing
fi
scripts/assets mnist
mnist=${PENJING_ASSETS:-.cache/assets}/mnist
python=$(scripts/python)
[[ -z ${quick[*]} ]] || rm -rf "$models"
mkdir -p "$models"

# What is finished counts only if it was made as it would be now.
settings="${train[*]} ${retrain[*]} ${prune[*]} ${both[*]}"
if [[ -f $models/settings ]]; then
    [[ $(<"$models/settings") == "$settings" ]] || {
        echo "bench/han2015/run.sh: the models in $models were made with other settings (hint: delete the folder)" >&2 && exit 1
    }
fi
echo "$settings" >"$models/settings"

for network in "${networks[@]}"; do
    for seed in "${seeds[@]}"; do
        dense=$models/$network-$seed-dense pruned=$models/$network-$seed-pruned
        echo "── $network, seed $seed" >&2
        if [[ ! -f $dense.onnx ]]; then
            resume=$([[ -f $dense.checkpoint ]] && echo --resume || true)
            # shellcheck disable=SC2086 # one word or none
            "$PENJING" train "$network" --data "$mnist" -o "$dense.onnx" --seed "$seed" "${train[@]}" "${both[@]}" $resume >&2
        fi
        if [[ -f $pruned.onnx ]]; then
            continue
        elif [[ -f $pruned.run/recipe.toml ]]; then
            "$PENJING" prune --resume "$pruned.run" >&2
        else
            "$PENJING" prune "$dense.onnx" --data "$mnist" -o "$pruned.onnx" --seed "$seed" \
                "${prune[@]}" "${retrain[@]}" "${both[@]}" >&2
        fi
    done
done

PYTHONPATH=bench exec "$python" bench/han2015/table.py --models "$models" --mnist "$mnist" --out "$out" "${quick[@]}"
