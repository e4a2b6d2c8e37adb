"""Time and peak memory of a command, in results/inspect.json.

The peak is that of resident pages, those of a mapped file included. It cannot be less than the 10 MB or so that this
process has when it starts the command.
"""

import argparse
import json
import resource
import subprocess
import time
from pathlib import Path
from statistics import median

import machine

HERE = Path(__file__).parent


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--model", type=Path, required=True)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--out", type=Path, default=HERE / "results")
    arguments.add_argument("command", nargs="+")
    args = arguments.parse_args()

    seconds = []
    for _ in range(args.runs):
        start = time.perf_counter()
        subprocess.run(args.command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    record = {
        "machine": machine.describe(),
        "model_bytes": args.model.stat().st_size,
        "seconds": median(seconds),
        "peak_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "inspect.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"{record['model_bytes'] / 1e6:.0f} MB: {record['peak_bytes'] / 1e6:.0f} MB at the peak, {record['seconds']:.2f} s")


main()
