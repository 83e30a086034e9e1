"""The released layout of FAST and FAST+: `tokenizer.json` and `processor_config.json`.

The processor does not normalise: it takes chunks whose 1 % and 99 % quantiles are at -1 and +1 already. Its config may
leave the chunk's shape open (`time_horizon`, `action_dim` null), as FAST+ does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from zoo.checkpoint import foreign
from zoo.errors import CheckpointError, ConfigError
from zoo.families.fast.bpe import MAX_CODE
from zoo.families.fast.config import FastConfig
from zoo.families.fast.tokenizer import FastTokenizer

__all__ = ["EXTRA_FILES", "load", "recognises", "write"]

EXTRA_FILES = ()
VOCABULARY = "tokenizer.json"
PROCESSOR = "processor_config.json"

_REQUIRED = ("scale", "vocab_size", "min_token")
# All keys that matter. Others, such as auto_map and processor_class, tell transformers which code to load.
_KINDS: dict[str, tuple[type, ...]] = {
    "scale": (int, float),
    "vocab_size": (int,),
    "min_token": (int,),
    "action_dim": (int, type(None)),
    "time_horizon": (int, type(None)),
}


def recognises(folder: Path) -> bool:
    """Whether `folder` holds a released FAST processor."""
    try:
        values = foreign.read_json(folder / PROCESSOR)
    except CheckpointError:
        return False
    return all(key in values for key in _REQUIRED) and (folder / VOCABULARY).is_file()


def load(folder: Path) -> FastTokenizer:
    """Build a tokenizer from a released processor; for inputs that are normalised already.

    Raises:
        CheckpointError: A file is missing or not what it should be.
    """
    values = foreign.read_json(folder / PROCESSOR)
    facts: dict[str, Any] = {key: values.get(key) for key in _KINDS}
    for key, kinds in _KINDS.items():
        if (key in _REQUIRED and key not in values) or type(facts[key]) not in kinds:
            raise CheckpointError(
                f"{folder / PROCESSOR}: {key} must be {' or '.join(k.__name__ for k in kinds)}, got {facts[key]!r:.80}."
            )
    if abs(facts["min_token"]) > MAX_CODE:
        raise CheckpointError(f"{folder / PROCESSOR}: min_token is {facts['min_token']}, beyond any text's characters.")
    try:
        config = FastConfig(
            num_dofs=facts["action_dim"],
            horizon=facts["time_horizon"],
            scale=float(facts["scale"]),
            bpe_vocab_size=facts["vocab_size"],
            action_quantiles=None,
            variant="parity",
        )
    except ConfigError as error:
        raise CheckpointError(f"{folder / PROCESSOR} has unusable values. {error}") from error
    tokenizer = FastTokenizer(config)
    tokenizer.quantizer.load(foreign.read_text(folder / VOCABULARY))
    tokenizer.quantizer.min_token = torch.tensor(facts["min_token"], device="cpu")
    return tokenizer


def write(tokenizer: FastTokenizer, folder: Path) -> Path:
    """Write the released layout.

    The code that reads it is not part of it: keys that name that code are left out.

    Raises:
        ConfigError: The tokenizer normalises, which the layout cannot express.
        NotFittedError: There is no vocabulary yet.
    """
    if tokenizer.normalizer is not None:
        raise ConfigError(
            "the released layout has no normalisation: fit a tokenizer with action_quantiles=None, on normalised "
            "actions."
        )
    tokenizer.require_ready()
    config = tokenizer.config
    values = {
        "action_dim": config.num_dofs,
        "min_token": int(tokenizer.quantizer.min_token),
        "scale": int(config.scale) if config.scale.is_integer() else config.scale,
        "time_horizon": config.horizon,
        "vocab_size": config.bpe_vocab_size,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / VOCABULARY).write_text(tokenizer.quantizer.to_json(), encoding="utf-8")
    (folder / PROCESSOR).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return folder
