"""Robot actions: commands in physical units, as tensors, arrays, `.npy` files, and sets of episodes."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from zoo.data._source import describe, local_path, open_source
from zoo.data.actions import ActionEpisodes, read_actions
from zoo.data.signals.base import FLOATS, Item, Options, Reading, Recording, Signal
from zoo.errors import InputError
from zoo.spec import TokenSpec

__all__ = ["ActionSignal", "read_episodes"]


class ActionSignal(Signal):
    """(T, D) in physical units."""

    name = "action"
    noun = "an action sequence"
    forms = "pass a tensor or array (T, D), a path, or a list of these"
    axes = ("T", "D")
    dtypes = (*FLOATS, "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
    dtype_advice = "pass floats in physical units"
    value_range = None
    padding: ClassVar[Literal["zeros", "last"] | None] = "last"
    time_axis = 0
    steps = "commands"
    size_axes = "steps × degrees of freedom"
    unit = "chunk"
    raw_bits = 32
    suffix = ".npy"
    pipeline_tag = "robotics"
    example = "motion.npy"

    def unpack(self, x: Any) -> Any:
        """Replace a set of episodes, or the path of one, by a list of the episodes."""
        if isinstance(x, (list, tuple)):
            return [self._only_episode(item, number) for number, item in enumerate(x)]
        if isinstance(read := getattr(x, "episodes", None), (list, tuple)):
            return list(read)
        if not isinstance(x, (str, os.PathLike)) or _is_npy(x):
            return x
        return list(read_actions(local_path(x, or_folder=True)).episodes)

    def _only_episode(self, x: Any, number: int) -> Any:
        if not isinstance(x, (str, os.PathLike)):
            return x
        try:
            episodes = self.unpack(x)
        except InputError as error:
            raise InputError(f"item {number}: {error}") from error
        if not isinstance(episodes, list):
            return episodes
        if len(episodes) != 1:
            raise InputError(
                f"item {number}: {os.fspath(x)!r} holds {len(episodes)} episodes, and a list has one item for each "
                "entry: pass the path alone, or zoo.data.actions.read_actions(path).episodes."
            )
        return episodes[0]

    def _from_source(self, x: Any, options: Options) -> Item:
        if isinstance(x, (str, os.PathLike)) and not _is_npy(x):
            raise InputError(
                f"{describe(x)} is not a .npy file: pass the path alone, or what read_actions gives for it."
            )
        with open_source(x) as file:
            content = io.BytesIO(file.read())
        try:
            array = np.load(content, allow_pickle=False)
        except Exception as error:  # NumPy's own text advises to unpickle, which runs whatever the file says
            raise InputError(
                f"{describe(x)} cannot be read as numbers in NumPy's .npy format: it is damaged, truncated, of another "
                "format, or holds Python objects, which are never unpickled."
            ) from error
        if not isinstance(array, np.ndarray):
            raise InputError(
                f"{describe(x)} is an archive of several arrays: pass one of them, or the path of a .npz file."
            )
        return self._from_array(array, options)

    def _rank_hint(self, shape: tuple[int, ...]) -> str:
        hint = ": a single action is x.unsqueeze(0), one degree of freedom x.unsqueeze(1)"
        return hint if len(shape) == 1 else ""

    def find(
        self, inputs: Sequence[str], spec: TokenSpec, reading: Reading, note: Callable[[str], None]
    ) -> list[Recording]:
        """Return the episodes of all inputs."""
        data = read_episodes(inputs, reading.column, reading.key, reading.split)
        if data.unread:
            note(f"not read: {', '.join(data.unread)}.")
        rate, expected = data.control_rate, spec.sample_rate
        if rate is not None and expected is not None and rate != expected:
            note(f"the data has {rate:g} commands a second, the model was made for {expected:g}.")
        return [
            Recording(
                name,
                lambda episode=episode: (torch.from_numpy(episode), rate),  # type: ignore[misc]
                partial(_stamp, name, episode),
                data.dof_names,
            )
            for name, episode in zip(data.names, data.episodes, strict=True)
        ]

    def write(self, path: Path, values: Tensor, rate: float | None) -> None:
        """Write `.npy`."""
        np.save(path, values.numpy())


def read_episodes(
    inputs: Sequence[str], column: str | None = None, key: str | None = None, split: str | None = None
) -> ActionEpisodes:
    """Read the robot actions of all inputs as one set.

    Args:
        inputs: What `zoo.data.actions.read_actions` reads.
        column: For Parquet and LeRobotDatasets: one column, or several with commas.
        key: For archives: the array.
        split: For archives and LeRobotDatasets: the split.

    Raises:
        InputError: An input cannot be read, or they do not fit together.
    """
    columns = None if column is None else column.split(",") if "," in column else column
    parts = []
    for text in inputs:
        part = read_actions(text, column=columns, key=key, split=split)
        if len(inputs) > 1:  # episodes are often only numbered, which names them within their own file
            stem = Path(os.path.abspath(text)).stem  # noqa: PTH100 - the name of "." without following links
            names = [name if name.startswith(stem) else f"{stem}.{name}" for name in part.names]
            part = replace(part, names=names)
        parts.append(part)
    rates = {part.control_rate for part in parts}
    if len(rates) > 1:
        shown = ", ".join("unknown" if rate is None else f"{rate:g} Hz" for rate in rates)
        raise InputError(f"the inputs have different control rates ({shown}): use those of one rate together.")
    named = {part.dof_names for part in parts} - {None}
    if len(named) > 1:
        shown = " and ".join(f"({', '.join(names or ())})" for names in sorted(named, key=str))
        raise InputError(f"the inputs have different degrees of freedom, or the same in another order: {shown}.")
    return ActionEpisodes(
        [episode for part in parts for episode in part.episodes],
        [name for part in parts for name in part.names],
        rates.pop(),
        named.pop() if named else None,
        tuple(dict.fromkeys(name for part in parts for name in part.unread)),
    )


def _stamp(name: str, episode: np.ndarray) -> str:
    return f"{name}: {episode.shape} of {hashlib.sha256(episode.tobytes()).hexdigest()}"


def _is_npy(path: str | os.PathLike[str]) -> bool:
    return Path(os.fspath(path)).suffix.lower() == ".npy"
