"""Robot actions out of one Parquet file: the columns that are wanted, nothing else, as one matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data._found import EPISODE_OF_ROW, FRAME_OF_ROW, rows_of_episodes
from zoo.data._source import unreadable
from zoo.errors import InputError, MissingExtraError

__all__ = ["Table", "read_columns", "read_parquet"]

_DEFAULT_COLUMNS = ("action", "actions")


@dataclass(frozen=True)
class Table:
    """The actions of a file.

    Args:
        actions: [rows, D].
        rows_of: The rows of each episode by its number, in the order of the file; None where no column has that.
        dof_names: Of the D degrees of freedom, where there are several columns.
        unread: Columns that were not looked at.
    """

    actions: Any
    rows_of: dict[int, slice] | None
    dof_names: tuple[str, ...] | None
    unread: tuple[str, ...]


def read_parquet(path: Path, column: str | Sequence[str] | None) -> Table:
    """Read the actions of a file.

    Args:
        path: The file.
        column: A column of lists (or of single numbers), or several of either, side by side. None takes `action` or
            `actions`, or else all columns named `action.…`.

    Raises:
        InputError: The file or a column is missing, a value is missing, lists differ in length, or the rows of an
            episode are scattered or out of order.
    """
    with _open(path) as file:
        present = _columns(file, path)
        if column is None:
            wanted = [name for name in _DEFAULT_COLUMNS if name in present][:1]
            wanted = wanted or [name for name in present if name.startswith("action.")] or [_DEFAULT_COLUMNS[0]]
        else:
            wanted = [column] if isinstance(column, str) else list(column)
        if not wanted:
            raise InputError("column= is empty: name at least one column.")
        index = next((name for name in EPISODE_OF_ROW if name in present and name not in wanted), None)
        frame = next((name for name in FRAME_OF_ROW if name in present and name not in wanted), None)
        order = [name for name in (index, frame) if name is not None]
        table = _read(file, [*wanted, *order], path)
    parts = [_matrix(table[name], f"column {name!r} of {str(path)!r}") for name in wanted]
    actions = np.concatenate(parts, axis=1)
    dof_names = None
    if len(wanted) > 1:
        widths = [part.shape[1] for part in parts]
        dof_names = tuple(
            name if width == 1 else f"{name}.{place}"
            for name, width in zip(wanted, widths, strict=True)
            for place in range(width)
        )
    unread = tuple(name for name in present if name not in (*wanted, *order))
    if index is None:
        return Table(actions, None, dof_names, unread)
    frames = None if frame is None else _ordered(table[frame], frame, path)
    rows_of = rows_of_episodes(_integers(table[index], index, path), frames, repr(str(path)), index)
    return Table(actions, rows_of, dof_names, unread)


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


def _integers(array: Any, name: str, path: Path) -> Any:
    import pyarrow as pa

    if not pa.types.is_integer(array.type) or array.null_count:
        raise InputError(f"{name} of {str(path)!r} must be integers, got {array.type}.")
    return array.to_numpy(zero_copy_only=False).astype(np.int64)


def _ordered(array: Any, name: str, path: Path) -> Any:
    """Return what numbers or times the rows; times that are no plain numbers tell nothing."""
    import pyarrow as pa

    if pa.types.is_floating(array.type) and not array.null_count:
        return array.to_numpy(zero_copy_only=False)
    return _integers(array, name, path) if name in FRAME_OF_ROW[:1] or pa.types.is_integer(array.type) else None
