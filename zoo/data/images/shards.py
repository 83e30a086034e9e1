"""Pictures in tar files, as WebDataset packs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo.data._tar import TarIndex
from zoo.data.images.pictures import COLUMNS, Picture, Pictures

__all__ = ["TarPictures"]

_PICTURES = ("jpg", "jpeg", "png", "webp")


class TarPictures(Pictures):
    """The pictures of uncompressed tar files, see `zoo.data._tar.TarIndex`.

    Args:
        shards: The files.
        columns: Names of the keys in `KEY.json`, where they are others.

    Raises:
        InputError: A shard is damaged, truncated, compressed or empty, or a name is there twice.
    """

    def __init__(self, shards: Sequence[Path], columns: Mapping[str, str]) -> None:
        self._members = TarIndex(shards, ("picture", "pictures"), _PICTURES)
        self.origin = self._members.origin
        self._columns = {field: (columns[field],) if field in columns else COLUMNS[field] for field in COLUMNS}

    def __len__(self) -> int:
        return len(self._members)

    def name(self, index: int) -> str:
        """Return `shard.tar/KEY`."""
        return self._members.name(index)

    def read(self, index: int) -> Picture:
        """Read a picture and what belongs to it."""
        return Picture(*self._members.read(index, self._columns))
