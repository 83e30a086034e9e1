"""Small pictures that can be told apart after decoding, and sets of them in the layouts that people have."""

import io
import tarfile

import numpy as np
import pyarrow as pa
from PIL import Image

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def encoded(number, size=(12, 10), kind="PNG"):
    """Return a plain picture whose red is its number."""
    file = io.BytesIO()
    Image.new("RGB", size, (number, 255 - number, 7)).save(file, format=kind, lossless=True)
    return file.getvalue()


def number_of(image):
    return round(float(image[0].mean()) * 255)


def numbers(batch):
    return [number_of(image) for image in batch.images]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def folder_of(root, count, split="train"):
    for number in range(count):
        write(root / split / f"{number:03}.png", encoded(number))
    return root


def tar_of(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def everything(data, split="train"):
    """Return number, label and caption of each picture of a split, in order."""
    items = data.dataset(split)
    return [(number_of(item.image), item.label, item.caption) for item in (items[i] for i in range(len(items)))]


def table_of(rows, start=0):
    images = [{"bytes": encoded(number), "path": None} for number in range(start, start + rows)]
    return pa.table(
        {
            "image": pa.array(images, IMAGE),
            "label": pa.array(range(start, start + rows), pa.int64()),
            "text": [f"picture {number}" for number in range(start, start + rows)],
            "source": ["even" if number % 2 == 0 else "odd" for number in range(start, start + rows)],
        }
    )


def photographs_in(folder, train=12, val=4):
    """Write smooth random pictures of 40 × 32 pixels into `train` and `val` of a folder, and return it."""
    draw = np.random.default_rng(0)
    for split, count in {"train": train, "val": val}.items():
        (folder / split).mkdir(parents=True)
        for number in range(count):
            coarse = Image.fromarray(draw.integers(256, size=(4, 5, 3), dtype=np.uint8))
            coarse.resize((40, 32), Image.Resampling.BICUBIC).save(folder / f"{split}/{number}.png")
    return folder
