"""Runs Penjing and PyTorch in turns and writes results/train.{json,md}."""

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
    """What one process prints, by (model, mode)."""
    rows = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {(row["model"], row["mode"]): row for row in rows}


def compare(engines, options, rounds):
    """One row for each model and mode, over `rounds` in which each engine runs once, in alternating order."""
    runs = {name: [] for name in engines}
    for turn in range(rounds):
        for name in sorted(engines, reverse=turn % 2 == 1):
            print(f"round {turn + 1} of {rounds}: {name}", file=sys.stderr)
            runs[name].append(measured(engines[name] + options))

    ours, peer = runs["penjing"], runs["pytorch"]
    for key in ours[0]:
        first, other = ours[0][key], peer[0][key]
        for field in ("batch", "parameters"):
            if first[field] != other[field]:
                sys.exit(f"{key}: {field} differ, {first[field]} and {other[field]}: not the same work")
        speeds = {name: [run[key]["images_per_s"] for run in runs[name]] for name in runs}
        ratio, low, high = intervals.of_ratio(speeds["penjing"], speeds["pytorch"])
        yield {
            **{field: first[field] for field in ("model", "mode", "batch", "parameters")},
            "images_per_s": {name: median(values) for name, values in speeds.items()},
            "penjing_to_pytorch": {"ratio": ratio, "low": low, "high": high},
        }


def table(rows):
    yield "| model | mode | Penjing, images/s | PyTorch, images/s | Penjing / PyTorch, 95 % interval |"
    yield "|---|---|---:|---:|---:|"
    for row in rows:
        speed, ratio = row["images_per_s"], row["penjing_to_pytorch"]
        spread = "" if ratio["low"] is None else f" ({ratio['low']:.2f} to {ratio['high']:.2f})"
        speeds = f"{speed['penjing']:,.0f} | {speed['pytorch']:,.0f}"
        yield f"| {row['model']} | {row['mode']} | {speeds} | {ratio['ratio']:.2f}{spread} |"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--penjing", required=True, help="the built example `throughput`")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=3.0, help="for each model and mode, after the warm-up")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--out", type=Path, default=HERE / "results")
    args = arguments.parse_args()

    options = ["--json", f"--batch={args.batch}", f"--threads={args.threads}", f"--seconds={args.seconds}"]
    engines = {"penjing": [args.penjing], "pytorch": [sys.executable, HERE / "peer_pytorch.py"]}
    rows = list(compare(engines, options, args.rounds))
    record = {"machine": machine.describe("torch"), "threads": args.threads, "rounds": args.rounds, "rows": rows}
    lines = "\n".join(table(rows))

    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "train.json").write_text(json.dumps(record, indent=2) + "\n")
    (args.out / "train.md").write_text(lines + "\n")
    print(lines)


main()
