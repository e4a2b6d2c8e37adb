"""Inspects a model of more than 2 GB, prunes nothing of it and then most of it; time and peak memory, in results/.

Pruned to sparsity 0 and written densely, its weights must come back byte for byte. The peak is that of resident pages,
those of mapped files included.
"""

import argparse
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import machine
import onnx

HERE = Path(__file__).parent


def measured(command, accepted):
    """Runs a command; seconds, bytes at the peak, exit code."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    code = child.returncode = os.waitstatus_to_exitcode(status)
    if code not in accepted:
        raise SystemExit(f"{command} ended with {code}")
    return {"seconds": round(time.perf_counter() - start, 1), "peak_bytes": usage.ru_maxrss * 1024, "exit_code": code}


def files(path):
    """A model's file and those beside it that begin with its name."""
    return sorted(p for p in path.parent.iterdir() if p.is_file() and p.name.startswith(path.name))


def weights(path):
    """The bytes of each initializer, one at a time."""
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            yield tensor.name, tensor.raw_data
            continue
        place = {entry.key: entry.value for entry in tensor.external_data}
        with (path.parent / place["location"]).open("rb") as file:
            file.seek(int(place["offset"]))
            yield tensor.name, file.read(int(place["length"]))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--penjing", type=Path, required=True)
    arguments.add_argument("--model", type=Path, required=True)
    arguments.add_argument("--out", type=Path, default=HERE / "results")
    args = arguments.parse_args()

    size = lambda path: sum(p.stat().st_size for p in files(path))
    rows = {"inspect": measured([args.penjing, "inspect", args.model], {0})}
    for name, options, accepted in (("as it is", ["--sparsity", "0", "--dense"], {3}), ("pruned", ["--sparsity", "0.95"], {0})):
        work = args.model.with_name("work")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        result = work / "out.onnx"
        row = measured([args.penjing, "prune", args.model, *options, "-o", result], accepted)
        row["written_bytes"] = size(result)
        if name == "as it is":
            row["same_weights"] = all(a == b for a, b in zip(weights(args.model), weights(result), strict=True))
            if not row["same_weights"]:
                raise SystemExit("the weights did not come back as they were")
        rows[name] = row
        shutil.rmtree(work)

    record = {"machine": machine.describe("onnx", "onnxruntime"), "model_bytes": size(args.model), "runs": rows}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "large-model.json").write_text(json.dumps(record, indent=2) + "\n")
    lines = [f"A model of {record['model_bytes'] / 1e9:.2f} GB:", "", "| run | seconds | peak memory | written |", "|---|---:|---:|---:|"]
    for name, row in rows.items():
        written = f"{row['written_bytes'] / 1e9:.2f} GB" if "written_bytes" in row else ""
        lines.append(f"| {name} | {row['seconds']} | {row['peak_bytes'] / 1e6:,.0f} MB | {written} |")
    lines += ["", "Resident pages of mapped files count towards the peak. \"As it is\": its weights came back byte for byte."]
    (args.out / "large-model.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


main()
