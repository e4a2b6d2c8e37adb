"""Writes a perceptron of eleven layers with 64 M weights each, 2.8 GB in all, its weights in a file of their own.

usage: make_model.py FILE
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

LAYERS, WIDTH = 11, 8000  # 11 · 8000² · 4 bytes = 2.816 GB

path = Path(sys.argv[1])
data = path.with_name(f"{path.name}.weights")
random = np.random.default_rng(0)
nodes, weights = [], []
with data.open("wb") as out:
    for layer in range(LAYERS):
        name, offset = f"fc{layer}.weight", out.tell()
        # Scaled so that outputs stay as large as inputs.
        weight = random.standard_normal((WIDTH, WIDTH), dtype=np.float32) / np.float32(WIDTH**0.5)
        out.write(weight.tobytes())
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=weight.shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", data.name), ("offset", offset), ("length", weight.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        weights.append(tensor)
        nodes.append(helper.make_node("Gemm", [f"x{layer}", name], [f"x{layer + 1}"], f"fc{layer}", transB=1))
row = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", WIDTH])
graph = helper.make_graph(nodes, "perceptron", [row("x0")], [row(f"x{LAYERS}")], weights)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
path.write_bytes(model.SerializeToString())
