"""Writes a perceptron of ten layers with 12.5 M weights each, 500 MB in all, in one file.

usage: make_model.py FILE
"""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LAYERS, WIDTH = 10, 3536  # 10 · 3536² · 4 bytes = 500.1 MB

random = np.random.default_rng(0)
nodes, weights = [], []
for layer in range(LAYERS):
    weight = random.standard_normal((WIDTH, WIDTH), dtype=np.float32)
    weights.append(numpy_helper.from_array(weight, f"fc{layer}.weight"))
    nodes.append(helper.make_node("Gemm", [f"x{layer}", f"fc{layer}.weight"], [f"x{layer + 1}"], f"fc{layer}", transB=1))
row = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", WIDTH])
graph = helper.make_graph(nodes, "perceptron", [row("x0")], [row(f"x{LAYERS}")], weights)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), sys.argv[1])
