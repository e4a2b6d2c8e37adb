"""Runs Penjing and PyTorch in turns and writes results/train.{json,md}: samples per second and their ratios."""

import argparse
import sys
from statistics import median

import engines
import intervals
import machine


def measure(commands, options, rounds):
    """What each process printed, by network and engine. A round goes through the networks, on each of which the engines
    take turns; the next round begins with another engine."""
    runs = {network: {name: [] for name in names} for network, names in engines.NETWORKS.items()}
    for turn in range(rounds):
        for network, names in engines.NETWORKS.items():
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                print(f"round {turn + 1} of {rounds}: {network}, {name}", file=sys.stderr)
                runs[network][name].append(engines.measured([*commands[name], f"--models={network}", *options]))
    return runs


def against(ours, theirs):
    ratio, low, high = intervals.of_ratio(ours, theirs)
    return {"ratio": ratio, "low": low, "high": high}


def compare(runs):
    """One row for each network and mode."""
    for by_engine in runs.values():
        for mode in by_engine["penjing"][0]:
            speeds = {name: [run[mode]["samples_per_s"] for run in rounds] for name, rounds in by_engine.items()}
            ratios = {peer: against(speeds["penjing"], speeds[peer]) for peer in speeds if peer != "penjing"}
            yield {
                **engines.same_work([rounds[0][mode] for rounds in by_engine.values()]),
                "samples_per_s": {name: median(values) for name, values in speeds.items()},
                "penjing_to": ratios,
            }


def shown(ratio):
    """A ratio with its interval, which a single round does not give; nothing where the peer did not run."""
    if ratio is None:
        return ""
    return f"{ratio['ratio']:.2f}" + ("" if ratio["low"] is None else f" ({ratio['low']:.2f} to {ratio['high']:.2f})")


def table(rows):
    titles = [f"{title}, samples/s" for title in engines.TITLES.values()]
    titles += [f"Penjing / {engines.TITLES[peer]}, 95 % interval" for peer in engines.PEERS]
    yield f"| model | mode | batch | {' | '.join(titles)} |"
    yield f"|---|---|---:|{'---:|' * len(titles)}"
    for row in rows:
        speeds = row["samples_per_s"]
        cells = [f"{speeds[name]:,.0f}" if name in speeds else "" for name in engines.TITLES]
        cells += [shown(row["penjing_to"].get(peer)) for peer in engines.PEERS]
        yield f"| {row['model']} | {row['mode']} | {row['batch']} | {' | '.join(cells)} |"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    engines.add_arguments(arguments)
    arguments.add_argument("--rounds", type=int, default=6, help="6 let two engines and three begin equally often")
    arguments.add_argument("--seconds", type=float, default=3.0, help="for each model and mode, after the warm-up")
    args = arguments.parse_args()

    options = [f"--batch={args.batch}", f"--threads={args.threads}", f"--seconds={args.seconds}"]
    rows = list(compare(measure(engines.commands(args.penjing), options, args.rounds)))
    record = {"machine": machine.describe("torch"), "threads": args.threads, "rounds": args.rounds, "rows": rows}
    engines.write(args.out, "train", record, table(rows))


main()
