"""Where in a user's folder the data of a split is: the names that people give to train, val and test."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from zoo.data.collection import class_names
from zoo.data.datamodule import Split
from zoo.errors import ConfigError, near_matches, shown
from zoo.strict import is_there

__all__ = ["NAMES", "classes_of", "find_split", "matching"]

NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test",),
}
"""What people call the splits."""


def find_split(
    folder: Path,
    split: Split,
    splits: Mapping[str, str] | None,
    columns: Mapping[str, str],
    known_columns: Iterable[str],
    suffixes: Iterable[str],
    manifests: Iterable[str] = (".jsonl",),
) -> tuple[Path, str] | None:
    """Return the folder, and the path or pattern below it, of a split; None if there is none.

    Looked for are, for the split `train`, `train.jsonl` (or another suffix of manifests), then archives `train.tar`,
    `train-*.tar`, `train_*.tar` and the same in `data/`, then a folder `train`. A folder with no split at all is all
    training data.

    Args:
        folder: Where the data is, or a single file.
        split: "train", "val" or "test".
        splits: What the user says of each split; found if None.
        columns: What the user says of the names of columns.
        known_columns: Which columns there are.
        suffixes: Of archives and tables.
        manifests: Suffixes of manifests.

    Raises:
        ConfigError: There is no such folder, or the splits or columns cannot be.
    """
    for what, given, known in (("columns", columns, tuple(known_columns)), ("splits", splits or {}, tuple(NAMES))):
        for name in given:
            if name not in known:
                raise ConfigError(f"data.{what} has the key {shown(name)}; {near_matches(str(name), known)}")
    if not is_there(folder):
        raise ConfigError(f"data.folder {str(folder)!r} does not exist.")
    if splits is not None:
        return (folder, splits[split]) if split in splits else None
    if folder.is_file():
        return (folder.parent, folder.name) if split == "train" else None
    suffixes, manifests = tuple(suffixes), tuple(manifests)
    found = _find(folder, split, suffixes, manifests)
    if found is None and split == "train" and not any(_find(folder, s, suffixes, manifests) for s in ("val", "test")):
        found = "."
    return None if found is None else (folder, found)


def matching(folder: Path, pattern: str) -> tuple[Path, list[Path]]:
    """Return the path that a text is, below a folder or absolute, and the paths that it names or fits as a pattern.

    Raises:
        ConfigError: There is nothing of that name.
    """
    given = Path(pattern).expanduser()
    path = folder / given
    paths = [path] if is_there(path) else _matching(folder, given)
    if not paths:
        raise ConfigError(f"{str(path)!r} does not exist, and no file fits it as a pattern.")
    return path, paths


def _matching(folder: Path, pattern: Path) -> list[Path]:
    if pattern.is_absolute():
        folder, pattern = Path(pattern.anchor), pattern.relative_to(pattern.anchor)
    try:
        return sorted(folder.glob(str(pattern)))
    except (ValueError, NotImplementedError, IndexError):  # no pattern at all
        return []


def _find(folder: Path, split: Split, suffixes: tuple[str, ...], manifests: tuple[str, ...]) -> str | None:
    """Return the path or pattern of a split below a folder."""
    for name in NAMES[split]:
        for suffix in manifests:
            if (folder / f"{name}{suffix}").is_file():
                return f"{name}{suffix}"
    for name in NAMES[split]:
        for suffix in suffixes:
            for pattern in (f"{name}{suffix}", f"{name}[-_]*{suffix}", f"data/{name}[-_]*{suffix}"):
                if any(folder.glob(pattern)):
                    return pattern
        if (folder / name).is_dir():
            return name
    return None


def classes_of(folder: Path, place: Path, split: Split, suffixes: Collection[str]) -> list[str] | None:
    """Return the names of the classes, which are those of the training data; None if it has no class folders.

    Args:
        folder: Where the data is.
        place: Where the split is.
        split: Which it is.
        suffixes: Of files that would be no class.
    """
    if place == folder:  # one folder for all: what is in it need not be classes
        return None
    train = place if split == "train" else next((folder / n for n in NAMES["train"] if (folder / n).is_dir()), None)
    if train is None or class_names(place, suffixes) is None:
        return None
    return class_names(train, suffixes)
