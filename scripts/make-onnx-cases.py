#!/usr/bin/env python3
"""Writes ONNX's own conformance cases of the opsets that its released data do not reach, 18 to 25.

usage: make-onnx-cases.py [FOLDER]

One folder a case, as libonnx-testdata has them: model.onnx, test_data_set_0/input_N.pb and output_N.pb. They go to
.cache/assets/onnx-node-tests-18-to-25, or where PENJING_ASSETS says. The models, inputs and expected outputs are those of the
generators in the pinned `onnx` package, which work them out with numpy; nothing is downloaded.

Cases of operators whose later versions only bring further types are written for the newest of these opsets where its checker
takes them.
"""

import os
import shutil
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OPSETS, NEWEST_IR = range(18, 26), 13
WIDENED = ("Cast", "DequantizeLinear", "QuantizeLinear")


def serialized(value, info):
    """A case's value as the message that its type asks for; None where it is no tensor."""
    from onnx import TensorProto, numpy_helper

    if not info.type.HasField("tensor_type"):
        return None
    message = value if isinstance(value, TensorProto) else numpy_helper.from_array(value, info.name)
    return message.SerializeToString()


def files(case):
    """Path in the case's folder and contents of each of its files; None where a value is no tensor."""
    inputs, outputs = case.data_sets[0]
    graph = case.model.graph
    found = {"model.onnx": case.model.SerializeToString()}
    for kind, values, infos in (("input", inputs, graph.input), ("output", outputs, graph.output)):
        for i, (value, info) in enumerate(zip(values, infos)):
            found[f"test_data_set_0/{kind}_{i}.pb"] = serialized(value, info)
    return None if None in found.values() else found


def is_wanted(model):
    versions = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    return len(versions) == 1 and versions[0] in OPSETS and model.ir_version <= NEWEST_IR


def lowered(model):
    """The model at the newest of the opsets, where only a type keeps it from there."""
    import onnx

    if len(model.opset_import) != 1 or any(node.op_type not in WIDENED for node in model.graph.node):
        return model
    lower = onnx.ModelProto()
    lower.CopyFrom(model)
    lower.opset_import[0].version = min(model.opset_import[0].version, OPSETS[-1])
    lower.ir_version = min(model.ir_version, NEWEST_IR)
    try:
        onnx.checker.check_model(lower, full_check=True)
    except Exception:
        return model
    return lower


def main():
    import onnx
    from onnx.backend.test.case.node import collect_testcases

    assets = Path(os.environ.get("PENJING_ASSETS") or ROOT / ".cache/assets")
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else assets / "onnx-node-tests-18-to-25"
    stamp = folder / ".onnx-version"
    made_by = f"{onnx.__version__} {OPSETS} {NEWEST_IR} {WIDENED}\n"
    if stamp.is_file() and stamp.read_text() == made_by:
        return
    shutil.rmtree(folder, ignore_errors=True)
    # The generators divide by zero on purpose.
    warnings.simplefilter("ignore")
    written = 0
    for case in collect_testcases(None):
        case.model.CopyFrom(lowered(case.model))
        if not is_wanted(case.model) or (contents := files(case)) is None:
            continue
        for name, octets in contents.items():
            path = folder / case.name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(octets)
        written += 1
    stamp.write_text(made_by)
    print(f"{written} cases of opset {OPSETS[0]} to {OPSETS[-1]} in {folder}")


main()
