"""Robot actions out of one Parquet file: the columns that are wanted, nothing else, as one matrix."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data._source import unreadable
from zoo.errors import InputError, MissingExtraError

__all__ = ["read_columns", "read_parquet"]

_DEFAULT_COLUMNS = ("action", "actions")


def read_parquet(path: Path, column: str | Sequence[str] | None) -> tuple[Any, dict[int, slice] | None]:
    """Read the actions of a file.

    Args:
        path: The file.
        column: A column of lists (or of single numbers), or several columns of numbers; None takes `action` or
            `actions`.

    Returns:
        The actions [rows, D], and the rows of each episode by its `episode_index`, in the order of the file; None
        where the file has no such column.

    Raises:
        InputError: The file or a column is missing, a value is missing, lists differ in length, or the rows of an
            episode are scattered or out of order.
    """
    with _open(path) as file:
        present = _columns(file, path)
        if column is None:
            wanted = [next((name for name in _DEFAULT_COLUMNS if name in present), _DEFAULT_COLUMNS[0])]
        else:
            wanted = [column] if isinstance(column, str) else list(column)
        if not wanted:
            raise InputError("column= is empty: name at least one column.")
        order = [name for name in ("episode_index", "frame_index") if name in present]
        table = _read(file, [*wanted, *order], path)
    parts = [_matrix(table[name], f"column {name!r} of {str(path)!r}") for name in wanted]
    if len(parts) > 1 and any(part.shape[1] != 1 for part in parts):
        raise InputError(f"Several columns must hold one number each, and one of {wanted} holds lists: name it alone.")
    actions = np.concatenate(parts, axis=1)
    if "episode_index" not in order:
        return actions, None
    frames = _integers(table["frame_index"], path) if "frame_index" in order else None
    return actions, _episode_rows(_integers(table["episode_index"], path), frames, path)


def read_columns(path: Path, columns: Sequence[str]) -> dict[str, Any]:
    """Read columns of a Parquet file as Arrow arrays by name, without touching the others.

    Raises:
        InputError: The file is not Parquet, or lacks a column; the message lists those there are.
        MissingExtraError: pyarrow is not installed.
    """
    with _open(path) as file:
        return _read(file, columns, path)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtraError(
            "Parquet files and LeRobotDatasets need pyarrow: pip install 'tokenizer-zoo[actions]'."
        ) from error
    with unreadable(path, "Parquet"), parquet.ParquetFile(path) as file:
        yield file


def _columns(file: Any, path: Path) -> list[str]:
    names = list(file.schema_arrow.names)
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(f"{str(path)!r} has more than one column named {', '.join(map(repr, doubled))}.")
    return names


def _read(file: Any, columns: Sequence[str], path: Path) -> dict[str, Any]:
    present = _columns(file, path)
    for name in columns:
        if name not in present:
            raise InputError(f"{str(path)!r} has no column {name!r}; it has {', '.join(map(repr, present))}.")
    # Arrow reads "action.x" along with "action", so that the table is asked by name afterwards.
    table = file.read(columns=list(columns))
    return {name: table.column(name).combine_chunks() for name in columns}


def _matrix(array: Any, what: str) -> Any:
    """Return a column of numbers as [rows, 1], a column of equally long lists as [rows, D]."""
    import pyarrow as pa
    import pyarrow.compute as pc

    _no_nulls(array, what)
    kind = array.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return _numbers(array, what)[:, None]
    lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)
    if len(lengths) == 0:
        return np.zeros((0, 0), dtype=np.float32)
    if (other := np.flatnonzero(lengths != lengths[0])).size:
        row = int(other[0])
        raise InputError(f"Row {row} of {what} has {lengths[row]} values and row 0 has {lengths[0]}: one robot a file.")
    flat = array.flatten()
    if flat.null_count:
        row = int(np.flatnonzero(flat.is_null().to_numpy(zero_copy_only=False))[0]) // int(lengths[0])
        raise InputError(f"Row {row} of {what} has a missing value.")
    return _numbers(flat, what).reshape(len(lengths), int(lengths[0]))


def _no_nulls(array: Any, what: str) -> None:
    if array.null_count:
        row = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        raise InputError(f"Row {row} of {what} is missing ({array.null_count} in all).")


def _numbers(array: Any, what: str) -> Any:
    import pyarrow as pa

    kind = array.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise InputError(f"{what} must hold numbers or lists of numbers, it holds {kind}.")
    return array.to_numpy(zero_copy_only=False)


def _integers(array: Any, path: Path) -> Any:
    import pyarrow as pa

    if not pa.types.is_integer(array.type) or array.null_count:
        raise InputError(f"episode_index and frame_index of {str(path)!r} must be integers, got {array.type}.")
    return array.to_numpy(zero_copy_only=False).astype(np.int64)


def _episode_rows(index: Any, frames: Any | None, path: Path) -> dict[int, slice]:
    """Return the rows of each episode, given the episode and the frame of every row."""
    if not len(index):
        return {}
    bounds = [0, *(np.flatnonzero(np.diff(index)) + 1).tolist(), len(index)]
    rows: dict[int, slice] = {}
    for start, stop in itertools.pairwise(bounds):
        episode = int(index[start])
        if episode in rows:
            raise InputError(f"The rows of episode {episode} of {str(path)!r} are scattered: sort it by episode_index.")
        rows[episode] = slice(start, stop)
        if frames is not None and (np.diff(frames[start:stop]) <= 0).any():
            raise InputError(f"The frames of episode {episode} of {str(path)!r} are out of order: sort by frame_index.")
    return rows
