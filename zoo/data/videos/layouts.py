"""Which layout a user's folder of videos has, and what in it belongs to which split.

| layout | what is looked for, for the split `train` |
|---|---|
| a manifest a split | `train.jsonl`, `train.csv` |
| one manifest | `manifest.jsonl`, `manifest.csv`, whose lines have a `split` |
| WebDataset | `train.tar`, `train-*.tar`, `train_*.tar`, `train/*.tar` |
| UCF-101, Kinetics | `train/CLASS/*.mp4`; labels count the classes of `train` in the order of their names |
| a folder | `train/**/*.mp4` |

A folder without any of them that has videos or shards is all training data.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from zoo.data.datamodule import Split
from zoo.data.layouts import NAMES, classes_of, find_split, matching
from zoo.data.videos.shots import COLUMNS, SUFFIXES, FileShots, Shot, Shots, TarShots
from zoo.errors import ConfigError

__all__ = ["find_shots", "open_shots"]

_MANIFESTS = (".jsonl", ".csv")


def find_shots(
    folder: Path, split: Split, columns: Mapping[str, str], splits: Mapping[str, str] | None = None
) -> Shots | None:
    """Return the shots of a split; None if there are none.

    Args:
        folder: Where the data is, or a single manifest, shard or video.
        split: "train", "val" or "test".
        columns: What the keys of `zoo.data.videos.shots.COLUMNS` are called, where not that.
        splits: Path or pattern of each split, below the folder or absolute; found by the table above if None.

    Raises:
        ConfigError: There is no such folder, or the splits or columns cannot be.
        InputError: What is there is damaged.
    """
    if splits is None:
        single = folder if folder.is_file() else next((p for p in _manifests(folder) if p.is_file()), None)
        if single is not None and single.suffix.lower() in _MANIFESTS:
            return FileShots.from_manifest(single, columns, NAMES[split])
    found = find_split(folder, split, splits, columns, COLUMNS, (".tar",), _MANIFESTS)
    return None if found is None else open_shots(*found, columns, split)


def open_shots(folder: Path, pattern: str, columns: Mapping[str, str], split: Split = "train") -> Shots | None:
    """Return the shots of a folder, a manifest, a video, or shards that a path or a pattern (`a-*.tar`) names.

    Returns:
        The shots; None if the lines of a manifest are all of other splits.

    Raises:
        ConfigError: There is nothing of that name, or several things of different kinds.
        InputError: What is there is damaged.
    """
    path, paths = matching(folder, pattern)
    kinds = {path.suffix.lower() for path in paths}
    if not paths[0].is_dir():
        if kinds == {".tar"}:
            return TarShots(paths, columns)
        if kinds <= set(_MANIFESTS) and len(paths) == 1:
            return FileShots.from_manifest(paths[0], columns, NAMES[split])
        if kinds <= SUFFIXES:
            return FileShots(str(path), [Shot(path) for path in paths])
    if len(paths) != 1 or not paths[0].is_dir():
        raise ConfigError(
            f"{str(path)!r} must be a folder, a manifest ({', '.join(_MANIFESTS)}), videos, or .tar files; it is "
            f"{', '.join(p.name for p in paths[:4])}."
        )
    place = paths[0]
    if inside := sorted(place.glob("*.tar")):
        return TarShots(inside, columns)
    return FileShots.from_folder(place, classes_of(folder, place, split, SUFFIXES))


def _manifests(folder: Path) -> list[Path]:
    return [folder / f"manifest{suffix}" for suffix in _MANIFESTS]
