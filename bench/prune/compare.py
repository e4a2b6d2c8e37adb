"""Runs Penjing and PyTorch in turns and writes results/prune.{json,md}."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

import intervals
import machine

HERE = Path(__file__).parent


def measured(command):
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--penjing", required=True, help="the built example `select`")
    arguments.add_argument("--model", required=True)
    arguments.add_argument("--sparsity", type=float, default=0.9)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--out", type=Path, default=HERE / "results")
    args = arguments.parse_args()

    options = [args.model, "--json", f"--sparsity={args.sparsity}", f"--threads={args.threads}"]
    engines = {"penjing": [args.penjing], "pytorch": [sys.executable, HERE / "peer_pytorch.py"]}
    runs = {name: [] for name in engines}
    for turn in range(args.rounds):
        for name in sorted(engines, reverse=turn % 2 == 1):
            print(f"round {turn + 1} of {args.rounds}: {name}", file=sys.stderr)
            runs[name].append(measured(engines[name] + options))

    ours, peer = runs["penjing"], runs["pytorch"]
    if ours[0]["weights"] != peer[0]["weights"]:
        sys.exit(f"{ours[0]['weights']} and {peer[0]['weights']} weights: not the same work")
    ratio, low, high = intervals.of_ratio([run["seconds"] for run in peer], [run["seconds"] for run in ours])
    rows = [
        {
            "engine": name,
            "weights": run[0]["weights"],
            "pruned": run[0]["pruned"],
            "seconds": median(r["seconds"] for r in run),
            "added_bytes": median(r["rss_peak_bytes"] - r["rss_before_bytes"] for r in run),
            "peak_bytes": median(r["rss_peak_bytes"] for r in run),
        }
        for name, run in runs.items()
    ]
    record = {
        "machine": machine.describe("torch"),
        "sparsity": args.sparsity,
        "threads": args.threads,
        "rounds": args.rounds,
        "rows": rows,
        "speed_up": {"ratio": ratio, "low": low, "high": high},
    }
    lines = ["| engine | weights | pruned | seconds | memory added, MB | peak, MB |", "|---|---:|---:|---:|---:|---:|"]
    for row in rows:
        memory = f"{row['added_bytes'] / 1e6:,.0f} | {row['peak_bytes'] / 1e6:,.0f}"
        lines.append(f"| {row['engine']} | {row['weights']:,} | {row['pruned']:,} | {row['seconds']:.3f} | {memory} |")
    spread = "" if low is None else f" (95 % interval {low:.1f} to {high:.1f})"
    lines.append(f"\nPenjing is {ratio:.1f} times as fast{spread}.")

    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "prune.json").write_text(json.dumps(record, indent=2) + "\n")
    (args.out / "prune.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


main()
