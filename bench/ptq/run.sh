#!/usr/bin/env bash
# How near to the float EfficientNet-Lite0 are int8 models by Penjing and by ONNX Runtime's quantize_static, how fast are they, and
# what time and memory did making them take?
#
#   usage: bench/ptq/run.sh [--quick] [--out FOLDER]
#
# Calibrates on 128 random crops of twenty ImageNet photographs and measures on 2,000 others. About twenty minutes. `--quick` shows
# that the script works. PENJING names a built binary to use, PYTHON an interpreter that has bench/requirements.txt.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=bench/ptq/results quick=() work=.cache/bench/ptq
while (($#)); do
    case $1 in
        --quick) quick=(--quick) work=.cache/bench/ptq-quick out=.cache/bench/ptq-quick ;;
        --out) out=${2:?--out takes a folder} && shift ;;
        *) echo "bench/ptq/run.sh: no option is named \`$1\` (hint: --quick, --out FOLDER)" >&2 && exit 2 ;;
    esac
    shift
done

if [[ -z ${PENJING-} ]]; then
    cargo build --release --locked --bin penjing
    PENJING=target/release/penjing
fi
scripts/assets efficientnet-lite0 imagenet-20
assets=${PENJING_ASSETS:-.cache/assets}
python=${PYTHON:-$(scripts/python bench)}
# The command finds ONNX Runtime through the `python3` on PATH.
PATH=$(dirname "$python"):$PATH
mkdir -p "$work"
"$PENJING" new efficientnet-lite0 --weights "$assets"/efficientnet-lite0/*.pth -o "$work/efficientnet-lite0.onnx" --force >/dev/null
PYTHONPATH=bench exec "$python" bench/ptq/measure.py --penjing "$PENJING" --model "$work/efficientnet-lite0.onnx" \
    --photographs "$assets/imagenet-20" --work "$work" --out "$out" "${quick[@]}"
