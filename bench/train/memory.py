"""Trains each network in a process of its own and writes results/memory.{json,md}: the most memory that it ever had."""

import argparse
import sys

import engines
import machine


def measure(commands, options):
    """One row for each network."""
    for network, names in engines.NETWORKS.items():
        rows = {}
        for name in names:
            print(f"{network}, {name}", file=sys.stderr)
            rows[name] = engines.measured([*commands[name], f"--models={network}", *options])["train"]
        before = {name: row["rss_before_bytes"] for name, row in rows.items()}
        peak = {name: row["rss_peak_bytes"] for name, row in rows.items()}
        added = {name: peak[name] - before[name] for name in names}
        yield {
            **engines.same_work(list(rows.values())),
            "rss_before_bytes": before,
            "rss_peak_bytes": peak,
            "penjing_to": {
                peer: {"peak": peak["penjing"] / peak[peer], "added": added["penjing"] / added[peer]}
                for peer in names
                if peer != "penjing"
            },
        }


def table(rows):
    titles = [f"{title}, MB (before the model)" for title in engines.TITLES.values()]
    yield f"| model | batch | {' | '.join(titles)} | Penjing / PyTorch | of what was added |"
    yield f"|---|---:|{'---:|' * len(titles)}---:|---:|"
    for row in rows:
        peak, before = row["rss_peak_bytes"], row["rss_before_bytes"]
        shown = {name: f"{peak[name] / 1e6:,.0f} ({before[name] / 1e6:,.0f})" for name in peak}
        cells = [shown.get(name, "") for name in engines.TITLES]
        ratio = row["penjing_to"]["pytorch"]
        yield f"| {row['model']} | {row['batch']} | {' | '.join(cells)} | {ratio['peak']:.2f} | {ratio['added']:.2f} |"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    engines.add_arguments(arguments)
    arguments.add_argument("--steps", type=int, default=5, help="training steps of each process")
    args = arguments.parse_args()

    options = [f"--batch={args.batch}", f"--threads={args.threads}", f"--memory={args.steps}"]
    rows = list(measure(engines.commands(args.penjing), options))
    record = {"machine": machine.describe("torch"), "threads": args.threads, "steps": args.steps, "rows": rows}
    engines.write(args.out, "memory", record, table(rows))


main()
