"""The authors' released files: read as they are, and written for round trips.

A released repository has `config.json`, arguments of the authors' constructor, and `model.safetensors`, perhaps with
the prior in it that trained beside. Fixed tables of positions are read from there, not made anew. The authors' code
loads leniently, and samples ids unless it is told not to; here all tensors must be there and be known, and the most
likely ids are taken, as in all of the authors' measurements.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from zoo.checkpoint import foreign
from zoo.checkpoint import weights as _weights
from zoo.components.prior import CodePrior
from zoo.errors import CheckpointError
from zoo.families.larp.official import names, settings
from zoo.families.larp.tokenizer import LARPTokenizer
from zoo.process.fresh import fresh

__all__ = ["EXTRA_FILES", "LICENCE", "load", "recognises", "training_parts", "write"]

EXTRA_FILES = ()
LICENCE = "LicenseRef-unknown"
"""Of the released weights, of which nothing is stated; the code that made them is under the MIT licence."""

_CONFIG = "config.json"
_ONE_NUMBER = "quantizer.inverse_temperature"  # with or without an axis


def recognises(folder: Path) -> bool:
    """Whether `folder` holds the released layout of a tokenizer."""
    try:
        values = foreign.read_json(folder / _CONFIG)
    except CheckpointError:
        return False
    return isinstance(values.get("bottleneck"), dict) and "bottleneck_token_num" in values


def load(folder: Path, *, decoder: bool = True) -> LARPTokenizer:
    """Build a tokenizer from the released files in `folder`.

    Args:
        folder: Where they are.
        decoder: False to read and hold what encodes alone.

    Raises:
        CheckpointError: A file, setting or tensor is missing, unexpected, damaged or contradicts another.
    """
    paths, kinds, released = _described(folder)
    with fresh("meta"):
        skeleton = LARPTokenizer(released.config).state_dict()
    own = {name: tensor for name, tensor in skeleton.items() if decoder or not name.startswith("decoder.")}
    expected = names.to_released(skeleton, released.config) | _prior_shapes(released)
    number = names.released_name(_ONE_NUMBER)
    if number in expected and number in kinds and kinds[number][0] == (1,):
        expected[number] = expected[number].reshape(1)
    wanted = frozenset(map(names.released_name, own))
    tensors = foreign.read_fitting(paths, expected, str(folder), wanted=wanted)
    tokenizer = LARPTokenizer(released.config, decoder=decoder)
    tokenizer.load_state_dict(names.from_released(tensors, own, released.config))
    tokenizer.spec = replace(tokenizer.spec, licence=LICENCE)
    tokenizer.trained_on = "the authors' own files, see arXiv 2410.21264"
    return tokenizer.eval()


def training_parts(folder: Path) -> dict[str, Tensor]:
    """Return what the released files have for training beside the tokenizer: the prior, by `LARPTraining`'s names.

    Raises:
        CheckpointError: As of `load`.
    """
    paths, kinds, released = _described(folder)
    shapes = _prior_shapes(released)
    if released.prior is None:
        return {}
    with fresh("meta"):
        skeleton = CodePrior(released.prior).state_dict()
    others = {name for name in kinds if not name.startswith(names.PRIOR)}
    tensors = foreign.read_fitting(paths, shapes, str(folder), name=lambda name: None if name in others else name)
    made = names.from_released(tensors, skeleton, released.config, is_prior=True)
    return {f"prior.{name}": tensor for name, tensor in made.items()}


def write(
    tokenizer: LARPTokenizer, folder: Path, like: Mapping[str, Any] | None = None, prior: CodePrior | None = None
) -> Path:
    """Write a tokenizer in the released layout.

    Args:
        tokenizer: What to write.
        folder: Where to, as `config.json` and `model.safetensors`.
        like: A released config whose other arguments are kept, such as names that nothing here needs.
        prior: The prior that trained beside it, if it is to be there as well.

    Returns:
        The folder.

    Raises:
        ConfigError: The quantizer is another than the published kinds, or the prior of no published size.
        TokenError: The tokenizer was loaded without its decoder.
    """
    tokenizer.require_decoder("be written")
    values = settings.values(tokenizer.config, like, None if prior is None else prior.config)
    tensors = names.to_released(_weights.collect(tokenizer), tokenizer.config)
    if prior is not None:
        state = {name: tensor.detach().cpu() for name, tensor in prior.state_dict().items()}
        tensors |= names.to_released(state, tokenizer.config, is_prior=True)
    folder.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / _CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return folder


def _described(folder: Path) -> tuple[list[Path], _weights.Kinds, settings.Released]:
    """Return the files of weights, shapes and dtypes of the tensors in them, and what they are of."""
    values = foreign.read_json(folder / _CONFIG)
    paths = foreign.weight_files(folder)
    kinds: _weights.Kinds = {}
    for path in paths:
        with _weights.opened(path) as file:
            kinds |= _weights.header(file)
    return paths, kinds, settings.read(values, kinds, str(folder / _CONFIG))


def _prior_shapes(released: settings.Released) -> dict[str, Tensor]:
    """Return tensors of the shapes that those of the prior must have, by released name; none if it is not there."""
    if released.prior is None:
        return {}
    with fresh("meta"):
        skeleton = CodePrior(released.prior).state_dict()
    return names.to_released(skeleton, released.config, is_prior=True)
