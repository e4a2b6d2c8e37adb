"""ONNX Runtime's own `quantize_static` of a model after its own pre-processing, per channel, QDQ, on the crops of a file; prints
seconds and peak bytes as JSON."""

import argparse
import json
import resource
import time

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class Crops(CalibrationDataReader):
    def __init__(self, path, name, samples):
        self.rows = iter(np.load(path)["x"][:samples])
        self.name = name

    def get_next(self):
        row = next(self.rows, None)
        return None if row is None else {self.name: row[None]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("crops")
    parser.add_argument("output")
    parser.add_argument("--method", choices=["min-max", "entropy", "percentile"], default="min-max")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--reduce-range", action="store_true")
    options = parser.parse_args()
    import onnxruntime

    name = onnxruntime.InferenceSession(options.model).get_inputs()[0].name
    method = {
        "min-max": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }[options.method]
    start = time.perf_counter()
    prepared = options.output + ".prepared"
    quant_pre_process(options.model, prepared)
    quantize_static(
        prepared,
        options.output,
        Crops(options.crops, name, options.samples),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=method,
        reduce_range=options.reduce_range,
    )
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == "__main__":
    main()
