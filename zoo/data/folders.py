"""Folders of files that a user names: what is in them, in the order in which people number things."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NoReturn

from zoo.errors import InputError

__all__ = ["files_in", "natural_order"]

_NUMBERS = re.compile(r"([0-9]+)")


def natural_order(text: str) -> list[tuple[int, str]]:
    """Return a sort key that puts `ep_2` before `ep_10`."""
    parts = _NUMBERS.split(text)  # of which every second is a number, in the digits that are looked for and no others
    digits = [part.lstrip("0") if odd % 2 else part for odd, part in enumerate(parts)]
    return [(len(part) if odd % 2 else -1, part) for odd, part in enumerate(digits)]


def files_in(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the files in a folder and its subfolders, in natural order, but for what is hidden.

    Hidden are `.git`, trash, and the `._name` that macOS puts beside a file on a foreign disk. Links to folders are
    followed, each folder once, so that links in a circle end.

    Raises:
        InputError: The folder, or one inside it, cannot be listed: leaving it out would lose its files without a word.
    """

    def refuse(error: OSError) -> NoReturn:
        raise InputError(
            f"the folder {str(error.filename)!r} cannot be listed ({error.strerror}): allow it, or name the others."
        ) from error

    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = (name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(found, key=lambda file: natural_order(str(file)))
