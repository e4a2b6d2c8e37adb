#!/usr/bin/env python3
"""Cuts the embedded data set of `penjing demo` out of the full Fashion-MNIST.

usage: scripts/make-demo-data.py [--source FOLDER] [--out FOLDER] [--check]

Takes 500 training and 150 test images of each of the 10 classes, in the order of the full set. Which ones is decided
by the SHA-256 of the seed, the split and the position, so that it depends on no library's random numbers.
`--check` writes nothing and compares the contents of FOLDER with what would be written.
"""

import argparse
import gzip
import hashlib
import os
import struct
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SEED = 0
CLASSES = 10
PER_CLASS = {"train": 500, "t10k": 150}


def read_idx(path):
    """The dimensions and the bytes of a gzipped IDX file of unsigned bytes."""
    data = gzip.decompress(path.read_bytes())
    zero, kind, rank = struct.unpack(">HBB", data[:4])
    if (zero, kind) != (0, 8):
        sys.exit(f"{path}: not an IDX file of unsigned bytes")
    return struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank]), data[4 + 4 * rank :]


def to_idx(dims, payload):
    return struct.pack(f">HBB{len(dims)}I", 0, 8, len(dims), *dims) + payload


def chosen(split, labels):
    """The positions of PER_CLASS[split] samples of each class, ascending."""
    rank = lambda i: hashlib.sha256(f"{SEED} {split} {i}".encode()).digest()
    of_class = ([i for i, label in enumerate(labels) if label == c] for c in range(CLASSES))
    return sorted(i for samples in of_class for i in sorted(samples, key=rank)[: PER_CLASS[split]])


def subset(source, split):
    """The names and IDX contents of the two files of a split."""
    images_name, labels_name = f"{split}-images-idx3-ubyte.gz", f"{split}-labels-idx1-ubyte.gz"
    (_, height, width), images = read_idx(source / images_name)
    _, labels = read_idx(source / labels_name)
    rows, size = chosen(split, labels), height * width
    yield images_name, to_idx((len(rows), height, width), b"".join(images[i * size : (i + 1) * size] for i in rows))
    yield labels_name, to_idx((len(rows),), bytes(labels[i] for i in rows))


def main():
    assets = Path(os.environ.get("PENJING_ASSETS") or ROOT / ".cache/assets")
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--source", type=Path, default=assets / "fashion-mnist")
    arguments.add_argument("--out", type=Path, default=ROOT / "assets/fashion-mnist-small")
    arguments.add_argument("--check", action="store_true")
    args = arguments.parse_args()
    if not args.source.is_dir():
        sys.exit(f"{args.source}: no such folder (hint: scripts/assets fashion-mnist)")

    for split in PER_CLASS:
        for name, contents in subset(args.source, split):
            path = args.out / name
            if args.check:
                if gzip.decompress(path.read_bytes()) != contents:
                    sys.exit(f"{path}: not the contents that this script writes")
            else:
                args.out.mkdir(parents=True, exist_ok=True)
                path.write_bytes(gzip.compress(contents, 9, mtime=0))
            print(f"{hashlib.sha256(contents).hexdigest()}  {name.removesuffix('.gz')}")


main()
