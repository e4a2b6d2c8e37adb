"""The table of Han et al. 2015 from the models that run.sh finished, in results/han2015.{json,md}.

Measures with ONNX Runtime and counts weights as ONNX Runtime sees them, so that no number here comes from the program
that is being measured. An error is a percentage of the test images; a difference is pruned minus dense on the same
images, in percentage points.

Exit codes: 0 the table is whole and sound · 1 it is not.
"""

import argparse
import json
import math
import struct
import sys
from pathlib import Path
from statistics import fmean

import intervals
import machine
import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

HERE = Path(__file__).parent
PUBLISHED = {  # Han, Pool, Tran and Dally, NeurIPS 2015, table 1: error before and after in percent, times fewer
    "lenet-300-100": (1.64, 1.59, 12),
    "lenet-5": (0.80, 0.77, 12),
}
MOST_DENSE_ERROR = {"lenet-300-100": 1.8, "lenet-5": 1.0}  # percent
MOST_DIFFERENCE = 0.1  # points, mean over the seeds
FEWEST_TIMES = 12
SEEDS = (0, 1, 2)


def read_idx(path):
    data = path.read_bytes()
    rank = data[3]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank]))


def prepared(images, model):
    """[N, 28, 28] bytes → [N, 1, 28, 28] as the model's metadata say: (v · scale − mean) / std."""
    entries = {entry.key: entry.value for entry in model.metadata_props}
    steps = json.loads(entries.get("penjing.preprocess", "{}"))
    if unknown := steps.keys() - {"scale", "mean", "std"}:
        sys.exit(f"the model was trained with {', '.join(sorted(unknown))}, which this script does not do")
    one = lambda key, default: np.float32((steps.get(key) or [default])[0])
    scaled = images[:, None].astype(np.float32) * np.float32(steps.get("scale", 1 / 255))
    return (scaled - one("mean", 0)) / one("std", 1)


def wrong(session, images, labels, batch=500):
    """Which of the images are misclassified."""
    name = session.get_inputs()[0].name
    logits = [session.run(None, {name: images[i : i + batch]})[0] for i in range(0, len(images), batch)]
    return np.concatenate(logits).argmax(axis=1) != labels


def parameters(model, image):
    """(all parameters, those that are not zero); sparse storage is expanded by ONNX Runtime."""
    graph = model.graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    used = [name for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul") for name in node.input[1:] if name]
    expanded = [name for name in used if name not in stored]
    if expanded:
        probe = onnx.ModelProto.FromString(model.SerializeToString())
        probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in expanded)
        session = onnxruntime.InferenceSession(probe.SerializeToString())
        values = session.run(expanded, {session.get_inputs()[0].name: image})
        stored.update(zip(expanded, values, strict=True))
    return sum(stored[name].size for name in used), sum(int(np.count_nonzero(stored[name])) for name in used)


def measured(path, images, labels):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    ready = prepared(images, model)
    total, left = parameters(model, ready[:1])
    mistakes = wrong(onnxruntime.InferenceSession(path), ready, labels)
    return {"parameters": total, "not_zero": left, "bytes": path.stat().st_size, "error": 100 * mistakes.mean()}, mistakes


def pair(models, network, seed, images, labels):
    """Both models of a seed, and the difference with the interval that comes from having 10,000 images."""
    dense, was_wrong = measured(models / f"{network}-{seed}-dense.onnx", images, labels)
    pruned, is_wrong = measured(models / f"{network}-{seed}-pruned.onnx", images, labels)
    change = 100 * (is_wrong.astype(float) - was_wrong)
    half = 1.96 * change.std(ddof=1) / math.sqrt(len(change))
    difference = {"points": change.mean(), "low": change.mean() - half, "high": change.mean() + half}
    return {"seed": seed, "dense": dense, "pruned": pruned, "difference": difference}


def summary(network, seeds):
    """Means over the seeds; the interval of the difference comes from the seeds."""
    mean, low, high = intervals.of_mean([s["difference"]["points"] for s in seeds])
    dense, pruned = [s["dense"] for s in seeds], [s["pruned"] for s in seeds]
    return {
        "network": network,
        "parameters": dense[0]["parameters"],
        "not_zero": fmean(p["not_zero"] for p in pruned),
        "times_fewer": dense[0]["parameters"] / fmean(p["not_zero"] for p in pruned),
        "dense_error": fmean(d["error"] for d in dense),
        "pruned_error": fmean(p["error"] for p in pruned),
        "difference": {"points": mean, "low": low, "high": high},
        "dense_bytes": fmean(d["bytes"] for d in dense),
        "pruned_bytes": fmean(p["bytes"] for p in pruned),
        "goals": {
            f"dense error at most {MOST_DENSE_ERROR[network]} %": fmean(d["error"] for d in dense) <= MOST_DENSE_ERROR[network],
            f"pruned error at most {MOST_DIFFERENCE} points higher": mean <= MOST_DIFFERENCE,
        },
        "seeds": seeds,
    }


def unsound(rows, quick):
    """What is wrong with the table, apart from goals that a network missed."""
    if not rows:
        yield "no network is finished"
    for row in rows:
        if row["times_fewer"] < FEWEST_TIMES:
            yield f"{row['network']} has {row['times_fewer']:.1f} times fewer weights, not {FEWEST_TIMES}"
        for seed in row["seeds"]:
            errors = [seed[kind]["error"] for kind in ("dense", "pruned")]
            if not all(0 < error < 20 for error in errors):  # 90 is chance
                yield f"{row['network']}, seed {seed['seed']}: errors of {errors} %, so it learned nothing"
            if seed["pruned"]["bytes"] >= seed["dense"]["bytes"] / 2:
                yield f"{row['network']}, seed {seed['seed']}: the file of the pruned network is not even half as large"
            if not seed["difference"]["low"] <= seed["difference"]["points"] <= seed["difference"]["high"]:
                yield f"{row['network']}, seed {seed['seed']}: the difference lies outside of its interval"
    if quick and [(row["network"], len(row["seeds"])) for row in rows] != [("lenet-300-100", 1)]:
        yield "not the one network and seed of --quick"


def table(rows):
    yield "| network | parameters | not zero | fewer | dense error | pruned error | difference, points (95 %) | file, bytes | Han et al. 2015 |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---|"
    for row in rows:
        d, (before, after, fewer) = row["difference"], PUBLISHED[row["network"]]
        spread = "" if d["low"] is None else f" ({d['low']:+.2f} to {d['high']:+.2f})"
        yield " | ".join([
            f"| {row['network']}", f"{row['parameters']:,}", f"{row['not_zero']:,.0f}", f"{row['times_fewer']:.1f}x",
            f"{row['dense_error']:.2f} %", f"{row['pruned_error']:.2f} %", f"{d['points']:+.2f}{spread}",
            f"{row['dense_bytes']:,.0f} → {row['pruned_bytes']:,.0f}", f"{before:.2f} → {after:.2f} % at {fewer}x |",
        ])  # fmt: skip
    yield ""
    yield "By seed, with the interval that comes from the number of test images:"
    yield ""
    yield "| network | seed | dense error | pruned error | difference, points (95 %) |"
    yield "|---|---:|---:|---:|---:|"
    for row in rows:
        for s in row["seeds"]:
            d = s["difference"]
            errors = f"{s['dense']['error']:.2f} % | {s['pruned']['error']:.2f} %"
            yield f"| {row['network']} | {s['seed']} | {errors} | {d['points']:+.2f} ({d['low']:+.2f} to {d['high']:+.2f}) |"


def goals(rows):
    yield ""
    for row in rows:
        missing = [str(seed) for seed in SEEDS if seed not in [s["seed"] for s in row["seeds"]]]
        unfinished = f" (seeds still to run: {', '.join(missing)})" if missing else ""
        for goal, met in row["goals"].items():
            yield f"- {row['network']}, {goal}: {'met' if met else 'missed'}{unfinished}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--models", type=Path, required=True)
    arguments.add_argument("--mnist", type=Path, required=True)
    arguments.add_argument("--out", type=Path, default=HERE / "results")
    arguments.add_argument("--quick", action="store_true", help="the models are those of run.sh --quick: leave out the goals")
    args = arguments.parse_args()

    images, labels = read_idx(args.mnist / "t10k-images-idx3-ubyte"), read_idx(args.mnist / "t10k-labels-idx1-ubyte")
    rows = []
    for network in PUBLISHED:
        found = [int(path.stem.split("-")[-2]) for path in args.models.glob(f"{network}-*-pruned.onnx")]
        if found:
            rows.append(summary(network, [pair(args.models, network, seed, images, labels) for seed in sorted(found)]))
    record = {
        "machine": machine.describe("numpy", "onnx", "onnxruntime"),
        "settings": (args.models / "settings").read_text().strip(),
        "test_images": len(labels),
        "rows": rows,
    }
    lines = "\n".join([*table(rows), *([] if args.quick else goals(rows))])
    if wrongs := list(unsound(rows, args.quick)):
        sys.exit("bench/han2015/table.py: " + "; ".join(wrongs))

    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "han2015.json").write_text(json.dumps(record, indent=2) + "\n")
    (args.out / "han2015.md").write_text(lines + "\n")
    print(lines)


main()
