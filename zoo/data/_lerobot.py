"""Robot actions out of a LeRobotDataset folder, versions 2.0, 2.1 and 3.0, without the lerobot package.

Version 2 has one Parquet file per episode and lists the episodes in `meta/episodes.jsonl`; version 3 packs many
episodes into a file and lists them in `meta/episodes/*/*.parquet`. Videos and statistics are not looked at.

Source: the format as documented at https://huggingface.co/docs/lerobot/lerobot-dataset-v3 and written by lerobot.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from zoo.data._found import EPISODE_OF_ROW, FRAME_OF_ROW, Found, visible
from zoo.data._parquet import Table, read_columns, read_parquet
from zoo.data._source import unreadable
from zoo.data.json_lines import read_json_lines
from zoo.errors import InputError, near_matches, shown
from zoo.strict import parse_json, read_text

__all__ = ["read_lerobot"]

_VERSIONS = ("v2.0", "v2.1", "v3.0")
_DEFAULT_FEATURES = ("action", "actions")
_V3_DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_FIELD = re.compile(r"\{([a-z_]+)(?::0?([0-9]{1,2})d)?\}")


@dataclass(frozen=True)
class _Episode:
    index: int
    length: int
    file: str


def read_lerobot(root: Path, column: str | Sequence[str] | None = None, split: str | None = None) -> Found:
    """Read the actions of a dataset.

    Args:
        root: The folder that holds `meta/` and `data/`.
        column: The feature with the actions, `action` or `actions` by default; or several features of one number each.
        split: An entry of `splits` in `meta/info.json`; the whole dataset by default.

    Raises:
        InputError: A file is missing or damaged, or the metadata contradict each other or the files.
        MissingExtraError: pyarrow is not installed.
    """
    info = _json(root / "meta" / "info.json")
    where = str(root / "meta" / "info.json")
    version = info.get("codebase_version")
    if version not in _VERSIONS:
        raise InputError(
            f"{where!r} is of version {version!r}; versions {', '.join(_VERSIONS)} are read. Convert older datasets "
            "with lerobot's own scripts."
        )
    rate = info.get("fps")
    if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 < rate < 1e9:
        raise InputError(f"{where!r}: fps must be a positive number, got {rate!r}.")
    features = info.get("features")
    if not isinstance(features, dict):
        raise InputError(f"{where!r} lacks 'features', the description of the columns.")
    names = _choose(features, column, where)
    episodes = _episodes_v3(root, info, where) if version == "v3.0" else _episodes_v2(root, info, where)
    _check_totals(episodes, info, where)
    if split is not None:
        episodes = _in_split(episodes, info, split, where)
    arrays, of_columns = _read(root, episodes, names[0] if len(names) == 1 else names)
    found = _dof_names(features[names[0]].get("names")) if len(names) == 1 else of_columns
    # Datasets in the wild carry one name for a whole vector; that names no joint.
    dof_names = found if found is not None and all(len(found) == array.shape[1] for array in arrays) else None
    unread = tuple(name for name in features if name not in (*names, *EPISODE_OF_ROW, *FRAME_OF_ROW))
    names = [f"episode_{episode.index:06d}" for episode in episodes]
    return Found(arrays, names, float(rate), dof_names, unread)


def _choose(features: dict[str, Any], column: str | Sequence[str] | None, where: str) -> list[str]:
    if column is None:
        names = [name for name in _DEFAULT_FEATURES if name in features][:1]
        names = names or [name for name in features if name.startswith("action.")] or [_DEFAULT_FEATURES[0]]
    else:
        names = [column] if isinstance(column, str) else list(column)
    for name in names:
        if name not in features or not isinstance(features[name], dict):
            raise InputError(f"{where!r} describes no column {name!r}; it has {', '.join(map(repr, features))}.")
    if not names:
        raise InputError("column= is empty: name at least one column.")
    return names


def _episodes_v2(root: Path, info: dict[str, Any], where: str) -> list[_Episode]:
    template = info.get("data_path")
    size = _integer(info.get("chunks_size"), f"{where!r}: chunks_size", 1)
    listing = root / "meta" / "episodes.jsonl"
    episodes = []
    _check_present(listing)
    for at, entry in read_json_lines(listing):
        index = _integer(entry.get("episode_index"), f"{at}: episode_index", 0)
        length = _integer(entry.get("length"), f"{at}: length", 0)
        file = _fill(template, {"episode_chunk": index // size, "episode_index": index}, where)
        episodes.append(_Episode(index, length, file))
    return episodes


def _episodes_v3(root: Path, info: dict[str, Any], where: str) -> list[_Episode]:
    template = info.get("data_path", _V3_DATA_PATH)
    listing = root / "meta" / "episodes"
    files = visible(listing.glob("*/*.parquet"), listing)
    if not files:
        missing = str(root / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
        raise InputError(f"{missing!r} is missing: the folder is not a complete LeRobotDataset.")
    columns = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    columns += ["dataset_from_index", "dataset_to_index"]
    episodes = []
    for path in files:
        table = read_columns(path, columns)
        for row in zip(*(table[name].to_pylist() for name in columns), strict=True):
            at = f"{str(path)!r}, episode {row[0]!r}"
            index, length, chunk, number, start, stop = (
                _integer(value, f"{at}: {name}", 0) for name, value in zip(columns, row, strict=True)
            )
            if stop - start != length:
                raise InputError(
                    f"{at}: {length} frames, but dataset_from_index to dataset_to_index is {stop - start}."
                )
            file = _fill(template, {"chunk_index": chunk, "file_index": number}, where)
            episodes.append(_Episode(index, length, file))
    return episodes


def _check_totals(episodes: list[_Episode], info: dict[str, Any], where: str) -> None:
    indices = [episode.index for episode in episodes]
    if len(set(indices)) < len(indices):
        raise InputError(f"{where!r}: the list of episodes names an episode twice.")
    found = {"total_episodes": len(episodes), "total_frames": sum(episode.length for episode in episodes)}
    for name, count in found.items():
        if name in info and info[name] != count:
            raise InputError(
                f"{where!r} says {name} = {info[name]!r}, the list of episodes has {count}: the dataset is incomplete "
                "or was edited by hand."
            )


def _in_split(episodes: list[_Episode], info: dict[str, Any], split: str, where: str) -> list[_Episode]:
    splits = info.get("splits") or {}
    if not isinstance(splits, dict):
        raise InputError(f"{where!r}: splits must be an object of names and episodes, got {shown(splits)}.")
    if split not in splits:
        raise InputError(f"{where!r} has no split {split!r}; {near_matches(split, map(str, splits))}")
    match = re.fullmatch(r"([0-9]+):([0-9]+)", str(splits[split]))
    if match is None:
        raise InputError(f"{where!r}: the split {split!r} must be like '0:50' (episodes), got {splits[split]!r}.")
    return [episode for episode in episodes if int(match[1]) <= episode.index < int(match[2])]


class _Files:
    """The files of rows of a dataset, each read once."""

    def __init__(self, root: Path, column: str | Sequence[str]) -> None:
        self._root, self._column = root, column
        self._tables: dict[str, Table] = {}

    def table(self, file: str, episode: int) -> Table:
        """Return the rows of a file.

        Raises:
            InputError: It is missing or damaged.
        """
        if file not in self._tables:
            path = self._root / file
            with unreadable(path, "a file of the dataset"):
                missing = not path.is_file()
            if missing:
                raise InputError(f"{str(path)!r}, which holds episode {episode}, is missing: download all of data/.")
            self._tables[file] = read_parquet(path, self._column)
        return self._tables[file]

    def elsewhere(self, episode: _Episode) -> dict[str, Any]:
        """Return the rows of an episode in all files of the kind that its own is, in the files' order."""
        folder = self._root / PurePosixPath(episode.file).parts[0]
        found = {}
        for path in visible(folder.rglob("*.parquet"), folder):
            file = path.relative_to(self._root).as_posix()
            table = self.table(file, episode.index)
            if table.rows_of and episode.index in table.rows_of:
                found[file] = table.actions[table.rows_of[episode.index]]
        return found


def _read(
    root: Path, episodes: list[_Episode], column: str | Sequence[str]
) -> tuple[list[Any], tuple[str, ...] | None]:
    """Return the rows of every episode, and the names of several columns; a file with many episodes is read once."""
    files = _Files(root, column)
    in_file = Counter(episode.file for episode in episodes)
    arrays = []
    for episode in episodes:
        table = files.table(episode.file, episode.index)
        if table.rows_of is None and in_file[episode.file] > 1:
            raise InputError(
                f"{str(root / episode.file)!r} holds {in_file[episode.file]} episodes and no column 'episode_index'."
            )
        rows = table.actions if table.rows_of is None else table.actions[table.rows_of.get(episode.index, slice(0, 0))]
        if len(rows) != episode.length and table.rows_of is not None:
            # lerobot's converter of 0.4.0 wrote the first episode of a file down as in the file before.
            parts = files.elsewhere(episode)
            if sum(map(len, parts.values())) == episode.length:
                rows = np.concatenate(list(parts.values())) if parts else rows
            else:
                counts = ", ".join(f"{len(part)} in {file!r}" for file, part in parts.items()) or "none in any file"
                raise _contradiction(root, episode, rows, f"; of its rows there are {counts}")
        if len(rows) != episode.length:
            raise _contradiction(root, episode, rows, "")
        arrays.append(rows)
    return arrays, files.table(episodes[0].file, episodes[0].index).dof_names if episodes else None


def _contradiction(root: Path, episode: _Episode, rows: Any, found: str) -> InputError:
    return InputError(
        f"Episode {episode.index} has {episode.length} frames by the metadata and {len(rows)} rows in "
        f"{str(root / episode.file)!r}{found}: the dataset is incomplete or was edited by hand."
    )


def _dof_names(names: Any) -> tuple[str, ...] | None:
    """Return the joint names of `features.action.names`: a list, a mapping to positions, or lists under headings."""
    if isinstance(names, dict):
        if names and all(isinstance(value, int) for value in names.values()):
            names = sorted(names, key=names.__getitem__)
        else:
            names = [name for group in names.values() for name in (group if isinstance(group, list) else [group])]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def _fill(template: Any, values: dict[str, int], where: str) -> str:
    """Fill in a path template of the dataset, which comes from a stranger.

    `str.format` would follow attributes, and a path may lead out of the folder: only whole fields of known names are
    replaced, and the result must stay inside.
    """
    if not isinstance(template, str):
        raise InputError(f"{where!r}: data_path must be a template of a path, got {template!r}.")

    def one(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise InputError(f"{where!r}: data_path has the unknown field {match[0]!r}; known: {', '.join(values)}.")
        return f"{values[match[1]]:0{int(match[2] or 0)}d}"

    filled = _FIELD.sub(one, template)
    rooted = PurePosixPath(filled).is_absolute() or PureWindowsPath(filled).anchor
    if rooted or ".." in re.split(r"[/\\]", filled) or "{" in filled or "}" in filled or "\0" in filled:
        raise InputError(
            f"{where!r}: data_path {template!r} is not a path inside the dataset, with fields like "
            "{episode_index:06d}."
        )
    return filled


def _integer(value: Any, what: str, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
        raise InputError(f"{what} must be an integer of at least {least}, got {value!r}.")
    return value


def _check_present(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{str(path)!r} is missing: the folder is not a complete LeRobotDataset.")


def _json(path: Path) -> dict[str, Any]:
    _check_present(path)
    return parse_json(read_text(path, InputError), repr(str(path)), InputError)
