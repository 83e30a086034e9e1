"""The pictures of a page: a few of what is measured, as everything makes them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from zoo.data._image import checked_8_bit
from zoo.evaluation.items import balanced
from zoo.metrics.rows import Row

__all__ = ["Gallery"]


class Gallery:
    """Keeps a few pictures as PNG.

    Args:
        photos: What is measured, each with a `source`, a `key` and a `name`.
        count: How many of these are kept, as many of each source as there are.
    """

    def __init__(self, photos: Sequence[Any], count: int) -> None:
        numbers = {photo.key: number for number, photo in enumerate(photos)}
        chosen = balanced(photos, lambda photo: photo.source, lambda photo: photo.key, count)
        self._names = {numbers[photo.key]: photo.name for photo in chosen}
        self._made: dict[str, dict[int, bytes]] = {}
        self._prefixes: dict[str, dict[int, dict[int, bytes]]] = {}

    def add(self, name: str, start: int, pictures: Tensor) -> None:
        """Keep those of a batch, of which the first has the number `start`, as a system made them."""
        self._made.setdefault(name, {}).update(self._kept(start, pictures))

    def add_prefix(self, name: str, length: int, start: int, pictures: Tensor) -> None:
        """Keep those of a batch as a system made them of the first tokens."""
        lengths = self._prefixes.setdefault(name, {})
        lengths.setdefault(length, {}).update(self._kept(start, pictures))

    def pictures(self, rows: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
        """Return what was kept, as `Report.pictures` has it.

        Args:
            rows: What was measured of every picture, by system.

        Returns:
            `names`, by number of the picture; `made`, PNG by number by system, "original" among these; `prefixes`, PNG
            by number by number of tokens by system; `psnr`, by number by system.
        """
        psnr = {
            name: {number: found[number]["psnr"] for number in self._names if "psnr" in found[number]}
            for name, found in rows.items()
            if len(found) > max(self._names, default=-1)
        }
        return {"names": self._names, "made": self._made, "prefixes": self._prefixes, "psnr": psnr}

    def _kept(self, start: int, pictures: Tensor) -> dict[int, bytes]:
        numbers = range(start, start + len(pictures))
        return {number: self.encode(pictures[number - start]) for number in numbers if number in self._names}

    def encode(self, pixels: Tensor) -> bytes:
        """Return a picture (3, H, W) as PNG."""
        file = io.BytesIO()
        picture = Image.fromarray(checked_8_bit(pixels).permute(1, 2, 0).contiguous().numpy())
        picture.save(file, "PNG", optimize=True)
        return file.getvalue()
