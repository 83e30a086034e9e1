"""The authors' released files: read as they are, and written for round trips.

A released repository has `config.json`, entries of Hydra (`nodes.py`), and `model.safetensors`, with the autoencoder in
it; or the weights alone, whose metadata then hold the config. Modules are put together by their names in the order in
which they run, whatever order the config has them in: the authors' own saving sorts it. Settings that no tensor shows
are read, foreign classes and tensors that nobody knows are errors, and nothing that a config names is imported.

Their configuration may ask for samples of the autoencoder's posterior. Here its mean is taken: an image has one code.
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
from zoo.errors import CheckpointError
from zoo.families.flextok.official import names, nodes, settings, writing
from zoo.families.flextok.tokenizer import FlexTokTokenizer
from zoo.process.fresh import fresh

__all__ = ["EXTRA_FILES", "LICENCE", "load", "recognises", "write"]

EXTRA_FILES = ()
LICENCE = "LicenseRef-apple-amlr"
"""The released weights' own licence, for research alone; it has no SPDX identifier."""


def recognises(folder: Path) -> bool:
    """Whether `folder` holds the released layout: a config with FlexTok's entries, of whatever classes."""
    try:
        values, _ = nodes.read_values(folder)
    except CheckpointError:
        return False
    return all(isinstance(values.get(name), dict) for name in ("vae", "encoder", "decoder", "regularizer"))


def load(folder: Path, *, decoder: bool = True) -> FlexTokTokenizer:
    """Build a tokenizer from the released files in `folder`.

    Args:
        folder: Where they are.
        decoder: False to read and hold what encodes alone: neither the flow nor the autoencoder's decoder.

    Raises:
        CheckpointError: A file, entry or tensor is missing, unexpected, damaged or contradicts another.
    """
    values, where = nodes.read_values(folder)
    parts = nodes.check(values, where)
    paths = foreign.weight_files(folder)
    released = settings.read(parts, _kinds(paths), where)
    with fresh("meta"):
        skeleton = FlexTokTokenizer(released.config).state_dict()
    expected = _expected(skeleton, released)
    known = {ours: names.released_name(ours) for ours in skeleton if decoder or not ours.startswith("decoder.")}
    tensors = foreign.read_fitting(
        paths, expected, str(folder), name=names.known_name, wanted=frozenset(known.values())
    )
    tokenizer = FlexTokTokenizer(released.config, decoder=decoder)
    if not released.has_null and decoder:
        tensors[names.NULL] = torch.zeros(released.config.decoder.width, dtype=torch.float32)
    tokenizer.load_state_dict(
        {ours: names.ours(theirs, tensors[theirs], released.positions) for ours, theirs in known.items()}
    )
    tokenizer.spec = replace(tokenizer.spec, licence=LICENCE)
    tokenizer.trained_on = "the authors' own files, see arXiv 2502.13967"
    return tokenizer.eval()


def write(tokenizer: FlexTokTokenizer, folder: Path, like: Mapping[str, Any] | None = None) -> Path:
    """Write a tokenizer in the released layout.

    Args:
        tokenizer: What to write.
        folder: Where to, as `config.json` and `model.safetensors`.
        like: A released config whose arguments are kept, such as the names of entries that modules read and write,
            which nothing here needs; what this tokenizer says differently is put into it. One of the arguments that
            are known if None.

    Returns:
        The folder.

    Raises:
        CheckpointError: `like` is not a released config.
        ConfigError: The quantizer is another than the published kind.
        TokenError: The tokenizer was loaded without its decoder.
    """
    tokenizer.require_decoder("be written")
    values = writing.values(tokenizer.config, like)
    grid = tokenizer.config.grid
    tensors = {
        (name := names.released_name(ours)): names.released(name, tensor, grid)
        for ours, tensor in _weights.collect(tokenizer).items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    # Not sorted: the authors' code runs modules in the order in which it finds them.
    (folder / nodes.CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return folder


def _kinds(paths: list[Path]) -> _weights.Kinds:
    """Return shapes and dtypes of all tensors by their usual names."""
    found: _weights.Kinds = {}
    for path in paths:
        with _weights.opened(path) as file:
            for name, kind in _weights.header(file).items():
                if (known := names.known_name(name)) is not None:
                    found[known] = kind
    return found


def _expected(skeleton: Mapping[str, Tensor], released: settings.Released) -> dict[str, Tensor]:
    """Return tensors of the shapes that the files must have, by released name."""
    expected = {
        (name := names.released_name(ours)): names.released(name, tensor, released.config.grid)
        for ours, tensor in skeleton.items()
    }
    for name, kind in released.positions.items():
        if kind != "sincos":
            _, width, side, _ = expected[name].shape
            expected[name] = names.learned(width, side)
    if not released.has_null:
        del expected[names.NULL]
    return expected
