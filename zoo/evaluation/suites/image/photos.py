"""The pictures that a suite measures on: of its own manifest, or whatever pictures somebody points at."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from zoo.data.datamodule import Split
from zoo.data.images.layouts import find_pictures, open_pictures
from zoo.data.images.pictures import SUFFIXES, FilePictures, Pictures
from zoo.data.media import read_image
from zoo.errors import InputError
from zoo.strict import is_file

__all__ = ["Photo", "photos_in"]

_SPLITS: tuple[Split, ...] = ("test", "val", "train")


@dataclass(frozen=True)
class Photo:
    """A picture of a set.

    Args:
        pictures: The set.
        index: Its number there.
        name: What it is called below the folder.
        source: Where it is from, "" if nobody says.
    """

    pictures: Pictures
    index: int
    name: str
    source: str

    @property
    def key(self) -> int:
        """A number that stands for it, wherever its folder is."""
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:8])

    def content(self) -> bytes:
        """Return the file.

        Raises:
            InputError: It cannot be read.
        """
        content = self.pictures.read(self.index).content
        if isinstance(content, bytes):
            return content
        try:
            return content.read_bytes()
        except OSError as error:
            raise InputError(f"{content} cannot be read: {error.strerror}.") from error

    def read(self, content: bytes, size: tuple[int, int]) -> Tensor:
        """Return what `content` gave as pixels (3, H, W) in 0…1: scaled to cover the size, and the middle cut out.

        Raises:
            InputError: It is no picture.
        """
        try:
            return read_image(content, size=size, on_white=True)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from error


def photos_in(path: Path, manifest: str) -> list[Photo]:
    """Return the pictures that a path stands for.

    Args:
        path: A folder in any layout that training reads, of which the test split counts if there is one, then
            validation; a manifest; a .tar or .parquet file; or a single picture.
        manifest: What the manifest of a folder is called, which comes before all else.

    Raises:
        InputError: There are no pictures.
        ConfigError: A file is none that pictures are in.
    """
    found: Pictures | None = None
    folder = path if path.is_dir() else path.parent
    if path.is_file():
        is_picture = path.suffix.lower() in SUFFIXES
        found = FilePictures(str(path), [str(path)]) if is_picture else open_pictures(folder, path.name, {})
    elif is_file(path / manifest):
        found = FilePictures.from_manifest(path / manifest, {})
    else:
        found = next((each for each in (find_pictures(path, split, {}) for split in _SPLITS) if each is not None), None)
    if found is None:
        raise InputError(f"{path} holds no pictures: it needs picture files, {manifest}, or .tar or .parquet files.")
    sources: Sequence[str] = found.sources() or [""] * len(found)
    return [Photo(found, number, _below(found.name(number), folder), sources[number]) for number in range(len(found))]


def _below(name: str, folder: Path) -> str:
    path = Path(name)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else name
