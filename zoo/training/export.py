"""From a training checkpoint to a tokenizer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from zoo import registry
from zoo.errors import CheckpointError, ConfigError, ZooError
from zoo.process.fresh import fresh
from zoo.tokenizer import Tokenizer
from zoo.training.checkpoint_file import (
    LICENCE,
    TOKENIZER,
    assets_of,
    read_checkpoint,
    state_of,
    tokenizer_part,
    training_parts,
)

__all__ = ["UNKNOWN_LICENCE", "parts_of", "tokenizer_of"]

UNKNOWN_LICENCE = "unknown"
"""What the Hub writes where a licence is not known."""


def parts_of(path: str | Path) -> dict[str, Tensor]:
    """Return what a later training needs beside the tokenizer of a training checkpoint, for `zoo.save(training=…)`.

    Raises:
        CheckpointError: The checkpoint is unusable.
    """
    return training_parts(read_checkpoint(path))


def tokenizer_of(path: str | Path, *, average: bool | None = None) -> Tokenizer:
    """Build the tokenizer of a training checkpoint.

    Args:
        path: What `zoo fit` wrote.
        average: Take the averaged weights (`EMA`) of the tokenizer or, if False, the trained ones; if None, averaged
            ones if there are.

    Raises:
        CheckpointError: The checkpoint is unusable, or the weights do not fit.
        ConfigError: There are no averaged weights, or the config is unusable.
        UnknownNameError: No such family is known here.
    """
    content = read_checkpoint(path)
    settings, state = content[TOKENIZER], state_of(content, str(path), average=average)
    where = f"the config in {path}"
    try:
        with fresh():
            cls = registry.stored(settings["family"])
            assets = {name: file for name, file in assets_of(content).items() if name in cls.asset_names}
            tokenizer: Tokenizer = cls.from_config(settings["config"], assets)
    except ZooError:
        raise
    except Exception as error:  # values of a stranger, in whatever code of the family they break
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{where} makes no {settings['family']} ({type(error).__name__}: {reason:.200}).") from error
    tensors = tokenizer_part(state)
    kinds = {name: tensor.is_floating_point() for name, tensor in tokenizer.state_dict().items()}
    other = [name for name, tensor in tensors.items() if kinds.get(name, True) != tensor.is_floating_point()]
    try:
        if other:
            raise RuntimeError(f"{other[0]} is of another kind of numbers.")
        tokenizer.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"the weights in {path} do not fit the config that it states: {error}") from error
    licence = content.get(LICENCE)
    if licence is not None:  # that of what the run started from, of which the weights are made
        tokenizer.spec = replace(tokenizer.spec, licence=licence or UNKNOWN_LICENCE)
    return tokenizer.eval()
