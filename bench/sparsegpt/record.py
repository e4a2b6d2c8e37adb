"""The draws that run.sh measured, in results/minilm.json and results/minilm.md.

Exit codes: 0 the table is whole and sound · 1 it is not, or SparseGPT does not beat magnitude at 50 %.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import fmean, stdev

import machine

HERE = Path(__file__).parent


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("draws", nargs="+")
    arguments.add_argument("--reviews", type=int, required=True)
    arguments.add_argument("--test", type=int, required=True)
    arguments.add_argument("--out", type=Path, default=HERE / "results")
    args = arguments.parse_args()

    draws = [json.loads(Path(f"{draw}.json").read_text()) for draw in args.draws]
    rows = []
    for measured in zip(*draws, strict=True):
        errors = [m["error"] for m in measured]
        rows.append({
            "pattern": measured[0]["pattern"],
            "criterion": measured[0]["criterion"],
            "sparsity": measured[0]["sparsity"],
            "error": fmean(errors),
            "deviation": stdev(errors) if len(errors) > 1 else None,
            "cosine": fmean(m["cosine"] for m in measured),
            "seconds": fmean(m["seconds"] for m in measured),
            "draws": errors,
        })  # fmt: skip
    error = {(row["pattern"], row["criterion"]): row["error"] for row in rows}
    if not all(0 < e for e in error.values()):
        sys.exit("bench/sparsegpt/record.py: an output that did not change was measured")
    if error["unstructured", "sparsegpt"] >= error["unstructured", "magnitude"]:
        sys.exit("bench/sparsegpt/record.py: SparseGPT does not beat magnitude")

    lines = [
        "| pattern | criterion | sparsity | output error, % | cosine | seconds |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        spread = "" if row["deviation"] is None else f" ± {100 * row['deviation']:.2f}"
        lines.append(
            f"| {row['pattern']} | {row['criterion']} | {100 * row['sparsity']:.1f} % | {100 * row['error']:.2f}{spread} "
            f"| {row['cosine']:.4f} | {row['seconds']:.1f} |"
        )
    lines += [
        "",
        f"MiniLM-L3, {args.reviews} film reviews of 128 tokens to calibrate, {args.test} others to measure, {len(draws)} draws of the "
        "calibration. Output error: Σ(a − b)² / Σa² of the token embeddings after the last layer; ± the deviation over the draws. "
        "Seconds: statistics and pruning.",
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    record = {"machine": machine.describe("numpy"), "reviews": args.reviews, "test": args.test, "rows": rows}
    (args.out / "minilm.json").write_text(json.dumps(record, indent=2) + "\n")
    (args.out / "minilm.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


main()
