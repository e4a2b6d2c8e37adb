"""Reads what `kernels --json` prints and writes results/kernels.{json,md}."""

import argparse
import json
import sys
from pathlib import Path

import machine


def table(measured):
    yield f"Peak: {measured['peak_gflop_per_s']:.0f} GFLOP/s on {measured['threads']} threads, products that are added to registers."
    yield ""
    yield "| kernel | shape | ms | GFLOP/s | of the peak | GB/s |"
    yield "|---|---|---:|---:|---:|---:|"
    for row in measured["rows"]:
        computes = row["gflop_per_s"] > 0
        speed = f"{row['gflop_per_s']:.0f} | {row['share_of_peak']:.0%}" if computes else "– | –"
        yield f"| {row['kernel']} | {row['shape']} | {row['ms']:.2f} | {speed} | {row['gb_per_s']:.1f} |"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    args = arguments.parse_args()
    measured = json.load(sys.stdin)
    lines = "\n".join(table(measured))
    (args.out / "kernels.json").write_text(json.dumps({"machine": machine.describe(), **measured}, indent=2) + "\n")
    (args.out / "kernels.md").write_text(lines + "\n")
    print(lines)


main()
