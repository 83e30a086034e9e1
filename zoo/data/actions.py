"""Reading robot actions from a user's files, and cutting them into chunks.

`read_actions` takes what people have:

| path | read as |
|---|---|
| `.npy` | [L, D] one episode, or [B, T, D] B episodes |
| `.npz` | one array of the archive, as above, or [N, D] cut into episodes (see below); or an array [L, D] an episode, \
named `ep_0`, `ep_1` … or the like |
| `.parquet` | columns of lists or of numbers; `episode_index` or the like separates episodes |
| `.csv` | a row a step, a column a degree of freedom; `episode_index` or the like separates episodes |
| `.hdf5`, `.h5` | as ALOHA, robomimic, LIBERO and D4RL write it (see `zoo/data/_hdf5.py`) |
| a folder with `meta/info.json` | a LeRobotDataset 2.0, 2.1 or 3.0, from its metadata and Parquet files alone |
| another folder | the files of one of these kinds in it, in natural order; hidden ones are left out |

An archive with many episodes holds `actions` [N, D] and `offsets` [E + 1] (episode e is `actions[offsets[e]:
offsets[e + 1]]`), `episode_ends` [E], `lengths` [E], `episode_index` [N], or flags `dones` or `terminals` [N], and may
hold `names` [E], `split` [E], `dof_names` [D] and `control_rate`. Nothing is ever unpickled.
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

from zoo.data._archives import read_npy, read_npz
from zoo.data._csv import read_csv
from zoo.data._found import Found, describe_array, require_no_borders, visible
from zoo.data._hdf5 import read_hdf5
from zoo.data._lerobot import read_lerobot
from zoo.data._parquet import read_parquet
from zoo.data._source import local_path
from zoo.errors import InputError

__all__ = ["ActionEpisodes", "chunk_episodes", "chunk_starts", "read_actions"]


@dataclass(frozen=True, eq=False)
class ActionEpisodes:
    """Robot actions of one or more episodes, checked: float32, finite, the same degrees of freedom throughout.

    Args:
        episodes: One array [L_i, D] per episode, L_i >= 1 steps of D degrees of freedom.
        names: One name per episode.
        control_rate: Commands a second in Hz, where the source says it.
        dof_names: D names, where the source has them.
        unread: Arrays or columns of the source that were not looked at, such as observations.

    Raises:
        InputError: The arrays, names and rate do not fit together, or a value is not finite.
    """

    episodes: list[NDArray[np.float32]]
    names: list[str]
    control_rate: float | None = None
    dof_names: tuple[str, ...] | None = None
    unread: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.episodes:
            raise InputError("There is no episode: at least one is needed.")
        if len(self.names) != len(self.episodes):
            raise InputError(f"{len(self.episodes)} episodes need as many names, got {len(self.names)}.")
        for array, name in zip(self.episodes, self.names, strict=True):
            if not isinstance(array, np.ndarray) or array.dtype != np.float32 or array.ndim != 2:
                raise InputError(
                    f"Episode {name!r} must be a float32 array [steps, DoFs], got {describe_array(array)}."
                )
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
        column: For Parquet, CSV and LeRobotDatasets, the column with the actions (default `action` or `actions`, or all
            that begin with `action.`), or the columns that make up an action side by side.
        key: For `.npz` and HDF5, the array to read (default `actions` or `action`, or the only one there is).
        split: Read only this part: the `split` entries of an archive, a LeRobotDataset's `splits`, or a list under
            `mask` of HDF5.

    Raises:
        InputError: The path, its format, the choice, or the numbers in it cannot be used. Says which episode, step and
            degree of freedom.
        MissingExtraError: Parquet needs pyarrow, HDF5 needs h5py, and it is not installed.
    """
    source = local_path(path, or_folder=True)
    given = {"column": column, "key": key, "split": split}
    if source.is_dir() and (source / "meta" / "info.json").is_file():
        _refuse("a LeRobotDataset", key=key)
        return _episodes(read_lerobot(source, column, split))
    if source.is_dir():
        return _episodes(_read_folder(source, given))
    return _episodes(_read_file(source, given))


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


def _episodes(found: Found) -> ActionEpisodes:
    """Bring what a reader found to float32 and check it."""
    arrays = [_as_float32(array, f"episode {name!r}") for array, name in zip(found.arrays, found.names, strict=True)]
    return ActionEpisodes(arrays, list(found.names), found.control_rate, found.dof_names, found.unread)


def _as_float32(array: Any, what: str) -> NDArray[np.float32]:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise InputError(f"{what} must be an array of numbers, got {describe_array(array)}.")
    # A float64 beyond float32's range becomes infinite, which the check for finite values then reports by place.
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def _refuse(kind: str, **arguments: object) -> None:
    """Refuse arguments that say nothing about this kind of source, rather than ignore them."""
    for name, value in arguments.items():
        if value is not None:
            raise InputError(f"{name}={value!r} has no meaning for {kind}: leave it out.")


def _read_file(path: Path, given: dict[str, Any]) -> Found:
    """Read one file with the arguments of `read_actions` that say something about its kind."""
    suffix = path.suffix.lower()
    if suffix not in _TAKES:
        raise InputError(
            f"{str(path)!r} is not of a kind that actions are read from: {', '.join(_TAKES)}, a folder of files of one "
            "of these kinds, or a LeRobotDataset folder. From anything else, such as rosbags or RLDS, write one array "
            "(steps, degrees of freedom) an episode: numpy.savez('actions.npz', ep_0=…, ep_1=…)."
        )
    takes = _TAKES[suffix]
    _refuse(f"a {suffix} file", **{name: value for name, value in given.items() if name not in takes})
    options = {name: given[name] for name in takes}
    if suffix == ".npy":
        return read_npy(path)
    if suffix == ".npz":
        return read_npz(path, **options)
    if suffix == ".csv":
        return read_csv(path, **options)
    if suffix == ".parquet":
        return _read_table(path, **options)
    return read_hdf5(path, **options)


_TAKES: dict[str, tuple[str, ...]] = {
    ".npy": (),
    ".npz": ("key", "split"),
    ".parquet": ("column",),
    ".csv": ("column",),
    ".hdf5": ("key", "split"),
    ".h5": ("key", "split"),
}


def _read_table(path: Path, column: str | Sequence[str] | None) -> Found:
    table = read_parquet(path, column)
    if table.rows_of is None:
        require_no_borders(table.unread, repr(str(path)))
        return Found([table.actions], [path.stem], None, table.dof_names, table.unread)
    names = [f"episode_{index:06d}" for index in table.rows_of]
    return Found([table.actions[rows] for rows in table.rows_of.values()], names, None, table.dof_names, table.unread)


def _read_folder(folder: Path, given: dict[str, Any]) -> Found:
    """Read all files of the one kind that a folder holds, or its subfolders if it holds none itself."""
    for paths in (folder.iterdir(), folder.rglob("*")):
        files = [path for path in visible(paths, folder) if path.suffix.lower() in _TAKES and path.is_file()]
        if files:
            break
    kinds = sorted({path.suffix.lower() for path in files})
    if not kinds:
        raise InputError(
            f"{str(folder)!r} holds neither .npy files nor a LeRobotDataset (meta/info.json), nor any other files of "
            f"actions ({', '.join(_TAKES)})."
        )
    for kind in kinds:
        _refuse(f"{kind} files", **{name: value for name, value in given.items() if name not in _TAKES[kind]})
    if len(kinds) > 1:
        raise InputError(f"{str(folder)!r} holds files of several kinds ({', '.join(kinds)}): name those to read.")
    parts = [_read_file(path, given) for path in files]
    for path, part in zip(files, parts, strict=True):
        if (part.control_rate, part.dof_names) != (parts[0].control_rate, parts[0].dof_names):
            raise InputError(
                f"{str(path)!r} has another control rate or other degrees of freedom than {str(files[0])!r}: read "
                "files of one robot together."
            )
    names = [name for part in parts for name in part.names]
    if len(set(names)) < len(names):  # episodes are often only numbered, which names them within their file
        stems = [path.relative_to(folder).with_suffix("").as_posix() for path in files]
        names = [
            stem if part.names == [path.stem] else f"{stem}.{name.removeprefix(f'{path.stem}.')}"
            for stem, path, part in zip(stems, files, parts, strict=True)
            for name in part.names
        ]
    unread = tuple(dict.fromkeys(name for part in parts for name in part.unread))
    return Found([array for part in parts for array in part.arrays], names, *_facts(parts[0]), unread)


def _facts(found: Found) -> tuple[float | None, tuple[str, ...] | None]:
    return found.control_rate, found.dof_names
