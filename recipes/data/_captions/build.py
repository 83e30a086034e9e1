"""Compose a picture on a ground, and say how in its caption."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from _captions.sources import Picture

SIDE = 128
VARIANTS = {"train": 3, "val": 1, "test": 1}
TEST_SHARE, VAL_SHARE = 0.10, 0.05  # of the groups
QUALITY = {"quality": 95, "subsampling": 0}  # 4:4:4
ALIKE = 5.0  # mean difference of small pictures, of 255, from which on they are about the same
COLOURS = {
    "white": (250, 250, 250),
    "grey": (140, 140, 140),
    "black": (20, 20, 20),
    "red": (205, 35, 35),
    "orange": (240, 140, 30),
    "yellow": (245, 220, 60),
    "green": (60, 165, 60),
    "dark green": (20, 80, 40),
    "light blue": (150, 205, 240),
    "blue": (40, 80, 200),
    "purple": (130, 55, 160),
    "pink": (245, 160, 190),
    "brown": (125, 80, 45),
    "beige": (230, 210, 175),
}
PLACES = {"at the left": (0.0, 0.5), "at the right": (1.0, 0.5), "at the top": (0.5, 0.0), "at the bottom": (0.5, 1.0)}
SIZES = {"large": (0.85, 0.97), "small": (0.48, 0.6)}
JITTER = 8  # of a ground's colour, of 255
FAR = 90  # a ground is so far from a picture's main colour
LEAST = 24  # pixels of a side
MOST = 2**24  # pixels in all: a dozen pictures are ten times larger, and take gigabytes to open
Image.MAX_IMAGE_PIXELS = None  # the packages' own pictures, checked by digest

_NAMES, _VALUES = list(COLOURS), np.array(list(COLOURS.values()), dtype=np.float32)


def opened(root: Path, picture: Picture) -> Image.Image | None:
    """Return a picture, cut to what can be seen and no larger than needed; None if it is too small or too large."""
    with Image.open(root / picture.path) as file:
        if file.width * file.height > MOST:
            return None
        image = file.convert("RGBA")
    box = image.getchannel("A").point(lambda alpha: 255 * (alpha > 16)).getbbox()
    if (
        box is None
        or min(box[2] - box[0], box[3] - box[1]) < LEAST // 2
        or max(box[2] - box[0], box[3] - box[1]) < LEAST
    ):
        return None
    image = image.crop(box)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return image


def small(root: Path, picture: Picture) -> np.ndarray | None:
    """Return a picture on white in 8 × 8 pixels, to find those that are about the same."""
    image = opened(root, picture)
    if image is None:
        return None
    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(image)
    return np.asarray(ground.convert("RGB").resize((8, 8), Image.Resampling.BOX), dtype=np.float32).ravel()


def grouped(pictures: list[Picture], smalls: list[np.ndarray]) -> list[int]:
    """Return the number of the group of each picture: of those of one text, one name, or that look alike."""
    parent = list(range(len(pictures)))

    def find(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    def join(one: int, other: int) -> None:
        one, other = sorted((find(one), find(other)))
        parent[other] = one

    for key in (lambda picture: picture.group, lambda picture: picture.text):
        first: dict[str, int] = {}
        for number, picture in enumerate(pictures):
            join(first.setdefault(key(picture), number), number)
    stacked = np.stack(smalls)
    for number, row in enumerate(stacked):
        # What is mostly white is like everything that is.
        limit = min(ALIKE, 0.15 * float(np.abs(row - 255).mean()))
        for other in np.flatnonzero(np.abs(stacked[number + 1 :] - row).mean(1) < limit):
            join(number, number + 1 + int(other))
    return [find(number) for number in range(len(pictures))]


def split_groups(pictures: list[Picture], groups: list[int]) -> list[str]:
    """Return the split of each picture: a hash of its group's first picture chooses."""
    names = {group: pictures[group].name for group in set(groups)}
    order = sorted(names, key=lambda group: hashlib.sha256(f"captions {names[group]}".encode()).hexdigest())
    test, val = round(TEST_SHARE * len(order)), round(VAL_SHARE * len(order))
    place = {group: number for number, group in enumerate(order)}
    # Large groups hold many that are alike, of which a test learns little.
    sizes = Counter(groups)
    chosen = {g: "test" if place[g] < test else "val" if place[g] < test + val else "train" for g in names}
    return ["train" if sizes[group] > 8 else chosen[group] for group in groups]


def make(root: Path, out: Path, picture: Picture, split: str) -> list[dict]:
    """Write the variants of a picture, and return their lines of a manifest."""
    image = opened(root, picture)
    if image is None:
        return []
    main, name = colour_of(image)
    lines = []
    for variant in range(VARIANTS[split]):
        draw = random.Random(f"captions {picture.name} {variant}")
        ground = draw.choice([n for n in _NAMES if float(np.linalg.norm(_VALUES[_NAMES.index(n)] - main)) > FAR])
        size = draw.choice(list(SIZES))
        place = "in the middle" if size == "large" else draw.choice(["in the middle", *PLACES])
        colour = "" if name.split()[0] in picture.text.split() else f"{name} "
        text = f"{size} {colour}{picture.text}, {place}, on {ground}"
        target = out / f"{picture.name}.{variant}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        compose(image, draw, ground, size, PLACES.get(place, (0.5, 0.5))).save(part, format="JPEG", **QUALITY)
        part.replace(target)
        lines.append({"image_filepath": str(target.relative_to(out)), "text": text, "source": picture.source})
    return lines


def compose(image: Image.Image, draw: random.Random, ground: str, size: str, place: tuple[float, float]) -> Image.Image:
    """Return a picture on a ground of about a colour, in a size and a place."""
    base = tuple(min(255, max(0, value + draw.randint(-JITTER, JITTER))) for value in COLOURS[ground])
    longest = round(SIDE * draw.uniform(*SIZES[size]))
    scale = longest / max(image.size)
    sides = tuple(max(1, round(side * scale)) for side in image.size)
    drawn = image.resize(sides, Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (SIDE, SIDE), (*base, 255))
    corner = tuple(round((SIDE - side) * share) for side, share in zip(sides, place, strict=True))
    canvas.alpha_composite(drawn, corner)
    return canvas.convert("RGB")


def colour_of(image: Image.Image) -> tuple[np.ndarray, str]:
    """Return the mean colour of what can be seen, and its one or two main colours by name."""
    pixels = np.asarray(image.resize((32, 32), Image.Resampling.BOX), dtype=np.float32).reshape(-1, 4)
    seen = pixels[pixels[:, 3] > 128][:, :3]
    if not len(seen):
        seen = pixels[:, :3]
    nearest = np.linalg.norm(seen[:, None] - _VALUES, axis=2).argmin(1)
    shares = np.bincount(nearest, minlength=len(_NAMES)) / len(seen)
    first, second = np.argsort(-shares, kind="stable")[:2]
    name = _NAMES[first] if shares[second] < 0.25 else f"{_NAMES[first]} and {_NAMES[second]}"
    return seen.mean(0), name
