"""From a training checkpoint to a tokenizer."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from zoo import registry
from zoo.errors import CheckpointError, ConfigError
from zoo.tokenizer import Tokenizer
from zoo.training.ema import EMA_KEY
from zoo.training.module import TOKENIZER

__all__ = ["read_checkpoint", "tokenizer_of"]

_PREFIX = "tokenizer."


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return what a training checkpoint holds, on the CPU, without running any code that it may contain.

    Raises:
        CheckpointError: It is missing, damaged, or no training checkpoint of this library.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no training checkpoint {path}.")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
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
    return dict(content)


def tokenizer_of(path: str | Path, *, average: bool | None = None) -> Tokenizer:
    """Build the tokenizer of a training checkpoint.

    Args:
        path: What `zoo fit` wrote.
        average: Take the averaged weights (`EMA`) or, if False, the trained ones; if None, averaged ones if there are.

    Raises:
        CheckpointError: The checkpoint is unusable, or the weights do not fit.
        ConfigError: There are no averaged weights, or the config is unusable.
        UnknownNameError: No such family is known here.
    """
    content = read_checkpoint(path)
    settings = content[TOKENIZER]
    averaged = (content.get("callbacks") or {}).get(EMA_KEY, {}).get("average")
    if average and averaged is None:
        raise ConfigError(f"{path} has no averaged weights: the run had no EMA callback.")
    state = {
        name.removeprefix(_PREFIX): tensor for name, tensor in content["state_dict"].items() if name.startswith(_PREFIX)
    }
    if averaged is not None and average is not False:
        state.update(averaged)
    tokenizer = registry.family(settings["family"]).from_config(settings["config"])
    try:
        tokenizer.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"the weights in {path} do not fit the config that it states: {error}") from error
    return tokenizer.eval()
