"""Which layout a user's folder of pictures has, and what in it belongs to which split.

| layout | what is looked for, for the split `train` |
|---|---|
| a manifest | `train.jsonl` |
| Hugging Face's `datasets` | `dataset_dict.json` and the folder `train`, or `train/state.json` (`save_to_disk`) |
| WebDataset | `train.tar`, `train-*.tar`, `train_*.tar`, `train/*.tar` |
| Parquet | `train.parquet`, `train-*.parquet`, …, also in `data/`, as on the Hugging Face Hub |
| ImageNet | `train/CLASS/*.jpg`; labels count the classes of `train` in the order of their names |
| a folder | `train/**/*.jpg` |

A folder without any of them that has pictures, shards or tables is all training data.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from zoo.data.datamodule import Split
from zoo.data.images.pictures import COLUMNS, FilePictures, Pictures, class_names
from zoo.data.images.shards import TarPictures
from zoo.data.images.tables import ArrowPictures, ParquetPictures
from zoo.errors import ConfigError, InputError, near_matches, shown
from zoo.strict import is_there, parse_json, read_text

__all__ = ["find_pictures", "open_pictures"]

_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test",),
}
_TABLES: dict[str, type[TarPictures] | type[ParquetPictures]] = {".tar": TarPictures, ".parquet": ParquetPictures}


def find_pictures(
    folder: Path, split: Split, columns: Mapping[str, str], splits: Mapping[str, str] | None = None
) -> Pictures | None:
    """Return the pictures of a split; None if there are none.

    Args:
        folder: Where the data is.
        split: "train", "val" or "test".
        columns: What the keys or columns `image`, `label`, `caption` and `source` are called, where not that.
        splits: Path or pattern of each split, below the folder or absolute; found by the table above if None.

    Raises:
        ConfigError: There is no such folder, or the splits or columns cannot be.
        InputError: What is there is damaged.
    """
    for given, known in ((columns, COLUMNS), (splits or {}, _NAMES)):
        for name in given:
            if name not in known:
                what = "columns" if given is columns else "splits"
                raise ConfigError(f"data.{what} has the key {shown(name)}; {near_matches(str(name), known)}")
    if not is_there(folder):
        raise ConfigError(f"data.folder {str(folder)!r} does not exist.")
    if splits is not None:
        return open_pictures(folder, splits[split], columns, split) if split in splits else None
    if folder.is_file():
        return open_pictures(folder.parent, folder.name, columns, split) if split == "train" else None
    found = _find(folder, split)
    if found is None and split == "train" and not any(_find(folder, other) for other in ("val", "test")):
        found = "."
    return None if found is None else open_pictures(folder, found, columns, split)


def open_pictures(folder: Path, pattern: str, columns: Mapping[str, str], split: Split = "train") -> Pictures:
    """Return the pictures of a folder, a manifest, or shards or tables that a path or a pattern (`a-*.tar`) names.

    Raises:
        ConfigError: There is nothing of that name, or several things of different kinds.
        InputError: What is there is damaged.
    """
    path = folder / Path(pattern).expanduser()
    paths = [path] if is_there(path) else _matching(folder, Path(pattern).expanduser())
    if not paths:
        raise ConfigError(f"{str(path)!r} does not exist, and no file fits it as a pattern.")
    kinds = {path.suffix.lower() for path in paths}
    if len(kinds) == 1 and not paths[0].is_dir():
        (kind,) = kinds
        if kind in _TABLES:
            return _TABLES[kind](paths, columns)
        if kind in (".jsonl", ".json") and len(paths) == 1:
            return FilePictures.from_manifest(paths[0], columns)
    if len(paths) != 1 or not paths[0].is_dir():
        raise ConfigError(
            f"{str(path)!r} must be a folder, a manifest (.jsonl), or .tar or .parquet files; it is "
            f"{', '.join(p.name for p in paths[:4])}."
        )
    place = paths[0]
    if (place / "state.json").is_file():
        return ArrowPictures(_arrow_files(place), columns)
    for suffix, table in _TABLES.items():
        if inside := sorted(place.glob(f"*{suffix}")):
            return table(inside, columns)
    return FilePictures.from_folder(place, _classes(folder, place, split))


def _matching(folder: Path, pattern: Path) -> list[Path]:
    if pattern.is_absolute():
        folder, pattern = Path(pattern.anchor), pattern.relative_to(pattern.anchor)
    try:
        return sorted(folder.glob(str(pattern)))
    except (ValueError, NotImplementedError, IndexError):  # no pattern at all
        return []


def _find(folder: Path, split: Split) -> str | None:
    """Return the path or pattern of a split below a folder."""
    for name in _NAMES[split]:
        if (folder / f"{name}.jsonl").is_file():
            return f"{name}.jsonl"
    for name in _NAMES[split]:
        for suffix in _TABLES:
            for pattern in (f"{name}{suffix}", f"{name}[-_]*{suffix}", f"data/{name}[-_]*{suffix}"):
                if any(folder.glob(pattern)):
                    return pattern
        if (folder / name).is_dir():
            return name
    return None


def _classes(folder: Path, place: Path, split: Split) -> list[str] | None:
    """Return the names of the classes, which are those of the training data; None if it has no class folders."""
    if place == folder:  # one folder for all: what is in it need not be classes
        return None
    train = place if split == "train" else next((folder / n for n in _NAMES["train"] if (folder / n).is_dir()), None)
    if train is None or class_names(place) is None:
        return None
    return class_names(train)


def _arrow_files(folder: Path) -> list[Path]:
    """Return the files that a saved data set consists of, as its `state.json` lists them."""
    where = folder / "state.json"
    state = parse_json(read_text(where, InputError), str(where), InputError)
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise InputError(f"{folder} is a selection of rows: write it with flatten_indices() and save_to_disk again.")
    files = state.get("_data_files")
    entries = files if isinstance(files, list) else []
    names = [name for entry in entries if isinstance(entry, dict) and isinstance(name := entry.get("filename"), str)]
    if not names or len(names) != len(entries) or any(Path(name).name != name for name in names):
        raise InputError(f"{where} must list the files of the data set beside it, got {shown(files)}.")
    return [folder / name for name in names]
