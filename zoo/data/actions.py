"""Reading robot actions from a user's files, and cutting them into chunks.

`read_actions` takes what people have:

| path | read as |
|---|---|
| `.npy` | [L, D] one episode, or [B, T, D] B episodes |
| `.npz` | one array of the archive, as above, or [N, D] cut at `offsets` (see below) |
| `.parquet` | a column of lists, or several columns of numbers; `episode_index` separates episodes |
| a folder with `meta/info.json` | a LeRobotDataset 2.0, 2.1 or 3.0, from its metadata and Parquet files alone |
| another folder | the `.npy` files in it, in natural order |

An archive with many episodes holds `actions` [N, D] and `offsets` [E + 1] (episode e is `actions[offsets[e]:
offsets[e + 1]]`), and may hold `names` [E], `split` [E], `dof_names` [D] and `control_rate`. Nothing is ever unpickled.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.data._lerobot import read_lerobot
from zoo.data._parquet import read_parquet
from zoo.data._source import local_path, unreadable
from zoo.data.folders import natural_order
from zoo.errors import InputError, near_matches

__all__ = ["ActionEpisodes", "chunk_episodes", "chunk_starts", "read_actions"]

_DEFAULT_KEYS = ("actions", "action")


@dataclass(frozen=True, eq=False)
class ActionEpisodes:
    """Robot actions of one or more episodes, checked: float32, finite, the same degrees of freedom throughout.

    Args:
        episodes: One array [L_i, D] per episode, L_i >= 1 steps of D degrees of freedom.
        names: One name per episode.
        control_rate: Commands a second in Hz, where the source says it.
        dof_names: D names, where the source has them.

    Raises:
        InputError: The arrays, names and rate do not fit together, or a value is not finite.
    """

    episodes: list[NDArray[np.float32]]
    names: list[str]
    control_rate: float | None = None
    dof_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.episodes:
            raise InputError("There is no episode: at least one is needed.")
        if len(self.names) != len(self.episodes):
            raise InputError(f"{len(self.episodes)} episodes need as many names, got {len(self.names)}.")
        for array, name in zip(self.episodes, self.names, strict=True):
            if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != 2:
                raise InputError(f"Episode {name!r} must be a float32 array [steps, DoFs], got {_describe(array)}.")
        width = self.num_dofs
        for array, name in zip(self.episodes, self.names, strict=True):
            if array.shape[0] == 0 or array.shape[1] == 0:
                raise InputError(f"Episode {name!r} is empty (shape {array.shape}): leave it out.")
            if array.shape[1] != width:
                raise InputError(
                    f"Episode {name!r} has {array.shape[1]} degrees of freedom and {self.names[0]!r} has {width}: read "
                    "robots of different kinds separately."
                )
            self._check_finite(array, name)
        if self.control_rate is not None and not (math.isfinite(self.control_rate) and self.control_rate > 0):
            raise InputError(f"control_rate must be a positive number of Hz or None, got {self.control_rate!r}.")
        if self.dof_names is not None and len(self.dof_names) != width:
            raise InputError(f"{width} degrees of freedom need as many dof_names, got {self.dof_names!r}.")

    @property
    def num_dofs(self) -> int:
        """D, the degrees of freedom."""
        return int(self.episodes[0].shape[1])

    @property
    def num_steps(self) -> int:
        """Steps of all episodes together."""
        return sum(len(array) for array in self.episodes)

    def _check_finite(self, array: NDArray[np.float32], name: str) -> None:
        bad = ~np.isfinite(array)
        if not bad.any():
            return
        step, dof = (int(index) for index in np.argwhere(bad)[0])
        label = f"{dof} ({self.dof_names[dof]})" if self.dof_names and dof < len(self.dof_names) else f"{dof}"
        raise InputError(
            f"Episode {name!r} holds {array[step, dof]} at step {step}, DoF {label}; {int(bad.sum())} of its values "
            "are not finite as float32. Repair or drop the episode."
        )


def read_actions(
    path: str | os.PathLike[str],
    *,
    column: str | Sequence[str] | None = None,
    key: str | None = None,
    split: str | None = None,
) -> ActionEpisodes:
    """Read robot actions from a file or folder.

    Args:
        path: See the table at the top of this module. Local paths only.
        column: For Parquet and LeRobotDatasets, the column of lists with the actions (default `action` or `actions`),
            or the columns of numbers that make up an action, one a degree of freedom.
        key: For `.npz`, the array to read (default `actions` or `action`, or the only one there is).
        split: Read only this part: the `split` entries of an archive, or a LeRobotDataset's `splits`.

    Raises:
        InputError: The path, its format, the choice, or the numbers in it cannot be used. Says which episode, step and
            degree of freedom.
        MissingExtraError: Parquet needs pyarrow, and it is not installed.
    """
    source = local_path(path, or_folder=True)
    if source.is_dir() and (source / "meta" / "info.json").is_file():
        _refuse("a LeRobotDataset", key=key)
        lerobot = read_lerobot(source, column, split)
        return _episodes(lerobot.arrays, lerobot.names, lerobot.control_rate, lerobot.dof_names)
    if source.is_dir():
        _refuse("a folder of .npy files", key=key, column=column, split=split)
        return _read_folder(source)
    suffix = source.suffix.lower()
    if suffix == ".npy":
        _refuse("a .npy file", key=key, column=column, split=split)
        return _episodes(*_cut(_load_npy(source), source.stem, str(source)))
    if suffix == ".npz":
        _refuse("a .npz file", column=column)
        return _read_npz(source, key, split)
    if suffix == ".parquet":
        _refuse("a .parquet file", key=key, split=split)
        actions, rows_of = read_parquet(source, column)
        dof_names = None if column is None or isinstance(column, str) else tuple(column)
        if rows_of is None:
            return _episodes([actions], [source.stem], None, dof_names)
        names = [f"episode_{index:06d}" for index in rows_of]
        return _episodes([actions[rows] for rows in rows_of.values()], names, None, dof_names)
    raise InputError(
        f"{str(source)!r} is not of a kind that actions are read from: .npy, .npz, .parquet, a folder of .npy files, "
        "or a LeRobotDataset folder."
    )


def chunk_starts(lengths: Sequence[int], horizon: int, stride: int | None = None) -> NDArray[np.int64]:
    """Return where the chunks of `chunk_episodes` start.

    Args:
        lengths: Steps of each episode.
        horizon: Steps T of a chunk.
        stride: Steps between starts, `horizon` by default.

    Returns:
        [n, 2]: the number of the episode, and the first step in it. In every episode the starts are 0, stride,
        2 * stride, ... up to the first chunk that reaches the end.

    Raises:
        InputError: The horizon is not positive, or the stride not in 1..horizon (a longer one would drop steps).
    """
    stride = horizon if stride is None else stride
    if horizon < 1:
        raise InputError(f"The horizon must be at least 1 step, got {horizon}.")
    if not 1 <= stride <= horizon:
        raise InputError(f"The stride must lie in 1..{horizon} (the horizon), got {stride}: a longer one drops steps.")
    counts = [max(0, -(-(length - horizon) // stride)) + 1 for length in lengths]
    rows = [(episode, stride * number) for episode, count in enumerate(counts) for number in range(count)]
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def chunk_episodes(
    episodes: ActionEpisodes | Sequence[NDArray[np.float32]], horizon: int, stride: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cut episodes into chunks of one horizon; nothing is dropped, and no chunk spans two episodes.

    Args:
        episodes: What `read_actions` returned, or arrays [L_i, D].
        horizon: Steps T of a chunk.
        stride: Steps between the starts of two chunks, `horizon` by default (chunks then do not overlap).

    Returns:
        Chunks [n, T, D] in the order of `chunk_starts`, and the valid steps of each [n]. Where an episode ends inside a
        chunk, its last action is repeated to the end; the valid steps do not count these.

    Raises:
        InputError: See `chunk_starts` and `ActionEpisodes`.
    """
    if not isinstance(episodes, ActionEpisodes):
        arrays = [_as_float32(array, f"episode {number}") for number, array in enumerate(episodes)]
        episodes = ActionEpisodes(arrays, [str(number) for number in range(len(arrays))])
    lengths = np.array([len(array) for array in episodes.episodes])
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    episode, start = chunk_starts(lengths.tolist(), horizon, stride).T
    step = np.minimum(start[:, None] + np.arange(horizon), lengths[episode, None] - 1)
    chunks = np.concatenate(episodes.episodes)[first[episode, None] + step]
    return chunks, np.minimum(lengths[episode] - start, horizon).astype(np.int64)


def _episodes(
    arrays: Sequence[Any],
    names: Sequence[str],
    control_rate: float | None = None,
    dof_names: tuple[str, ...] | None = None,
) -> ActionEpisodes:
    """Bring what a reader found to float32 and check it."""
    ready = [_as_float32(array, f"episode {name!r}") for array, name in zip(arrays, names, strict=True)]
    return ActionEpisodes(ready, list(names), control_rate, dof_names)


def _as_float32(array: Any, what: str) -> NDArray[np.float32]:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise InputError(f"{what} must be an array of numbers, got {_describe(array)}.")
    # A float64 beyond float32's range becomes infinite, which the check for finite values then reports by place.
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def _describe(value: object) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


def _refuse(kind: str, **arguments: object) -> None:
    """Refuse arguments that say nothing about this kind of source, rather than ignore them."""
    for name, value in arguments.items():
        if value is not None:
            raise InputError(f"{name}={value!r} has no meaning for {kind}: leave it out.")


def _cut(array: Any, name: str, where: str) -> tuple[list[Any], list[str]]:
    """Return the episodes of [L, D] (one) or [B, T, D] (B), and their names."""
    if array.ndim == 2:
        return [array], [name]
    if array.ndim == 3:
        return list(array), [f"{name}.{number:06d}" for number in range(len(array))]
    raise InputError(
        f"{where} must be [steps, DoFs] or [episodes, steps, DoFs], got shape {list(array.shape)}"
        + (": write a single degree of freedom as [steps, 1]." if array.ndim == 1 else ".")
    )


def _load_npy(path: Path) -> Any:
    with unreadable(path, "a NumPy array of numbers (objects are never unpickled)"), path.open("rb") as file:
        array = np.load(file, allow_pickle=False)
    if not isinstance(array, np.ndarray):  # np.load goes by content, not by name
        array.close()
        raise InputError(f"{str(path)!r} is an archive of arrays: name it .npz.")
    return array


def _read_folder(folder: Path) -> ActionEpisodes:
    files = sorted(
        (path for path in folder.iterdir() if path.suffix.lower() == ".npy"), key=lambda path: natural_order(path.stem)
    )
    if not files:
        raise InputError(f"{str(folder)!r} holds neither .npy files nor a LeRobotDataset (meta/info.json).")
    arrays: list[Any] = []
    names: list[str] = []
    for path in files:
        more, their = _cut(_load_npy(path), path.stem, str(path))
        arrays += more
        names += their
    return _episodes(arrays, names)


def _read_npz(path: Path, key: str | None, split: str | None) -> ActionEpisodes:
    # Opened here, since NumPy leaves a damaged archive open.
    with unreadable(path, "an archive of number arrays (objects are never unpickled)"), path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError(f"{str(path)!r} holds a single array: name it .npy.")
        with archive:
            key = _choose_key(archive.files, key, str(path))
            wanted = {key, "offsets", "names", "split", "dof_names", "control_rate"} & set(archive.files)
            held = {name: archive[name] for name in wanted}
    array, where = held[key], f"{key!r} in {str(path)!r}"
    if "offsets" in held and array.ndim == 2:
        arrays = _cut_at(array, held["offsets"], where)
        names = [f"{path.stem}.{number:06d}" for number in range(len(arrays))]
    else:
        arrays, names = _cut(array, path.stem, where)
    names = _labels(held, "names", len(arrays), path) or names
    if split is not None:
        labels = _labels(held, "split", len(arrays), path)
        if split not in labels:
            raise InputError(f"{str(path)!r} has no split {split!r}; {near_matches(split, labels)}")
        arrays = [item for item, label in zip(arrays, labels, strict=True) if label == split]
        names = [name for name, label in zip(names, labels, strict=True) if label == split]
    rate = held.get("control_rate")
    if rate is not None and (rate.size != 1 or rate.dtype.kind not in "fiu"):
        raise InputError(f"control_rate in {str(path)!r} must be one number, got {_describe(rate)}.")
    dof_names = tuple(_labels(held, "dof_names", array.shape[-1], path)) or None
    return _episodes(arrays, names, None if rate is None else float(rate.item()), dof_names)


def _choose_key(keys: list[str], key: str | None, where: str) -> str:
    if key is not None:
        if key not in keys:
            raise InputError(f"{where!r} has no array {key!r}; {near_matches(key, keys)}")
        return key
    found = [name for name in _DEFAULT_KEYS if name in keys] or (keys if len(keys) == 1 else [])
    if not found:
        raise InputError(f"{where!r} has no array 'actions': pass key=, one of {', '.join(map(repr, keys)) or 'none'}.")
    return found[0]


def _cut_at(array: Any, offsets: Any, where: str) -> list[Any]:
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or len(offsets) < 2:
        raise InputError(f"offsets must be integers [episodes + 1], got {_describe(offsets)}.")
    falls = bool((np.diff(offsets.astype(np.int64)) < 0).any())
    if offsets[0] != 0 or offsets[-1] != len(array) or falls:
        raise InputError(
            f"offsets must rise from 0 to the {len(array)} rows of {where}, they go from {offsets[0]} to {offsets[-1]}"
            f"{' and fall in between' if falls else ''}."
        )
    return np.split(array, offsets[1:-1])


def _labels(held: dict[str, Any], name: str, count: int, path: Path) -> list[str]:
    """Return the strings stored under a name, none if there is no such array."""
    if name not in held:
        return []
    array = held[name]
    if array.shape != (count,) or array.dtype.kind != "U":
        raise InputError(f"{name!r} in {str(path)!r} must be {count} strings, got {_describe(array)}.")
    return [str(item) for item in array]
