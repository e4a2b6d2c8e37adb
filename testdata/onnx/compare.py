"""Checks two models in full and that ONNX Runtime gives the same bits for both, the second with its constants folded.

Usage: compare.py DENSE.onnx SPARSE.onnx
"""

import os
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

SCATTER = {"ScatterElements", "CumSum", "ConstantOfShape"}


def outputs(path, optimized):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = optimized
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    shape = lambda dims: [dim if isinstance(dim, int) else 4 for dim in dims]
    feed = {i.name: random.standard_normal(shape(i.shape), dtype=np.float32) for i in session.get_inputs()}
    return session.run(None, feed)


dense, sparse = sys.argv[1:]
for path in (dense, sparse):
    onnx.checker.check_model(path, full_check=True)
before = {node.op_type for node in onnx.load(sparse).graph.node}
assert SCATTER <= before, f"nothing is stored sparsely: {before}"
with tempfile.TemporaryDirectory() as folder:
    expected = outputs(dense, os.path.join(folder, "dense.onnx"))
    found = outputs(sparse, os.path.join(folder, "sparse.onnx"))
    left = SCATTER & {node.op_type for node in onnx.load(os.path.join(folder, "sparse.onnx")).graph.node}
assert not left, f"not folded when loaded: {left}"
assert len(expected) == len(found) > 0
for a, b in zip(expected, found):
    assert np.isfinite(a).all() and a.any(), "the outputs say nothing"
    assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), "the outputs differ"
