"""Samples per second of PyTorch, in inference and in training; or the memory that training takes.

Prints what Penjing's example `throughput` prints, so that the two can be compared: a list of
{"model", "mode": "forward" | "forward-1" | "train", "batch", "parameters", "samples_per_s"}.

`forward` is inference (running averages, no gradients) on a whole batch, `forward-1` on one sample; `train` is one
step: forward, cross-entropy, backward, SGD with momentum. Data are random, the same batch each time, in memory.

With --memory=STEPS, one model makes STEPS training steps, the process does nothing else, and its row is
{"model", "mode", "batch", "parameters", "steps", "rss_before_bytes", "rss_peak_bytes"}: what was resident once PyTorch
was imported, and the most there ever was.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from networks_pytorch import NETWORKS
from torch.nn import functional as F


class Subject:
    """A network that is measured."""

    def __init__(self, name, images, layout):
        network = NETWORKS[name]
        torch.manual_seed(0)
        self.name, self.sample, self.layout = name, network.sample, layout
        self.batch = max(images // network.images_per_sample, 1)
        self.model = network.build().to(memory_format=layout)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)

    def what(self, mode, batch):
        parameters = sum(p.numel() for p in self.model.parameters())
        return {"model": self.name, "mode": mode, "batch": batch, "parameters": parameters}

    def inputs(self, batch):
        return torch.randn(batch, *self.sample).to(memory_format=self.layout)

    def inference(self, batch):
        """One pass, on the same data each time."""
        x = self.inputs(batch)
        self.model.eval()

        @torch.inference_mode()
        def step():
            self.model(x)

        return step

    def training(self):
        """One step, on the same data each time."""
        x, y = self.inputs(self.batch), torch.randint(10, (self.batch,))
        self.model.train()

        def step():
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(x), y).backward()
            self.optimizer.step()

        return step


def steps_per_s(step, seconds):
    """Over at least `seconds`, after a third of that to warm up."""
    for limit in (seconds / 3, seconds):
        steps, start = 0, time.perf_counter()
        while (taken := time.perf_counter() - start) < limit:
            step()
            steps += 1
    return steps / taken


def speeds(subject, seconds):
    """A row for each mode."""
    for mode, batch in (("forward", subject.batch), ("forward-1", 1), ("train", subject.batch)):
        step = subject.training() if mode == "train" else subject.inference(batch)
        yield {**subject.what(mode, batch), "samples_per_s": batch * steps_per_s(step, seconds)}


def resident(entry):
    """A line of Linux's account of this process in bytes: `VmRSS` is resident now, `VmHWM` the most there ever was."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{entry}:"))


def memory(subject, steps, before):
    """The row of a process that does nothing but `steps` training steps."""
    step = subject.training()
    for _ in range(steps):
        step()
    peak = resident("VmHWM")
    return {**subject.what("train", subject.batch), "steps": steps, "rss_before_bytes": before, "rss_peak_bytes": peak}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--json", action="store_true", help="accepted for likeness; the output is always JSON")
    arguments.add_argument("--models", help=f"of {', '.join(NETWORKS)}; all, unless some are named")
    arguments.add_argument("--channels-last", action="store_true", help="images [N, H, W, C]; resnet-20, mobilenet-v2")
    arguments.add_argument("--batch", type=int, default=64, help="images; of the transformer block a quarter as many")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--seconds", type=float, default=3.0)
    arguments.add_argument("--memory", type=int, metavar="STEPS")
    args = arguments.parse_args()
    before = resident("VmRSS")
    known = [name for name, network in NETWORKS.items() if network.channels_last or not args.channels_last]
    names = args.models.split(",") if args.models else known
    if unknown := set(names) - set(known):
        arguments.error(f"{', '.join(sorted(unknown))}: unknown (hint: {', '.join(known)})")
    if args.memory is not None and len(names) != 1:
        arguments.error("the peak of a process says nothing about one model of several (hint: --models=NAME)")

    torch.set_num_threads(args.threads)
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    rows = []
    for name in names:
        subject = Subject(name, args.batch, layout)
        rows += speeds(subject, args.seconds) if args.memory is None else [memory(subject, args.memory, before)]
    print(json.dumps(rows))


main()
