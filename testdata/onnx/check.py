"""Checks models in full, and that ONNX Runtime loads each of them, as it is written and optimised.

Usage: check.py MODEL.onnx...
"""

import sys

import onnx
import onnxruntime

LEVELS = onnxruntime.GraphOptimizationLevel

for path in sys.argv[1:]:
    onnx.checker.check_model(path, full_check=True)
    for level in (LEVELS.ORT_DISABLE_ALL, LEVELS.ORT_ENABLE_ALL):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = level
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
