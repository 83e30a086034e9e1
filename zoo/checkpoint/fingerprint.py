"""What tells a tokenizer from one with other weights or settings."""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.components.exact.precision import KeepsPrecision
from zoo.errors import CheckpointError
from zoo.stored import Stored

__all__ = ["fingerprint", "fingerprint_in"]


def fingerprint(tokenizer: Stored, *, decoder: bool = True) -> str:
    """Return a SHA-256 that tells a tokenizer from one with other weights or settings, whatever its name.

    It does not depend on the device, on where the tokenizer was loaded from, or on a floating dtype that its family
    accepts: weights count as rounded to the coarsest of these. Settings that have their default value are left out, so
    that a version of the library that adds a setting finds the same fingerprint.

    In fast mode it has another one than in exact mode, and one for each dtype; see `fingerprint_in`.

    A tokenizer that was loaded without its decoder has the fingerprint that the whole one has with `decoder=False`.

    Args:
        tokenizer: The tokenizer, or a generator over ids.
        decoder: False to leave the decoder's weights out, where its family has a file of their own for them, and so to
            tell only by what ids depend on.

    Raises:
        NotFittedError: The tokenizer is not usable yet.
        CheckpointError: Its weights have no values.
    """
    return fingerprint_in(tokenizer, tokenizer.fast_dtype, decoder=decoder)


def fingerprint_in(tokenizer: Stored, fast_dtype: torch.dtype | None, *, decoder: bool = True) -> str:
    """Return the fingerprint that a tokenizer has, or would have, in a certain mode.

    So one with all its digits recognises what was made with fewer of them; the reverse cannot be.

    Args:
        tokenizer: The tokenizer; in exact mode, in fast mode in float32, or in fast mode in `fast_dtype`.
        fast_dtype: That of fast mode; None for exact mode.
        decoder: As of `fingerprint`.

    Raises:
        NotFittedError: The tokenizer is not usable yet.
        CheckpointError: Its weights have no values.
    """
    tokenizer.require_ready()
    settings = {"family": tokenizer.family, "config": _stated(tokenizer.config)}
    if fast_dtype is not None:
        settings["fast_dtype"] = str(fast_dtype).removeprefix("torch.")
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, allow_nan=False).encode())
    for name, content in sorted(tokenizer.assets().items()):
        digest.update(f"\n{name} {len(content)}\n".encode())
        digest.update(content)
    coarsest = max(tokenizer.float_dtypes, key=lambda dtype: torch.finfo(dtype).eps)
    exact = tuple(f"{name}." for name, module in tokenizer.named_modules() if isinstance(module, KeepsPrecision))
    fast = tuple(f"{name}." for name in tokenizer.fast_modules)
    tensors: dict[str, Tensor] = tokenizer.state_dict()
    if tokenizer.decoder_file and not decoder:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("decoder.")}
    for name, tensor in sorted(tensors.items()):
        if tensor.is_meta:
            raise CheckpointError(f"{name} is on the meta device and has no values: there is nothing to compare.")
        values = tensor.detach().cpu()
        kind = str(values.dtype)
        if values.is_floating_point():
            kind = "float"
            if name.startswith(exact):  # what `to_dtype` cannot round
                values = values.double()
            elif fast_dtype is not None and name.startswith(fast):
                values = values.to(fast_dtype).float()
            else:
                values = values.to(coarsest).float()
        array = values.contiguous().reshape(-1).numpy()
        digest.update(f"\n{name} {kind} {list(tensor.shape)}\n".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()


def _stated(config: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that differ from their defaults, as plain values."""
    stated = {}
    for field in fields(config):
        value = getattr(config, field.name)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if default is MISSING or value != default:
            stated[field.name] = _stated(value) if is_dataclass(value) else value
    return stated
