"""Makes the tiny data sets in the folder beside it, which the tests of crates/penjing-exec read.

Needs numpy, pillow and safetensors. Image i of every set of images is a gradient that its number identifies:
grey pixel (y, x) = 16 * i + 4 * y + x, colour channel c adds 64 * c.
"""

import gzip
import struct
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

HERE = Path(__file__).with_suffix("")
SIDE = 4


def grey(i, height=SIDE, width=SIDE):
    y, x = np.mgrid[:height, :width]
    return ((16 * i + 4 * y + x) % 256).astype(np.uint8)


def rgb(i):
    return np.stack([(grey(i).astype(int) + 64 * c) % 256 for c in range(3)], axis=-1).astype(np.uint8)


def idx(array):
    return struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def image(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


# 20 training images of 2 classes, 4 test images; packed and unpacked, with a dot in two of the names.
train = np.stack([grey(i % 16) for i in range(20)])
test = np.stack([grey(i) for i in range(4)])
labels = np.arange(20) % 2
write(HERE / "idx/train-images-idx3-ubyte.gz", gzip.compress(idx(train), mtime=0))
write(HERE / "idx/train-labels-idx1-ubyte.gz", gzip.compress(idx(labels), mtime=0))
write(HERE / "idx/t10k-images.idx3-ubyte", idx(test))
write(HERE / "idx/t10k-labels.idx1-ubyte", idx(np.arange(4) % 2))

# x as floats [12, 3], class i % 3; column-major, big-endian, half: all the same numbers.
x = (np.arange(36).reshape(12, 3) / 8).astype(np.float32)
y = np.arange(12) % 3
np.savez_compressed(HERE / "arrays.npz", x=x, y=y.astype(np.int64))
np.savez(HERE / "fortran.npz", x=np.asfortranarray(x), y=y.astype(np.float64))
np.savez(HERE / "big_endian.npz", x=x.astype(">f8"), y=y.astype(">i2"))
np.savez(HERE / "half.npz", x=x.astype(np.float16), y=y.astype(np.uint8).reshape(12, 1))
np.savez(HERE / "unlabelled.npz", x=x)
np.savez(HERE / "keras.npz", x_train=train, y_train=labels.astype(np.uint8), x_test=test, y_test=(np.arange(4) % 2).astype(np.uint8))
np.savez(HERE / "objects.npz", x=np.array([{"pickled": 1}], dtype=object))
(HERE / "npy").mkdir(exist_ok=True)
np.save(HERE / "npy/x.npy", x)
np.save(HERE / "npy/y.npy", y.astype(np.int32))
save_file({"x": x, "y": y.astype(np.int64)}, HERE / "arrays.safetensors")

# The same numbers as text, the label in front.
rows = "".join(f"{c},{','.join(str(v) for v in r)}\n" for c, r in zip(y, x))
(HERE / "table.csv").write_text("label,a,b,c\n" + rows)

# CIFAR's records: label (CIFAR-100: coarse, fine), then planes of 32x32. Pixel p of image i is (i + p) % 256.
pixels = lambda i: ((i + np.arange(3072)) % 256).astype(np.uint8).tobytes()
for batch in range(1, 6):
    numbers = range(4 * batch - 4, 4 * batch)
    write(HERE / f"cifar10/data_batch_{batch}.bin", b"".join(bytes([i % 10]) + pixels(i) for i in numbers))
write(HERE / "cifar10/test_batch.bin", b"".join(bytes([i]) + pixels(i) for i in range(2)))
write(HERE / "cifar10/batches.meta.txt", "\n".join("airplane automobile bird cat deer dog frog horse ship truck".split()).encode() + b"\n\n")
write(HERE / "cifar100/train.bin", b"".join(bytes([9, i % 2]) + pixels(i) for i in range(20)))
write(HERE / "cifar100/test.bin", b"".join(bytes([9, i]) + pixels(i) for i in range(2)))

# Class folders, the same shared out, and a flat folder with labels by name and by line.
for i in range(20):
    image(HERE / f"folder/{'cat' if i % 2 else 'ant'}/{i:02}.png", rgb(i % 4))
for part, count in [("train", 8), ("val", 2), ("test", 2)]:
    for i in range(count):
        image(HERE / f"parts/{part}/{'b' if i % 2 else 'a'}/{i}.png", grey(i))
for i in range(4):
    image(HERE / f"flat/{i}.png", grey(i))
(HERE / "flat.csv").write_text("file,label\n" + "".join(f"{i}.png,{'odd' if i % 2 else 'even'}\n" for i in (3, 1, 2, 0)))
(HERE / "flat.txt").write_text("0\n1\n0\n1\n")
image(HERE / "jpeg/grey/0.jpg", np.full((8, 8), 128, np.uint8), quality=95)
image(HERE / "jpeg/white/0.jpg", np.full((8, 8, 3), 255, np.uint8), quality=95)

# Pillow's idea of resizing: 12x8 to 5x7, as floats, and as 8 bits, where it rounds and cuts off.
picture = (np.arange(96).reshape(12, 8) * 37 % 251).astype(np.uint8)
np.savez(HERE / "resized.npz", x=picture.astype(np.float32)[None])
image(HERE / "resized/picture.png", picture)
for name, method in [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)]:
    numbers = Image.fromarray(picture.astype(np.float32)).resize((7, 5), method)
    np.savez(HERE / f"resized_{name}.npz", x=np.asarray(numbers)[None])
    image(HERE / f"resized_{name}/picture.png", np.asarray(Image.fromarray(picture).resize((7, 5), method)))

# Hostile files. The zip says 2 GiB of zeros by shape and packs them well; only the shape is a lie here.
header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (536870912,), }"
header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
lie = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
UNDATED = zipfile.ZipInfo("x.npy")
UNDATED.compress_type = zipfile.ZIP_DEFLATED
with zipfile.ZipFile(HERE / "hostile_shape.npz", "w") as z:
    z.writestr(UNDATED, lie + bytes(1000))
with zipfile.ZipFile(HERE / "hostile_bomb.npz", "w") as z:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }".ljust(117) + b"\n"
    z.writestr(UNDATED, b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(1 << 24))
