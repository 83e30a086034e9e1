"""What tells a tokenizer from one with other weights or settings."""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo import _parts
from zoo.components.exact.precision import KeepsPrecision
from zoo.errors import CheckpointError
from zoo.tokenizer import Tokenizer

__all__ = ["fingerprint"]


def fingerprint(tokenizer: Tokenizer) -> str:
    """Return a SHA-256 that tells a tokenizer from one with other weights or settings, whatever its name.

    It does not depend on the device, on where the tokenizer was loaded from, or on a floating dtype that its family
    accepts: weights count as rounded to the coarsest of these. Settings that have their default value are left out, so
    that a version of the library that adds a setting finds the same fingerprint.

    Raises:
        NotFittedError: The tokenizer is not usable yet.
        CheckpointError: Its weights have no values.
    """
    tokenizer.require_ready()
    settings = {"family": tokenizer.family, "config": _stated(tokenizer.config)}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, allow_nan=False).encode())
    for name, content in sorted(tokenizer.assets().items()):
        digest.update(f"\n{name} {len(content)}\n".encode())
        digest.update(content)
    coarsest = max(tokenizer.float_dtypes, key=lambda dtype: torch.finfo(dtype).eps)
    exact, tensors = _contents(tokenizer)
    for name, tensor in sorted(tensors.items()):
        if tensor.is_meta:
            raise CheckpointError(f"{name} is on the meta device and has no values: there is nothing to compare.")
        values = tensor.detach().cpu()
        kind = str(values.dtype)
        if values.is_floating_point():
            kind = "float"
            # What `to_dtype` cannot round is compared exactly.
            values = values.double() if name.startswith(exact) else values.to(coarsest).float()
        array = values.contiguous().reshape(-1).numpy()
        digest.update(f"\n{name} {kind} {list(tensor.shape)}\n".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()


def _contents(tokenizer: Tokenizer) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Return the prefixes of what keeps its precision, and all weights by name.

    Parts that have not been read are, and not kept: who only encodes does not want them in memory.
    """
    modules = dict(nn.Module.named_modules(tokenizer))
    tensors: dict[str, Tensor] = nn.Module.state_dict(tokenizer)
    for part_name, unread in _parts.unread(tokenizer).items():
        part = unread.load()
        modules |= part.named_modules(prefix=part_name)
        tensors |= part.state_dict(prefix=f"{part_name}.")
    return tuple(f"{name}." for name, module in modules.items() if isinstance(module, KeepsPrecision)), tensors


def _stated(config: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that differ from their defaults, as plain values."""
    stated = {}
    for field in fields(config):
        value = getattr(config, field.name)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if default is MISSING or value != default:
            stated[field.name] = _stated(value) if is_dataclass(value) else value
    return stated
