"""Robot actions out of HDF5, as ALOHA, robomimic, LIBERO and D4RL write it.

ALOHA has one file an episode, with a data set `action` [T, D]. robomimic and LIBERO have one file with a group an
episode, `data/demo_0/actions` [T, D], and lists of demonstrations under `mask`, which are its splits. D4RL has
`actions` [N, D] with `terminals` and `timeouts` [N] beside it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.data._found import ACTIONS, BORDERS, Found, cut, cut_by, natural, require_no_borders
from zoo.data._source import unreadable
from zoo.errors import InputError, MissingExtraError, near_matches

__all__ = ["read_hdf5"]


def read_hdf5(path: Path, key: str | None, split: str | None) -> Found:
    """Read the actions of a file.

    Args:
        path: The file.
        key: The data set with the actions, within the file or within each demonstration.
        split: Which demonstrations, by the list of this name under `mask`.

    Raises:
        InputError: It is damaged, or holds no actions where such files have them.
        MissingExtraError: h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("HDF5 needs h5py: pip install 'tokenizer-zoo[hdf5]'.") from error
    with unreadable(path, "HDF5"), h5py.File(path, "r") as file:
        where = str(path)
        group = _member(file, "data", where) if "data" in file else file
        demos = [name for name in sorted(group, key=natural) if _is_group(group, name)] if group is not None else []
        keys = ACTIONS if key is None else (key,)
        if any(name in file for name in keys):
            if split is not None:
                raise InputError(f"split={split!r} has no meaning for {where!r}: leave it out.")
            return _flat(file, next(name for name in keys if name in file), path)
        demos = [name for name in demos if any(inner in group[name] for inner in keys)]
        if not demos:
            raise InputError(
                f"{where!r} has no data set {' or '.join(map(repr, keys))}, at its top or in groups data/*: pass key=. "
                f"It has {', '.join(map(repr, list(file)[:20])) or 'nothing'}."
            )
        if split is not None:
            demos = _in_split(file, demos, split, where)
        arrays = []
        for name in demos:
            found = next(inner for inner in keys if inner in group[name])
            arrays.append(_numbers(_member(group[name], found, where), f"{name}/{found} in {where!r}"))
            cut(arrays[-1], name, f"{name}/{found} in {where!r}")
            if arrays[-1].ndim != 2:
                raise InputError(f"{name}/{found} in {where!r} must be [steps, DoFs].")
        unread = sorted({inner for name in demos for inner in group[name]} - set(keys))
        return Found(arrays, [f"{path.stem}.{name}" for name in demos], _rate(group), None, tuple(unread))


def _flat(file: Any, key: str, path: Path) -> Found:
    """Read a data set at the top of a file: an episode, or many one after the other."""
    where = f"{key!r} in {str(path)!r}"
    array = _numbers(_member(file, key, str(path)), where)
    unread = tuple(name for name in file if name not in (key, *BORDERS))
    if array.ndim == 2:
        borders = {name: _numbers(_member(file, name, str(path)), name) for name in BORDERS if name in file}
        arrays = cut_by(array, borders, where)
        if arrays is not None:
            return Found(arrays, [f"{path.stem}.{number:06d}" for number in range(len(arrays))], None, None, unread)
        require_no_borders(unread, where)
    return Found(*cut(array, path.stem, where), _rate(file), None, unread)


def _is_group(group: Any, name: str) -> bool:
    import h5py

    return isinstance(group.get(name, getlink=True), h5py.HardLink) and group.get(name, getclass=True) is h5py.Group


def _member(group: Any, name: str, where: str) -> Any:
    """Return a member of a group that is in the file itself: links and storage elsewhere lead out of it."""
    import h5py

    parts = name.strip("/").split("/")
    is_own = not any(
        isinstance(group.get("/".join(parts[: count + 1]), getlink=True), h5py.ExternalLink)
        for count in range(len(parts))
    )
    member = group[name] if is_own else None
    if member is None or (isinstance(member, h5py.Dataset) and (member.external or member.is_virtual)):
        raise InputError(f"{name!r} in {where!r} lies in another file, which is not followed: copy it into this one.")
    return member


def _numbers(member: Any, where: str) -> Any:
    import h5py

    if not isinstance(member, h5py.Dataset) or member.dtype.kind not in "fiub":
        raise InputError(f"{where} must be a data set of numbers.")
    return np.asarray(member[()])


def _in_split(file: Any, demos: Sequence[str], split: str, where: str) -> list[str]:
    masks = _member(file, "mask", where) if "mask" in file else {}
    if split not in masks:
        raise InputError(f"{where!r} has no split {split!r}; {near_matches(split, list(masks))}")
    chosen = {name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in masks[split][()]}
    if missing := sorted(chosen - set(demos)):
        raise InputError(f"{where!r}: the split {split!r} lists {missing[0]!r}, which is not there.")
    return [name for name in demos if name in chosen]


def _rate(group: Any) -> float | None:
    """Return the commands a second that the attributes of a group tell, None if they do not."""
    for name in ("control_rate", "control_freq", "fps"):
        value = group.attrs.get(name)
        if isinstance(value, (int, float, np.number)) and 0 < float(value) < 1e9:
            return float(value)
    try:
        rate = json.loads(group.attrs["env_args"])["env_kwargs"]["control_freq"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return float(rate) if type(rate) in (int, float) and 0 < rate < 1e9 else None
