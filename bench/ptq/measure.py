"""Penjing beside ONNX Runtime's quantize_static: accuracy, speed of the results, time and memory of making them."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import crops
import machine
import numpy as np
import onnxruntime

METHODS = ["min-max", "percentile", "entropy", "mse"]
HERE = Path(__file__).parent


def run(command):
    """(seconds, peak bytes, what it printed) of a command that has to succeed."""
    start = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out = process.stdout.read()
    err = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    # 3: done, goal missed.
    if os.waitstatus_to_exitcode(status) not in (0, 3):
        sys.exit(f"{command}: {err.decode()}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024, out.decode()


def ours(options, method, samples, output):
    name = f"{output.stem}.run"
    seconds, peak, _ = run([
        options.penjing, "--threads", options.threads, "quantize", options.model, "--data", options.work / f"crops-{samples}.npz",
        "--calibration", method, "--calibration-samples", samples, "-o", output, "--run", options.work / name, "--force",
    ])  # fmt: skip
    record = json.loads((options.work / name / "outcome.json").read_text())
    return {"tool": "penjing", "method": method, "samples": record["quantization"]["samples"], "seconds": record["quantization"]["seconds"],
            "command_seconds": seconds, "peak_bytes": peak}  # fmt: skip


def theirs(options, method, samples, output, reduce_range=()):
    crops_file = options.work / f"crops-{samples}.npz"
    _, _, out = run([sys.executable, HERE / "peer.py", options.model, crops_file, output, "--method", method, "--samples", samples, *reduce_range])
    return {"tool": "onnxruntime", "method": " ".join([method, *reduce_range]).replace("--", ""), "samples": samples, **json.loads(out.splitlines()[-1])}


def session(path, threads):
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def logits(model, inputs):
    name = model.get_inputs()[0].name
    return np.concatenate([model.run(None, {name: x[None]})[0] for x in inputs])


def wilson(successes, trials):
    p, z2 = successes / trials, 1.96**2
    centre, half = (p + z2 / 2 / trials) / (1 + z2 / trials), 1.96 * ((p * (1 - p) + z2 / 4 / trials) / trials) ** 0.5 / (1 + z2 / trials)
    return [centre - half, centre + half]


def quality(reference, outputs, whole, labels):
    """How near outputs [N, C] are to the float model's, and how many of the twenty photographs are named rightly."""
    agreed = int((reference.argmax(1) == outputs.argmax(1)).sum())
    noise = np.square(reference.astype(np.float64) - outputs).sum()
    return {
        "sqnr_db": float(10 * np.log10(np.square(reference.astype(np.float64)).sum() / noise)),
        "agreement": agreed / len(reference),
        "agreement_95": wilson(agreed, len(reference)),
        "labels_kept": int((whole.argmax(1) == labels).sum()),
    }


def interleaved(models, rounds):
    """Milliseconds of each model for one image, all in turn; medians, and ratios to the first by round."""
    image = np.zeros((1, 3, crops.SIDE, crops.SIDE), np.float32)
    sessions = list(models.values())
    name = sessions[0].get_inputs()[0].name
    times = {key: [] for key in models}
    for turn in range(rounds + 5):
        for key, model in models.items():
            start = time.perf_counter()
            model.run(None, {name: image})
            if turn >= 5:
                times[key].append(1e3 * (time.perf_counter() - start))
    first = times[next(iter(models))]
    result = {}
    for key, values in times.items():
        ratios = sorted(a / b for a, b in zip(first, values))
        half = 0.98 * len(ratios) ** 0.5
        middle = (len(ratios) - 1) / 2
        at = lambda rank: ratios[max(0, min(len(ratios) - 1, round(rank)))]  # noqa: E731
        result[key] = {"median_ms": statistics.median(values), "times_as_fast": at(middle), "times_as_fast_95": [at(middle - half), at(middle + half)]}
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--penjing", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    tested, rounds, sizes, methods = (2000, 101, [128, 1024], METHODS) if not options.quick else (40, 5, [16], ["min-max"])

    for samples in sizes:
        path = options.work / f"crops-{samples}.npz"
        if not path.exists():
            # Four fifths of a set without splits are training samples, which calibration draws from. Drawn in a process of its own: a
            # child's peak memory begins with that of the process that it was forked from.
            run([sys.executable, HERE / "crops.py", options.photographs, samples * 5 // 4, path])
    made = {}
    costs = []
    for method in methods:
        output = options.work / f"penjing-{method}.onnx"
        costs.append(ours(options, method, sizes[0], output))
        made[f"penjing {method}"] = output
        if method != "mse":
            output = options.work / f"onnxruntime-{method}.onnx"
            costs.append(theirs(options, method, sizes[0], output))
            made[f"onnxruntime {method}"] = output
        if method == "min-max":
            output = options.work / "onnxruntime-min-max-reduced.onnx"
            costs.append(theirs(options, method, sizes[0], output, ["--reduce-range"]))
            made["onnxruntime min-max, reduced range"] = output
    for samples in sizes[1:]:
        costs.append(ours(options, "entropy", samples, options.work / f"penjing-entropy-{samples}.onnx"))

    images = crops.photographs(options.photographs)
    inputs = [x for x, _ in crops.random_crops(images, tested, 2)]
    whole, labels = [crops.centre(image) for image, _ in images], np.array([label for _, label in images])
    original = session(options.model, options.threads)
    reference = logits(original, inputs)
    table = {"float": {"labels_kept": int((logits(original, whole).argmax(1) == labels).sum()), "bytes": options.model.stat().st_size}}
    agreement = {}
    for name, path in made.items():
        model = session(path, options.threads)
        outputs = logits(model, inputs)
        agreement[name] = outputs.argmax(1) == reference.argmax(1)
        table[name] = {**quality(reference, outputs, logits(model, whole), labels), "bytes": path.stat().st_size}
    best = "penjing mse" if "penjing mse" in made else next(iter(made))
    timed = (best, "onnxruntime min-max", "onnxruntime min-max, reduced range")
    speed = interleaved({"float": original, **{name: session(made[name], options.threads) for name in timed}}, rounds)
    paired = {}
    for peer in timed[1:]:
        a, b = agreement[best], agreement[peer]
        paired[peer] = {"both": int((a & b).sum()), "only_penjing": int((a & ~b).sum()), "only_onnxruntime": int((~a & b).sum())}
    record = {
        "question": "post-training quantization of EfficientNet-Lite0, per channel, int8",
        "machine": machine.describe("onnxruntime", "onnx", "numpy"),
        "crops": tested,
        "quality": table,
        "agreement_with_float_paired": paired,
        "speed": speed,
        "cost": costs,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "efficientnet-lite0.json").write_text(json.dumps(record, indent=2) + "\n")
    lines = ["| model | logits' SQNR | agreement with float (95 %) | labels kept | bytes |", "|---|---:|---:|---:|---:|"]
    for name, row in table.items():
        near = f"{row['sqnr_db']:.1f} dB | {100 * row['agreement']:.1f} % ({100 * row['agreement_95'][0]:.1f} to {100 * row['agreement_95'][1]:.1f})" if "sqnr_db" in row else "- | -"
        lines.append(f"| {name} | {near} | {row['labels_kept']} of 20 | {row['bytes']:,} |")
    lines += ["", "| model | median of one image | times as fast as float (95 %) |", "|---|---:|---:|"]
    for name, row in speed.items():
        lines.append(f"| {name} | {row['median_ms']:.2f} ms | {row['times_as_fast']:.2f} ({row['times_as_fast_95'][0]:.2f} to {row['times_as_fast_95'][1]:.2f}) |")
    lines += ["", "| made by | calibration | samples | seconds | whole command | peak memory |", "|---|---|---:|---:|---:|---:|"]
    for row in costs:
        command = f"{row['command_seconds']:.1f} s" if "command_seconds" in row else "-"
        lines.append(f"| {row['tool']} | {row['method']} | {row['samples']} | {row['seconds']:.1f} s | {command} | {row['peak_bytes'] / 1e6:,.0f} MB |")
    text = "\n".join(lines) + "\n"
    (options.out / "efficientnet-lite0.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
