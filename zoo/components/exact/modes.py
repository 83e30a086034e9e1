"""Fast mode: the dtypes that exact ids do not allow, for named parts of a module.

Exact mode is everything else in this package. A part that is computed in whole batches, perhaps in half precision,
rounds as its kernels please; what is left alone keeps the precision it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from zoo.errors import ConfigError, shown

__all__ = ["FAST_DTYPES", "convert", "dtype_of"]

FAST_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""What fast mode computes in."""


def convert(module: nn.Module, parts: Iterable[str], dtype: torch.dtype) -> None:
    """Convert the floating weights of some parts of a module, in place.

    Args:
        module: What has them.
        parts: Their names, with dots as in `nn.Module.get_submodule`.
        dtype: One of `FAST_DTYPES`.

    Raises:
        ConfigError: It is none of these.
    """
    if dtype not in FAST_DTYPES:
        raise ConfigError(
            f"fast mode computes in {', '.join(map(str, FAST_DTYPES))}, got {shown(dtype)}: choose one of these."
        )
    for part in parts:
        module.get_submodule(part).to(dtype=dtype)


def dtype_of(module: nn.Module, parts: Sequence[str]) -> torch.dtype:
    """Return the dtype of the first floating weight in some parts of a module, float32 if they have none."""
    for part in parts:
        for parameter in module.get_submodule(part).parameters():
            if parameter.is_floating_point():
                return parameter.dtype
    return torch.float32
