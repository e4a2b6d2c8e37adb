"""Images per second of PyTorch, forward and training step.

Prints what Penjing's example `throughput` prints, so that the two can be compared: a list of
{"model", "mode": "forward" | "train", "batch", "parameters", "images_per_s"}.

`forward` is inference (running averages, no gradients); `train` is one step: forward, cross-entropy, backward, SGD with
momentum. Data are random, the same batch each time, in memory. All networks have 10 classes.
"""

import argparse
import json
import time
from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F


def conv_norm(inputs, outputs, kernel, stride=1, groups=1, relu6=False):
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([nn.ReLU6(inplace=True)] if relu6 else []))


def lenet_5():
    """Caffe's variant, on 1×28×28."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 500), nn.ReLU(inplace=True), nn.Linear(500, 10),
    )  # fmt: skip


class BasicBlock(nn.Module):
    """Two 3×3 convolutions; the shortcut takes every second cell and adds channels of zeros (option A)."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first = conv_norm(inputs, outputs, 3, stride)
        self.second = conv_norm(outputs, outputs, 3)
        self.stride, self.missing = stride, outputs - inputs

    def forward(self, x):
        y = self.second(F.relu(self.first(x), inplace=True))
        if self.stride > 1 or self.missing:
            before = self.missing // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.missing - before))
        return F.relu(y + x, inplace=True)


def resnet_20():
    """He et al. 2015, for CIFAR."""
    layers, inputs = [conv_norm(3, 16, 3), nn.ReLU(inplace=True)], 16
    for outputs in (16, 32, 64):
        for block in range(3):
            layers.append(BasicBlock(inputs, outputs, 2 if block == 0 and outputs > 16 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expand):
        super().__init__()
        hidden = inputs * expand
        self.layers = nn.Sequential(
            *([conv_norm(inputs, hidden, 1, relu6=True)] if expand > 1 else []),
            conv_norm(hidden, hidden, 3, stride, groups=hidden, relu6=True),
            conv_norm(hidden, outputs, 1),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.layers(x) if self.residual else self.layers(x)


def mobilenet_v2():
    """Sandler et al. 2018, with the strides that it has for 224×224."""
    layers, inputs = [conv_norm(3, 32, 3, 2, relu6=True)], 32
    stages = [(1, 1, 1, 16), (2, 2, 6, 24), (3, 2, 6, 32), (4, 2, 6, 64), (3, 1, 6, 96), (3, 2, 6, 160), (1, 1, 6, 320)]
    for repeats, stride, expand, outputs in stages:
        for block in range(repeats):
            layers.append(InvertedResidual(inputs, outputs, stride if block == 0 else 1, expand))
            inputs = outputs
    layers.append(conv_norm(320, 1280, 1, relu6=True))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 10))


MODELS = OrderedDict(
    [("lenet-5", (lenet_5, (1, 28, 28))), ("resnet-20", (resnet_20, (3, 32, 32))), ("mobilenet-v2", (mobilenet_v2, (3, 32, 32)))]
)


def images_per_s(step, batch, seconds):
    """Throughput of `step` over at least `seconds`, after a third of that to warm up."""
    for limit in (seconds / 3, seconds):
        steps, start = 0, time.perf_counter()
        while (taken := time.perf_counter() - start) < limit:
            step()
            steps += 1
    return steps * batch / taken


def measure(name, batch, seconds):
    build, shape = MODELS[name]
    torch.manual_seed(0)
    model = build()
    x, y = torch.randn(batch, *shape), torch.randint(10, (batch,))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    parameters = sum(p.numel() for p in model.parameters())

    @torch.inference_mode()
    def forward():
        model(x)

    def train():
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    for mode, step in (("forward", forward), ("train", train)):
        model.train(mode == "train")
        speed = images_per_s(step, batch, seconds)
        yield {"model": name, "mode": mode, "batch": batch, "parameters": parameters, "images_per_s": speed}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--json", action="store_true", help="accepted for likeness; the output is always JSON")
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--seconds", type=float, default=3.0)
    args = arguments.parse_args()
    torch.set_num_threads(args.threads)
    print(json.dumps([row for name in MODELS for row in measure(name, args.batch, args.seconds)]))


if __name__ == "__main__":
    main()
