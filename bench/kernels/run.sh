#!/usr/bin/env bash
# How near is each CPU kernel to what the processor can compute, and how do crates multiply matrices beside ours?
#
#   usage: bench/kernels/run.sh [--quick] [--threads=2] [--rounds=15] [--out FOLDER]
#
# One minute, and building. `--quick` takes one round, to show that it works, and writes nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=bench/kernels/results quick= options=()
while (($#)); do
    case $1 in
        --quick) quick=1 options+=(--rounds=1) ;;
        --threads=* | --rounds=*) options+=("$1") ;;
        --out) out=${2:?--out takes a folder} && shift ;;
        *) echo "bench/kernels/run.sh: no option is named \`$1\` (hint: --quick, --threads=N, --rounds=N, --out FOLDER)" >&2 && exit 2 ;;
    esac
    shift
done

cargo build --release --locked --manifest-path bench/criterion/Cargo.toml --bin kernels
kernels=bench/criterion/target/release/kernels
if [[ $quick ]]; then
    exec "$kernels" "${options[@]}"
fi
python=$(scripts/python)
mkdir -p "$out"
"$kernels" --json "${options[@]}" | PYTHONPATH=bench "$python" bench/kernels/record.py --out "$out"
