"""Global magnitude pruning by PyTorch: time and memory.

Prints what Penjing's example `select` prints, so that the two can be compared:
{"weights", "pruned", "seconds", "rss_before_bytes", "rss_peak_bytes"}. Reading the model is not timed.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn.utils import prune


def weights(path):
    """Each initializer that is the weight of a Conv, Gemm or MatMul, in a module of its own."""
    graph = onnx.load(path).graph
    names = {node.input[1] for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")}
    for tensor in graph.initializer:
        if tensor.name in names:
            module = nn.Module()
            module.weight = nn.Parameter(torch.from_numpy(numpy_helper.to_array(tensor).copy()))
            yield module


def resident():
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model")
    arguments.add_argument("--json", action="store_true", help="accepted for likeness; the output is always JSON")
    arguments.add_argument("--sparsity", type=float, default=0.9)
    arguments.add_argument("--threads", type=int, default=2)
    args = arguments.parse_args()
    torch.set_num_threads(args.threads)

    modules = list(weights(args.model))
    before, start = resident(), time.perf_counter()
    prune.global_unstructured([(m, "weight") for m in modules], prune.L1Unstructured, amount=args.sparsity)
    seconds = time.perf_counter() - start

    record = {
        "weights": sum(m.weight.numel() for m in modules),
        "pruned": sum(int((m.weight_mask == 0).sum()) for m in modules),
        "seconds": seconds,
        "rss_before_bytes": before,
        "rss_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(record))


main()
