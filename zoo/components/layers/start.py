"""What weights of transformers start from, where a paper says it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["start_linear_maps", "start_table", "start_token"]

_STD = 0.02


def start_linear_maps(module: nn.Module, std: float | None = None) -> None:
    """Start all linear maps in a module from Xavier's uniform distribution, their biases from 0.

    Those that start at zero are left alone: they modulate.

    Args:
        module: Has them.
        std: Deviation of a normal distribution, cut off at 2, that they start from instead, as ViT's do.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear) and (part.weight.is_meta or bool(part.weight.any())):
            if std is None:
                nn.init.xavier_uniform_(part.weight)
            else:
                nn.init.trunc_normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def start_token(token: Tensor) -> None:
    """Start a learned token or table from a normal distribution of deviation 0.02, cut off at 2, in place."""
    nn.init.trunc_normal_(token, std=_STD)


def start_table(shape: Sequence[int], std: float = _STD) -> nn.Parameter:
    """Return a learned table, drawn from a normal distribution."""
    return nn.Parameter(torch.randn(*shape) * std)
