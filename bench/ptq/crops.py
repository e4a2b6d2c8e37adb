"""Random crops of the twenty ImageNet photographs, as EfficientNet-Lite0 takes them: float32 [N, 3, 224, 224], (x - 127) / 128.

Run as `crops.py FOLDER COUNT FILE` it writes COUNT of them, drawn with seed 1, as `x` of an .npz file.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 224


def photographs(folder):
    """[(pixels, class)] in the order of the table."""
    with open(Path(folder) / "labels.csv") as table:
        rows = list(csv.DictReader(table))
    return [(Image.open(Path(folder) / row["file"]).convert("RGB"), int(row["label"])) for row in rows]


def as_input(image):
    return ((np.asarray(image, dtype=np.float32) - 127.0) / 128.0).transpose(2, 0, 1)


def centre(image):
    """Resized to 256 on the shorter side and cut to the middle 224."""
    scale = 256 / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.BICUBIC)
    left, top = [(side - SIDE) // 2 for side in image.size]
    return as_input(image.crop((left, top, left + SIDE, top + SIDE)))


def random_crops(images, count, seed):
    """Yields (input, class): between 30 % and all of a photograph, sides 3:4 to 4:3, half of them mirrored."""
    draw = np.random.default_rng(seed)
    for _ in range(count):
        image, label = images[draw.integers(len(images))]
        width, height = image.size
        area, aspect = draw.uniform(0.3, 1.0) * width * height, np.exp(draw.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = min(width, round((area * aspect) ** 0.5)), min(height, round((area / aspect) ** 0.5))
        left, top = draw.integers(width - w + 1), draw.integers(height - h + 1)
        crop = image.crop((left, top, left + w, top + h)).resize((SIDE, SIDE), Image.BILINEAR)
        yield as_input(crop.transpose(Image.FLIP_LEFT_RIGHT) if draw.random() < 0.5 else crop), label


if __name__ == "__main__":
    folder, count, path = sys.argv[1:]
    np.savez(path, x=np.stack([x for x, _ in random_crops(photographs(folder), int(count), 1)]))
