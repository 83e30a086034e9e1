"""What readers of robot actions find, and where one episode ends and the next begins."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import InputError

__all__ = [
    "ACTIONS",
    "BORDERS",
    "EPISODE_OF_ROW",
    "FRAME_OF_ROW",
    "Found",
    "cut",
    "cut_by",
    "describe_array",
    "natural",
    "require_no_borders",
    "rows_of_episodes",
    "visible",
]

ACTIONS = ("actions", "action")
"""What the array, column or data set with the actions is usually called."""

EPISODE_OF_ROW = ("episode_index", "episode", "episode_id", "trajectory_index", "trajectory_id", "traj_id", "demo_id")
"""What the number of the episode of each row is usually called."""

FRAME_OF_ROW = ("frame_index", "frame", "step", "step_index", "timestep", "timestamp", "time")
"""What numbers or times the rows of an episode, in order."""

_OFFSETS = ("offsets",)
_ENDS = ("episode_ends", "ends")
_LENGTHS = ("lengths", "episode_lengths", "length")
_LAST = ("terminals", "timeouts", "dones", "done", "is_last")
BORDERS = (*_OFFSETS, *_ENDS, *_LENGTHS, *EPISODE_OF_ROW, *_LAST)
"""Arrays beside the actions that say where episodes end."""

_LIKE_BORDERS = re.compile(r"episode|traj|demo|offset|length|(^|_)(ends?|starts?|done|terminal)", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """What a file or folder holds.

    Args:
        arrays: [L_i, D] of each episode.
        names: Of each episode.
        control_rate: Commands a second in Hz, if it is said.
        dof_names: Of the D degrees of freedom, if it is said.
        unread: Arrays or columns that were not looked at.
    """

    arrays: list[Any]
    names: list[str]
    control_rate: float | None = None
    dof_names: tuple[str, ...] | None = None
    unread: tuple[str, ...] = ()


def visible(paths: Iterable[Path], folder: Path) -> list[Path]:
    """Return the paths below a folder that are not hidden, nor in a hidden folder, in natural order.

    File systems put files of their own beside a user's: macOS `._name` on exFAT and SMB, trash folders, `.git`.
    """
    found = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    return sorted(found, key=lambda path: natural(str(path.relative_to(folder))))


def natural(text: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts `ep_2` before `ep_10`."""
    parts = re.split(r"([0-9]+)", text)
    return [(part.isdecimal(), int(part[:18]) if part.isdecimal() else 0, part) for part in parts]


def describe_array(value: object) -> str:
    """Return dtype and shape, for messages."""
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


def cut(array: Any, name: str, where: str) -> tuple[list[Any], list[str]]:
    """Return the episodes of [L, D] (one) or [B, T, D] (B), and their names."""
    if array.ndim == 2:
        return [array], [name]
    if array.ndim == 3:
        return list(array), [f"{name}.{number:06d}" for number in range(len(array))]
    raise InputError(
        f"{where} must be [steps, DoFs] or [episodes, steps, DoFs], got shape {list(array.shape)}"
        + (": write a single degree of freedom as [steps, 1]." if array.ndim == 1 else ".")
    )


def cut_by(array: Any, borders: Mapping[str, Any], where: str) -> list[Any] | None:
    """Return the episodes of [N, D], cut as the arrays beside it say; None if none of them says anything.

    Args:
        array: The actions.
        borders: Arrays by name, of which those in `BORDERS` count.
        where: What the actions are, for messages.

    Raises:
        InputError: They do not fit the actions.
    """
    found = next((name for name in BORDERS if name in borders), None)
    if found is None:
        return None
    values = np.asarray(borders[found])
    if found in _LAST:
        return _cut_after([borders[name] for name in _LAST if name in borders], array, found, where)
    if values.ndim != 1 or values.dtype.kind not in "iu" or not len(values):
        shape = "[episodes + 1]" if found in _OFFSETS else "[steps]" if found in EPISODE_OF_ROW else "[episodes]"
        raise InputError(f"{found} must be integers {shape}, got {describe_array(values)}.")
    values = values.astype(np.int64)
    if found in EPISODE_OF_ROW:
        if len(values) != len(array):
            raise InputError(f"{found} must have one number for each of the {len(array)} rows of {where}.")
        return [array[rows] for rows in rows_of_episodes(values, None, where, found).values()]
    if found in _LENGTHS:
        if int(values.min()) < 0 or sum(values.tolist()) != len(array):
            raise InputError(
                f"{found} must be 0 or more and add up to the {len(array)} rows of {where}, they add up to "
                f"{sum(values.tolist())}."
            )
        offsets = np.concatenate([[0], np.cumsum(values)])
    else:
        offsets = values if found in _OFFSETS else np.concatenate([[0], values])
    falls = bool((np.diff(offsets) < 0).any())
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(array) or falls:
        raise InputError(
            f"{found} must rise from 0 to the {len(array)} rows of {where}, they go from {offsets[0]} to {offsets[-1]}"
            f"{' and fall in between' if falls else ''}."
        )
    return np.split(array, offsets[1:-1])


def require_no_borders(names: Iterable[str], where: str) -> None:
    """Raise `InputError` if an array or column that is not understood may say where episodes end."""
    doubtful = [name for name in names if _LIKE_BORDERS.search(name)]
    if doubtful:
        raise InputError(
            f"{where} would be read as one long episode, and {', '.join(map(repr, doubtful))} beside it may say where "
            f"episodes end: name that offsets [episodes + 1], lengths [episodes] or episode_index [steps], or leave it "
            "out."
        )


def rows_of_episodes(index: Any, frames: Any | None, where: str, name: str = "episode_index") -> dict[int, slice]:
    """Return the rows of each episode, given the episode and the frame of every row."""
    if not len(index):
        return {}
    bounds = [0, *(np.flatnonzero(np.diff(index)) + 1).tolist(), len(index)]
    rows: dict[int, slice] = {}
    for start, stop in itertools.pairwise(bounds):
        episode = int(index[start])
        if episode in rows:
            raise InputError(f"The rows of episode {episode} of {where} are scattered: sort it by {name}.")
        rows[episode] = slice(start, stop)
        if frames is not None and (np.diff(frames[start:stop]) <= 0).any():
            raise InputError(f"The frames of episode {episode} of {where} are out of order: sort by frame_index.")
    return rows


def _cut_after(flags: list[Any], array: Any, name: str, where: str) -> list[Any]:
    """Return the episodes of rows of which any flag marks the last of each."""
    last = np.zeros(len(array), dtype=bool)
    for values in map(np.asarray, flags):
        flat = values.reshape(-1) if values.ndim == 2 and values.shape[1] == 1 else values
        if flat.shape != last.shape or flat.dtype.kind not in "biuf":
            raise InputError(f"{name} must be one flag for each row of {where}, got {describe_array(values)}.")
        last |= flat != 0
    ends = np.flatnonzero(last) + 1
    return [part for part in np.split(array, ends) if len(part)]
