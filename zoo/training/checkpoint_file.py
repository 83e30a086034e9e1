"""The file that `zoo fit` writes: what it says of the tokenizer in it, and the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import CheckpointError, ConfigError
from zoo.training.ema import EMA_KEY
from zoo.training.history import HISTORY_KEY, Curves
from zoo.training.integrity import require_intact

__all__ = [
    "ASSETS",
    "LICENCE",
    "PARTS",
    "TOKENIZER",
    "assets_of",
    "averages",
    "curves_of",
    "read_checkpoint",
    "state_of",
    "tokenizer_part",
    "training_parts",
]

TOKENIZER = "zoo_tokenizer"
"""Key of a checkpoint: family and config of the tokenizer, from which it can be built without its training module."""

PARTS = "zoo_parts"
"""Key of a checkpoint: `own`, names in its `state_dict` of what a later training needs beside the tokenizer, and
`carried`, the tensors of such names that earlier runs had and this one does without."""

ASSETS = "zoo_assets"
"""Key of a checkpoint: contents of the files that the tokenizer has beside its weights, uint8, by name; or absent."""

LICENCE = "zoo_licence"
"""Key of a checkpoint: licence of the weights that the run started from, "" if unknown, None if there were none."""

_PREFIX = "tokenizer."


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return what a training checkpoint holds, on the CPU, without running any code that it may contain.

    Raises:
        CheckpointError: It is missing, damaged, or no training checkpoint of this library.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no training checkpoint {path}.")
    require_intact(path)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever torch's reader finds in a damaged file
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{path} is no training checkpoint, or a damaged one, or holds other than tensors and plain values "
            f"({type(error).__name__}: {reason:.200})."
        ) from error
    settings = content.get(TOKENIZER) if isinstance(content, dict) else None
    if not isinstance(settings, dict) or set(settings) != {"family", "config"} or "state_dict" not in content:
        raise CheckpointError(
            f"{path} is not a training checkpoint of a TokenizerModule: it does not name a family and its config."
        )
    wrong = _complaint(content)
    if wrong:
        raise CheckpointError(f"{path} is damaged, or was not written by `zoo fit`: {wrong}.")
    return dict(content)


def assets_of(content: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the contents of the files that a checkpoint's tokenizer has beside its weights."""
    return {name: tensor.numpy().tobytes() for name, tensor in content.get(ASSETS, {}).items()}


def _complaint(content: Mapping[Any, Any]) -> str:
    """Return what is not as this library writes it, in those parts that are read here; "" if all is."""
    settings, state = content[TOKENIZER], content["state_dict"]
    if not (isinstance(settings["family"], str) and isinstance(settings["config"], dict)):
        return "family and config of the tokenizer are no text and mapping"
    if not _is_tensors(state):
        return "the weights are no tensors by name"
    assets = content.get(ASSETS, {})
    if not _is_tensors(assets) or any(t.dtype != torch.uint8 or t.ndim != 1 for t in assets.values()):
        return "files of the tokenizer are no bytes by name"
    callbacks = content.get("callbacks", {})
    if not isinstance(callbacks, dict):
        return "the states of callbacks are no mapping"
    if EMA_KEY in callbacks and not _has_tensors(callbacks[EMA_KEY]):
        return "the averaged weights are no tensors by name"
    if not _is_history(callbacks.get(HISTORY_KEY, {"curves": {}})):
        return "the scalars of the run are no numbers by name"
    parts = content.get(PARTS)
    if parts is not None:
        if not (isinstance(parts, dict) and set(parts) == {"own", "carried"} and _is_tensors(parts["carried"])):
            return "what training needs are no tensors by name"
        own = parts["own"]
        if not (isinstance(own, list) and all(isinstance(name, str) and name in state for name in own)):
            return "it lacks what training needs"
    if not isinstance(content.get(LICENCE), str | None):
        return "the licence is no text"
    return "" if isinstance(content.get("global_step", 0), int) else "the number of steps is no number"


def _has_tensors(state: Any) -> bool:
    return isinstance(state, dict) and _is_tensors(state.get("average"))


def _is_history(history: Any) -> bool:
    curves = history.get("curves") if isinstance(history, dict) else None
    return isinstance(curves, dict) and all(
        isinstance(name, str)
        and isinstance(curve, (list, tuple))
        and len(curve) == 2
        and all(isinstance(column, list) and all(type(n) in (int, float) for n in column) for column in curve)
        and len(curve[0]) == len(curve[1])
        for name, curve in curves.items()
    )


def _is_tensors(values: Any) -> bool:
    """Whether these are tensors with values, by name."""
    return isinstance(values, dict) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) and not tensor.is_meta and tensor.layout == torch.strided
        for name, tensor in values.items()
    )


def curves_of(content: Mapping[str, Any]) -> Curves:
    """Return the scalars of the run in what `read_checkpoint` returned, none if it kept none."""
    found: Curves = content.get("callbacks", {}).get(HISTORY_KEY, {"curves": {}})["curves"]
    return found


def training_parts(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return what training needs beside the tokenizer, of this run and of those that it started from, by name."""
    parts = content.get(PARTS) or {"own": [], "carried": {}}
    return {**parts["carried"], **{name: content["state_dict"][name] for name in parts["own"]}}


def averages(content: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """Return the averaged weights of the tokenizer in what `read_checkpoint` returned, None if the run had none."""
    found: dict[str, Tensor] | None = content.get("callbacks", {}).get(EMA_KEY, {}).get("average")
    return found


def state_of(content: Mapping[str, Any], where: str, *, average: bool | None = None) -> dict[str, Tensor]:
    """Return the weights of the whole module, by name, in what `read_checkpoint` returned.

    Args:
        content: What it returned.
        where: Of what, for messages.
        average: Take the averaged weights (`EMA`) of the tokenizer or, if False, the trained ones; if None, averaged
            ones if there are.

    Raises:
        ConfigError: There are no averaged weights.
    """
    averaged = averages(content)
    if average and averaged is None:
        raise ConfigError(f"{where} has no averaged weights: the run had no section `ema`.")
    state = {**training_parts(content), **content["state_dict"]}
    if averaged is not None and average is not False:
        state.update({_PREFIX + name: tensor for name, tensor in averaged.items()})
    return state


def tokenizer_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tokenizer's own weights of a module's."""
    return {name.removeprefix(_PREFIX): tensor for name, tensor in state.items() if name.startswith(_PREFIX)}
