"""Robot actions out of CSV: one step a row, one degree of freedom a column."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data._found import ACTIONS, EPISODE_OF_ROW, FRAME_OF_ROW, Found, require_no_borders, rows_of_episodes
from zoo.errors import InputError, near_matches
from zoo.strict import read_text

__all__ = ["read_csv"]

_MOST = 2**31
_NOT_ACTIONS = ("obs", "state", "reward", "done", "task")


def read_csv(path: Path, column: str | Sequence[str] | None) -> Found:
    """Read the actions of a file.

    Args:
        path: The file; fields are separated by commas, semicolons or tabs. The first row may name the columns.
        column: The columns with the actions, one a degree of freedom. None takes those whose name begins with
            "action", or all but those that number episodes and steps.

    Raises:
        InputError: It is no such table, or a column is missing.
    """
    where = str(path)
    text = read_text(path, InputError, _MOST)
    delimiter = max(",;\t", key=text[: text.find("\n") if "\n" in text else None].count)
    lines = io.StringIO(text, newline="")  # cut at \n and \r alone: `splitlines` would do so inside a field too
    try:
        rows = [row for row in csv.reader(lines, delimiter=delimiter, strict=True) if row]
    except csv.Error as error:
        raise InputError(f"{where!r} cannot be read as CSV: {error}.") from error
    if not rows:
        raise InputError(f"{where!r} holds no rows.")
    header = None if _are_numbers(rows[0]) else [name.strip() for name in rows.pop(0)]
    names = header or [str(number) for number in range(len(rows[0]))]
    if len(set(names)) < len(names):
        raise InputError(f"{where!r} has more than one column of one name: {', '.join(map(repr, names))}.")
    wanted = _wanted(names, column, header is not None, where)
    index = next((name for name in EPISODE_OF_ROW if name in names and name not in wanted), None)
    frame = next((name for name in FRAME_OF_ROW if name in names and name not in wanted), None)
    actions = _values(rows, names, wanted, where)
    unread = tuple(name for name in names if name not in (*wanted, index, frame))
    dof_names = tuple(wanted) if header else None
    if index is None:
        require_no_borders(names if column is None else unread, where)
        return Found([actions], [path.stem], None, dof_names, unread)
    numbers = _values(rows, names, [index], where)[:, 0]
    if (numbers != np.floor(numbers)).any():
        raise InputError(f"{index} of {where!r} must be whole numbers.")
    frames = None if frame is None else _values(rows, names, [frame], where)[:, 0]
    rows_of = rows_of_episodes(numbers, frames, repr(where), index)
    return Found(
        [actions[part] for part in rows_of.values()],
        [f"{path.stem}.{number:06d}" for number in rows_of],
        None,
        dof_names,
        unread,
    )


def _wanted(names: list[str], column: str | Sequence[str] | None, is_named: bool, where: str) -> list[str]:
    if column is not None:
        wanted = [column] if isinstance(column, str) else list(column)
        if not wanted:
            raise InputError("column= is empty: name at least one column.")
        for name in wanted:
            if name not in names:
                raise InputError(f"{where!r} has no column {name!r}; {near_matches(name, names)}")
        return wanted
    if not is_named:
        return names
    if found := [name for name in names if name.lower().startswith(ACTIONS[1])]:
        return found
    found = [name for name in names if name not in (*EPISODE_OF_ROW, *FRAME_OF_ROW)]
    if not found or any(name.lower().startswith(_NOT_ACTIONS) for name in found):
        raise InputError(
            f"{where!r} does not say which columns are actions: name them with column=, out of "
            f"{', '.join(map(repr, names))}."
        )
    return found


def _are_numbers(row: list[str]) -> bool:
    try:
        return bool([float(field) for field in row])
    except ValueError:
        return False


def _values(rows: list[list[str]], names: list[str], wanted: list[str], where: str) -> Any:
    places = [names.index(name) for name in wanted]
    values = np.empty((len(rows), len(places)))
    for number, row in enumerate(rows):
        if len(row) != len(names):
            raise InputError(f"{where!r}: row {number} of the data has {len(row)} fields, not {len(names)}.")
        for target, place in enumerate(places):
            try:
                values[number, target] = float(row[place])
            except ValueError as error:
                raise InputError(
                    f"{where!r}: row {number} of the data has {row[place]!r:.60} in column {names[place]!r}, which is "
                    "no number."
                ) from error
    return values
