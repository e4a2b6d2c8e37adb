"""What a run of the floor loop found, in results/NETWORK.json and results/NETWORK.md: its outcome without the paths in it."""

import argparse
import json
from pathlib import Path

import machine

HERE = Path(__file__).parent
KEPT = ["verdict", "validation", "test", "rounds", "layers", "size"]


def markdown(network, outcome):
    lines = [
        "| round | sparsity | weights left | validation | |",
        "|---:|---:|---:|---:|---|",
    ]
    for round_ in outcome["rounds"]:
        lines.append(
            f"| {round_['round']} | {100 * round_['sparsity']:.2f} % | {round_['left']:,} "
            f"| {round_['accuracy']:.2f} % | {round_['mark']} |"
        )
    test, size = outcome["test"], outcome["size"]
    interval = test["change_interval"]
    lines += [
        "",
        f"{network}, `--max-drop 0.5`, from {outcome['validation']['original']['percent']:.2f} % on validation. "
        f"On the {test['samples']:,} test images: {test['original']['percent']:.2f} → {test['result']['percent']:.2f} %, "
        f"change {test['change']:+.2f} points (95 % {interval['low']:+.2f} to {interval['high']:+.2f}). "
        f"File: {size['original']['bytes']:,} → {size['result']['bytes']:,} bytes.",
    ]
    return "\n".join(lines) + "\n"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--network", required=True)
    arguments.add_argument("--outcome", type=Path, required=True)
    arguments.add_argument("--out", type=Path, default=HERE / "results")
    args = arguments.parse_args()

    outcome = json.loads(args.outcome.read_text())
    record = {"machine": machine.describe(), "retrain": outcome["recipe"]["retrain"], **{key: outcome[key] for key in KEPT}}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{args.network}.json").write_text(json.dumps(record, indent=2) + "\n")
    table = markdown(args.network, outcome)
    (args.out / f"{args.network}.md").write_text(table)
    print(table, end="")


main()
