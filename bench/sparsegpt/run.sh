#!/usr/bin/env bash
# How near do MiniLM-L3's outputs stay when half of its weights go without retraining: SparseGPT, Wanda, magnitude?
#
#   usage: bench/sparsegpt/run.sh [--quick] [--out FOLDER]
#
# Calibrates on 128 film reviews of 128 tokens and measures on 256 others, for three draws of the calibration. `--quick`
# is one draw of 16 reviews. EXAMPLE names a built example to use.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=bench/sparsegpt/results draws=(0 1 2) calibration=128 test=256
while (($#)); do
    case $1 in
        --quick) draws=(0) calibration=16 test=32 out=.cache/bench/sparsegpt ;;
        --out) out=${2:?--out takes a folder} && shift ;;
        *) echo "bench/sparsegpt/run.sh: no option is named \`$1\` (hint: --quick, --out FOLDER)" >&2 && exit 2 ;;
    esac
    shift
done

if [[ -z ${EXAMPLE-} ]]; then
    cargo build --release --locked -p penjing-compress --example sparsegpt
    EXAMPLE=target/release/examples/sparsegpt
fi
scripts/assets minilm movie-reviews bert-vocabulary
assets=${PENJING_ASSETS:-.cache/assets}
python=$(scripts/python)
work=.cache/bench/sparsegpt
mkdir -p "$work"
for draw in "${draws[@]}"; do
    PYTHONPATH=bench "$python" bench/sparsegpt/tokens.py --assets "$assets" --draw "$draw" --calibration "$calibration" --test "$test" \
        --out "$work/tokens-$draw.safetensors"
    "$EXAMPLE" "$assets/minilm/paraphrase-MiniLM-L3-v2.onnx" "$work/tokens-$draw.safetensors" >"$work/draw-$draw.json"
done
PYTHONPATH=bench exec "$python" bench/sparsegpt/record.py --out "$out" --reviews "$calibration" --test "$test" \
    "${draws[@]/#/$work/draw-}"
