"""Writes what PyTorch makes of two small networks: `cnn.safetensors` and `attention.safetensors`.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 numpy && venv/bin/python make.py  # PyTorch asks for about 4 GB

Each file holds the input `x`, the classes `target`, each weight as `start/NAME`, its gradient in evaluation mode as `gradient/NAME`,
and for three ways to train it, each three steps in training mode on the same batch: the losses as `RULE/loss` and the weights
after the last step as `RULE/NAME`. `tests/pytorch.rs` builds the same networks.
"""

import json
import struct
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).parent
STEPS = 3


class Cnn(nn.Module):
    """A strided, a depthwise and a pointwise convolution with normalisation, clipping, a residual and two kinds of pooling.

    No bias stands before a normalisation: its gradient would be nothing but rounding, which Adam blows up to steps.
    """

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 10, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(10)
        self.conv2 = nn.Conv2d(10, 10, 3, padding=1, groups=10, bias=False)
        self.norm2 = nn.BatchNorm2d(10)
        self.conv3 = nn.Conv2d(10, 12, 1)
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        a = F.relu(self.norm1(self.conv1(x)))
        b = a + F.relu6(self.norm2(self.conv2(a)))
        c = F.max_pool2d(self.conv3(b), 3, stride=2, padding=1)
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(c, 1), 1))


class Attention(nn.Module):
    """One head of attention and a feed-forward layer with GELU, both behind layer normalisation, and a mean over the sequence."""

    def __init__(self, features=12, hidden=20):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.q, self.k, self.v = (nn.Parameter(torch.randn(features, features) / features**0.5) for _ in range(3))
        self.up, self.down = nn.Parameter(torch.randn(features, hidden) / 4), nn.Parameter(torch.randn(hidden, features) / 4)
        self.fc = nn.Linear(features, 5)

    def forward(self, x):
        n = self.norm1(x)
        scores = (n @ self.q) @ (n @ self.k).transpose(1, 2)
        x = x + torch.softmax(scores * 0.25, -1) @ (n @ self.v)
        x = x + F.gelu(self.norm2(x) @ self.up) @ self.down
        return self.fc(x.mean(1))


RULES = {
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda weights: torch.optim.Adam(weights, lr=0.01, weight_decay=0.01),
    "adamw": lambda weights: torch.optim.AdamW(weights, lr=0.01, weight_decay=0.1),
}


def write(path, tensors):
    """The format of safetensors: length of the header, header, elements."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = tensor.detach().contiguous().numpy().tobytes()
        kind = {torch.float32: "F32", torch.int64: "I64"}[tensor.dtype]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    header["__metadata__"] = {"pytorch": torch.__version__, "made_by": "make.py"}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def golden(build, x):
    torch.manual_seed(7)
    model = build()
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.2)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.add_(torch.randn_like(weight) * 0.2)
    target = torch.arange(len(x)) % 5
    start = {name: value.clone() for name, value in model.state_dict().items() if value.is_floating_point()}
    tensors = {"x": x, "target": target, **{f"start/{name}": value for name, value in start.items()}}

    model.eval()
    F.cross_entropy(model(x), target).backward()
    tensors |= {f"gradient/{name}": weight.grad.clone() for name, weight in model.named_parameters()}

    model.train()
    for rule, optimizer_of in RULES.items():
        model.load_state_dict(start, strict=False)
        optimizer = optimizer_of(model.parameters())
        losses = []
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), target)
            losses.append(loss.item())
            loss.backward()
            optimizer.step()
        tensors[f"{rule}/loss"] = torch.tensor(losses)
        tensors |= {f"{rule}/{name}": weight.clone() for name, weight in model.named_parameters()}
        tensors |= {f"{rule}/{name}": value.clone() for name, value in model.named_buffers() if name.endswith("running_mean")}
    return tensors


def main():
    torch.manual_seed(1)
    write(HERE / "cnn.safetensors", golden(Cnn, torch.randn(9, 3, 13, 11)))
    write(HERE / "attention.safetensors", golden(Attention, torch.randn(4, 7, 12)))


main()
