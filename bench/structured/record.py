"""Makes one table of the records that run.sh left: outcome.json of each run."""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev

import intervals
import machine


def read(work):
    """The record of each run, by the name of its folder."""
    return {path.parent.stem: json.loads(path.read_text()) for path in sorted(work.glob("*.run/outcome.json"))}


def step(record):
    return record["recipe"]["step"][0]


def macs_left(record):
    """Fraction of the multiply-accumulates that is left; None where free dimensions leave them unknown."""
    before, after = (record["cost"][which]["macs"] for which in ("original", "result"))
    return after / before if before else None


def percent(fraction):
    return "?" if fraction is None else f"{100 * fraction:.1f} %"


def accuracy(records):
    by_criterion = defaultdict(list)
    for record in records.values():
        by_criterion[step(record)["criterion"]].append(record)
    rows = []
    for criterion, runs in by_criterion.items():
        before = [run["test"]["original"]["percent"] for run in runs]
        after = [run["test"]["result"]["percent"] for run in runs]
        mean, low, high = intervals.of_mean([b - a for a, b in zip(before, after)])
        rows.append({
            "criterion": criterion,
            "seeds": len(runs),
            "macs_left": fmean(map(macs_left, runs)),
            "before": fmean(before),
            "after": fmean(after),
            "after_deviation": stdev(after) if len(after) > 1 else None,
            "change": mean,
            "change_low": low,
            "change_high": high,
        })
    rows.sort(key=lambda row: -row["after"])
    lines = ["| criterion | seeds | MACs left | test before | test after | change (95 %) |", "|---|---:|---:|---:|---:|---:|"]
    for row in rows:
        deviation = "" if row["after_deviation"] is None else f" ± {row['after_deviation']:.2f}"
        spread = "" if row["change_low"] is None else f" ({row['change_low']:+.2f} to {row['change_high']:+.2f})"
        lines.append(
            f"| {row['criterion']} | {row['seeds']} | {100 * row['macs_left']:.1f} % | {row['before']:.2f} % | "
            f"{row['after']:.2f}{deviation} % | {row['change']:+.2f}{spread} |"
        )
    return rows, lines


def speed(records):
    rows = []
    for name, record in records.items():
        for measured in record["speed"]:
            left = macs_left(record)
            rows.append({
                "network": name.rsplit("-by-", 1)[0],
                "multiple_of": step(record)["limits"]["round-to"],
                "runtime": measured["runtime"],
                "macs_left": left,
                "file_left": record["size"]["result"]["bytes"] / record["size"]["original"]["bytes"],
                "speed_up": measured["speed_up"],
                "interval": measured["interval"],
                "rounds": measured["rounds"],
                "milliseconds": [measured["original_ms"], measured["result_ms"]],
                "speed_up_per_mac": None if left is None else measured["speed_up"] * left,
            })
    lines = [
        "| network | channels in | runtime | MACs left | file left | time | speed-up (95 %) | speed-up ÷ MAC ratio |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        multiple = "any number" if row["multiple_of"] == 1 else f"multiples of {row['multiple_of']}"
        before, after = row["milliseconds"]
        lines.append(
            f"| {row['network']} | {multiple} | {row['runtime']} | {percent(row['macs_left'])} | {100 * row['file_left']:.1f} % | "
            f"{before:.2f} → {after:.2f} ms | {row['speed_up']:.2f} ({row['interval']['low']:.2f} to {row['interval']['high']:.2f}) | "
            f"{'' if row['speed_up_per_mac'] is None else format(row['speed_up_per_mac'], '.2f')} |"
        )
    return rows, lines


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("question", choices=["accuracy", "speed"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    wanted = {name: record for name, record in read(options.work).items() if ("-by-" in name) == (options.question == "speed")}
    rows, lines = (accuracy if options.question == "accuracy" else speed)(wanted)
    options.out.mkdir(parents=True, exist_ok=True)
    record = {"machine": machine.describe("onnxruntime"), "rows": rows}
    (options.out / f"{options.question}.json").write_text(json.dumps(record, indent=2) + "\n")
    (options.out / f"{options.question}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
