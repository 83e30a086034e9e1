"""From a training checkpoint to a tokenizer."""

from __future__ import annotations

from pathlib import Path

from zoo import registry
from zoo.errors import CheckpointError
from zoo.fresh import fresh
from zoo.tokenizer import Tokenizer
from zoo.training.checkpoint_file import read_weights, tokenizer_part

__all__ = ["tokenizer_of"]


def tokenizer_of(path: str | Path, *, average: bool | None = None) -> Tokenizer:
    """Build the tokenizer of a training checkpoint.

    Args:
        path: What `zoo fit` wrote.
        average: As for `read_weights`.

    Raises:
        CheckpointError: The checkpoint is unusable, or the weights do not fit.
        ConfigError: There are no averaged weights, or the config is unusable.
        UnknownNameError: No such family is known here.
    """
    settings, state = read_weights(path, average=average)
    with fresh():
        tokenizer = registry.family(settings["family"]).from_config(settings["config"])
    try:
        tokenizer.load_state_dict(tokenizer_part(state))
    except RuntimeError as error:
        raise CheckpointError(f"the weights in {path} do not fit the config that it states: {error}") from error
    return tokenizer.eval()
