"""Which layout a user's folder of pictures has, and what in it belongs to which split.

| layout | what is looked for, for the split `train` |
|---|---|
| a manifest | `train.jsonl` |
| COCO captions | `annotations/captions_train*.json`, beside the folder of pictures that it is named after |
| Hugging Face's `datasets` | `dataset_dict.json` and the folder `train`, or `train/state.json` (`save_to_disk`) |
| WebDataset | `train.tar`, `train-*.tar`, `train_*.tar`, `train/*.tar` |
| Parquet | `train.parquet`, `train-*.parquet`, …, also in `data/`, as on the Hugging Face Hub |
| ImageNet | `train/CLASS/*.jpg`; labels count the classes of `train` in the order of their names |
| a folder | `train/**/*.jpg` |

The caption of a picture in a folder is the text beside it, `x.txt` of `x.jpg`, if there is one.

A folder without any of them that has pictures, shards or tables is all training data.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from zoo.data.datamodule import Split
from zoo.data.images.coco import coco_pictures, find_coco
from zoo.data.images.pictures import COLUMNS, SUFFIXES, FilePictures, Pictures
from zoo.data.images.shards import TarPictures
from zoo.data.images.tables import ArrowPictures, ParquetPictures
from zoo.data.layouts import NAMES, classes_of, find_split, matching
from zoo.errors import ConfigError, InputError, shown
from zoo.strict import parse_json, read_text

__all__ = ["find_pictures", "open_pictures"]

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
    found = find_split(folder, split, splits, columns, COLUMNS, _TABLES)
    if splits is None and folder.is_dir() and any(find_coco(folder, each) for each in NAMES):
        named = find_coco(folder, split)
        found = None if named is None else (folder, named)
    return None if found is None else open_pictures(*found, columns, split)


def open_pictures(folder: Path, pattern: str, columns: Mapping[str, str], split: Split = "train") -> Pictures:
    """Return the pictures of a folder, a manifest, or shards or tables that a path or a pattern (`a-*.tar`) names.

    Raises:
        ConfigError: There is nothing of that name, or several things of different kinds.
        InputError: What is there is damaged.
    """
    path, paths = matching(folder, pattern)
    kinds = {path.suffix.lower() for path in paths}
    if len(kinds) == 1 and not paths[0].is_dir():
        (kind,) = kinds
        if kind in _TABLES:
            return _TABLES[kind](paths, columns)
        if kind == ".json" and len(paths) == 1 and (coco := coco_pictures(paths[0])) is not None:
            return coco
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
    return FilePictures.from_folder(place, classes_of(folder, place, split, SUFFIXES))


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
