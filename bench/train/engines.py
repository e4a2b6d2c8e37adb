"""What is compared, on which networks, and how a comparison is recorded."""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
TITLES = {"penjing": "Penjing", "pytorch": "PyTorch", "pytorch-channels-last": "PyTorch channels-last"}
PEERS = ("pytorch", "pytorch-channels-last")
# Each network with the engines that run it; PyTorch's other layout of images is for deep convolutional ones.
NETWORKS = {
    "lenet-5": ("penjing", "pytorch"),
    "resnet-20": ("penjing", "pytorch", "pytorch-channels-last"),
    "mobilenet-v2": ("penjing", "pytorch", "pytorch-channels-last"),
    "transformer-block": ("penjing", "pytorch"),
}


def commands(penjing):
    pytorch = [sys.executable, HERE / "peer_pytorch.py"]
    return {"penjing": [penjing, "--json"], "pytorch": pytorch, "pytorch-channels-last": [*pytorch, "--channels-last"]}


def add_arguments(arguments):
    arguments.add_argument("--penjing", required=True, help="the built example `throughput`")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--batch", type=int, default=64, help="images; of the transformer block a quarter as many")
    arguments.add_argument("--out", type=Path, default=HERE / "results")


def measured(command):
    """The rows that a process prints of one network, by mode."""
    rows = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {row["mode"]: row for row in rows}


def same_work(rows):
    """What was done, on which all engines must agree."""
    works = [{field: row[field] for field in ("model", "mode", "batch", "parameters")} for row in rows]
    for work in works:
        if work != works[0]:
            sys.exit(f"{works[0]} and {work}: not the same work")
    return works[0]


def write(folder, name, record, table):
    lines = "\n".join(table)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    (folder / f"{name}.md").write_text(lines + "\n")
    print(lines)
