"""The networks that the engines are compared on, in PyTorch. All have 10 classes."""

from collections.abc import Callable
from typing import NamedTuple

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


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Vaswani et al. 2017 with the norms before the layers, and a classifier of the mean over the sequence."""

    def __init__(self, width=384, heads=12):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.classifier = nn.Linear(width, 10)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.classifier(x.mean(dim=1))


class Network(NamedTuple):
    build: Callable[[], nn.Module]
    sample: tuple[int, ...]
    # A sequence stands for four images, so that steps take times of the same order.
    images_per_sample: int = 1
    # Whether it is measured in the layout [N, H, W, C] too.
    channels_last: bool = False


NETWORKS = {
    "lenet-5": Network(lenet_5, (1, 28, 28)),
    "resnet-20": Network(resnet_20, (3, 32, 32), channels_last=True),
    "mobilenet-v2": Network(mobilenet_v2, (3, 32, 32), channels_last=True),
    "transformer-block": Network(TransformerBlock, (128, 384), images_per_sample=4),
}
