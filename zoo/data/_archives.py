"""Robot actions out of NumPy's files: `.npy`, and `.npz` archives of arrays. Nothing is ever unpickled."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data._found import ACTIONS, BORDERS, Found, cut, cut_by, describe_array, require_no_borders
from zoo.data.folders import natural_order
from zoo.errors import InputError, near_matches

__all__ = ["read_npy", "read_npz"]

_FACTS = ("names", "split", "dof_names", "control_rate")
_NUMBERED = re.compile(r"(.*?)[0-9]+")


def read_npy(path: Path) -> Found:
    """Read [L, D], one episode, or [B, T, D], B episodes.

    Raises:
        InputError: It is damaged, or something else.
    """
    array = _load(path)
    if not isinstance(array, np.ndarray):  # np.load goes by content, not by name
        array.close()
        raise InputError(f"{str(path)!r} is an archive of arrays: name it .npz.")
    return Found(*cut(array, path.stem, str(path)))


def read_npz(path: Path, key: str | None, split: str | None) -> Found:
    """Read the actions of an archive.

    Args:
        path: The file.
        key: The array with the actions.
        split: Which episodes, by the array `split`.

    Raises:
        InputError: It is damaged, holds no actions, or arrays that do not fit together.
    """
    archive = _load(path)
    if isinstance(archive, np.ndarray):
        raise InputError(f"{str(path)!r} holds a single array: name it .npy.")
    with archive:
        present = list(archive.files)
        if key is None and not set(ACTIONS) & set(present) and (episodes := _numbered(present)):
            held = {name: _member(archive, name, path) for name in present if name in (*episodes, *_FACTS)}
            arrays, names = [held[name] for name in episodes], [f"{path.stem}.{name}" for name in episodes]
            where, width = f"the arrays of {str(path)!r}", arrays[0].shape[-1] if arrays[0].ndim else 0
            for name, array in zip(episodes, arrays, strict=True):
                if array.ndim != 2:
                    raise InputError(
                        f"{name!r} in {str(path)!r} must be [steps, DoFs], got {describe_array(array)}: one array an "
                        "episode, or one array 'actions'."
                    )
        else:
            key = _choose_key(present, key, str(path))
            held = {name: _member(archive, name, path) for name in present if name in (key, *_FACTS, *BORDERS)}
            array, where = held[key], f"{key!r} in {str(path)!r}"
            arrays, names = _cut(array, held, present, path, where)
            width = array.shape[-1] if array.ndim else 0
    names = _labels(held, "names", len(arrays), path) or names
    if split is not None:
        labels = _labels(held, "split", len(arrays), path)
        if split not in labels:
            raise InputError(f"{str(path)!r} has no split {split!r}; {near_matches(split, labels)}")
        arrays = [item for item, label in zip(arrays, labels, strict=True) if label == split]
        names = [name for name, label in zip(names, labels, strict=True) if label == split]
    rate = held.get("control_rate")
    if rate is not None and (rate.size != 1 or rate.dtype.kind not in "fiu"):
        raise InputError(f"control_rate in {str(path)!r} must be one number, got {describe_array(rate)}.")
    dof_names = tuple(_labels(held, "dof_names", width, path)) or None
    unread = tuple(name for name in present if name not in held)
    return Found(arrays, names, None if rate is None else float(rate.item()), dof_names, unread)


def _cut(array: Any, held: dict[str, Any], present: list[str], path: Path, where: str) -> tuple[list[Any], list[str]]:
    if array.ndim == 2:
        arrays = cut_by(array, held, where)
        if arrays is not None:
            return arrays, [f"{path.stem}.{number:06d}" for number in range(len(arrays))]
        require_no_borders((name for name in present if name not in held), where)
    return cut(array, path.stem, where)


def _numbered(names: list[str]) -> list[str]:
    """Return the names in their natural order if they number episodes, `ep_0`, `ep_1` …, and none otherwise."""
    numbered = [name for name in names if name not in _FACTS]
    stems = {match[1] if (match := _NUMBERED.fullmatch(name)) else None for name in numbered}
    return sorted(numbered, key=natural_order) if len(numbered) > 1 and len(stems) == 1 and None not in stems else []


def _choose_key(keys: list[str], key: str | None, where: str) -> str:
    if key is not None:
        if key not in keys:
            raise InputError(f"{where!r} has no array {key!r}; {near_matches(key, keys)}")
        return key
    found = [name for name in ACTIONS if name in keys] or (keys if len(keys) == 1 else [])
    if not found:
        raise InputError(
            f"{where!r} has no array 'actions': pass key=, one of {', '.join(map(repr, keys)) or 'none'}; or name "
            "arrays of one episode each ep_0, ep_1 …."
        )
    return found[0]


def _load(path: Path) -> Any:
    # Opened here, since NumPy leaves the file of a damaged archive open.
    with ExitStack() as opened:
        try:
            file = opened.enter_context(path.open("rb"))
            loaded = np.load(file, allow_pickle=False)
        except MemoryError:
            raise
        except Exception as error:  # NumPy's own text advises to unpickle, which runs whatever the file says
            raise _damaged(path) from error
        if isinstance(loaded, np.lib.npyio.NpzFile):
            loaded.fid = file  # type: ignore[assignment]  # what closing the archive closes
            opened.pop_all()
        return loaded


def _member(archive: Any, name: str, path: Path) -> Any:
    try:
        array = archive[name]
    except MemoryError:
        raise
    except Exception as error:
        raise _damaged(path, name) from error
    if not isinstance(array, np.ndarray):  # the bytes of a member that is no array
        raise _damaged(path, name)
    return array


def _damaged(path: Path, name: str = "") -> InputError:
    what = f"{name!r} in {str(path)!r}" if name else repr(str(path))
    return InputError(
        f"{what} cannot be read as a NumPy array of numbers: it is damaged, truncated, of another format, or holds "
        "Python objects, which are never unpickled."
    )


def _labels(held: dict[str, Any], name: str, count: int, path: Path) -> list[str]:
    """Return the strings stored under a name, none if there is no such array."""
    if name not in held:
        return []
    array = held[name]
    if array.shape != (count,) or array.dtype.kind != "U":
        raise InputError(f"{name!r} in {str(path)!r} must be {count} strings, got {describe_array(array)}.")
    try:
        return [str(item) for item in array]
    except (SystemError, ValueError) as error:  # code points that there are not
        raise _damaged(path, name) from error
