#!/usr/bin/env bash
# Do networks that lose half of their multiply-accumulates keep their accuracy, and get faster?
#
#   usage: bench/structured/run.sh [accuracy|speed] [--seed N]… [--quick] [--out FOLDER]
#
# accuracy: resnet-20 on Fashion-MNIST (1×28×28), trained, then cut to half of its multiply-accumulates by several criteria and,
# as the control, at random, each trained again; seeds 0, 1 and 2. About four hours on two cores. What an interrupted run
# finished is kept, so that the same command goes on where it stopped.
#
# speed: resnet-50 and mobilenet-v2 at 224×224 and half of their multiply-accumulates, and EfficientNet-Lite0 and MiniLM-L3 with their
# real weights and a quarter of their channels, timed in ONNX Runtime and in the built-in executor, original and result in turn; with
# channels in multiples of 8 and in any number. About five minutes.
#
# `--quick` shows that the script works: lenet-300-100, seed 0, one epoch, two criteria. PENJING names a built binary to use.
set -euo pipefail
cd "$(dirname "$0")/../.."

question=accuracy seeds=() out= quick=
while (($#)); do
    case $1 in
        accuracy | speed) question=$1 ;;
        --seed) seeds+=("${2:?--seed takes a number}") && shift ;;
        --out) out=${2:?--out takes a folder} && shift ;;
        --quick) quick=yes ;;
        *) echo "bench/structured/run.sh: no option is named \`$1\` (hint: accuracy, speed, --seed, --quick, --out)" >&2 && exit 2 ;;
    esac
    shift
done
network=resnet-20 criteria=(l1 bn-scale taylor random) epochs=3 again=3 work=.cache/bench/structured
if [[ -n $quick ]]; then
    network=lenet-300-100 criteria=(l1 random) epochs=1 again=1 work=.cache/bench/structured-quick seeds=(0)
    rm -rf "$work"
fi
((${#seeds[@]})) || seeds=(0 1 2)
[[ -n $out ]] || out=$([[ -n $quick ]] && echo "$work" || echo bench/structured/results)

if [[ -z ${PENJING-} ]]; then
    cargo build --release --locked --bin penjing
    PENJING=target/release/penjing
fi
python=$(scripts/python)
mkdir -p "$work"

# A goal that is missed ends with 3, which is a result too.
prune() { "$PENJING" prune "$@" >/dev/null || (($? == 3)); }

if [[ $question == accuracy ]]; then
    scripts/assets fashion-mnist
    data=${PENJING_ASSETS:-.cache/assets}/fashion-mnist
    for seed in "${seeds[@]}"; do
        whole=$work/$network-$seed.onnx
        if [[ ! -f $whole ]]; then
            "$PENJING" train "$network" --input 1x28x28 --data "$data" --epochs "$epochs" --batch 64 --lr 0.05 --seed "$seed" -o "$work/new.onnx" --force
            mv "$work/new.onnx" "$whole"
        fi
        for criterion in "${criteria[@]}"; do
            cut=$work/$network-$seed-$criterion
            [[ -f $cut.onnx ]] || prune "$whole" --structured --macs 0.5 --round-to 1 --criterion "$criterion" --data "$data" \
                --epochs "$again" --batch 64 --lr 0.05 --seed "$seed" -o "$cut.onnx" --run "$cut.run" --force
        done
    done
else
    scripts/assets efficientnet-lite0 minilm
    assets=${PENJING_ASSETS:-.cache/assets}
    "$PENJING" new efficientnet-lite0 --weights "$assets"/efficientnet-lite0/*.pth -o "$work/efficientnet-lite0.onnx" --force
    cp "$assets/minilm/paraphrase-MiniLM-L3-v2.onnx" "$work/minilm-l3.onnx"
    for network in resnet-50 mobilenet-v2 efficientnet-lite0 minilm-l3; do
        case $network in
            resnet-50 | mobilenet-v2) model=$network budget=(--macs 0.5) ;;
            *) model=$work/$network.onnx budget=(--channel-ratio 0.25 --scope layer) ;;
        esac
        for multiple in 8 1; do
            cut=$work/$network-by-$multiple
            prune "$model" --structured "${budget[@]}" --round-to "$multiple" -o "$cut.onnx" --run "$cut.run" --force
        done
    done
fi
PYTHONPATH=bench exec "$python" bench/structured/record.py "$question" --work "$work" --out "$out"
