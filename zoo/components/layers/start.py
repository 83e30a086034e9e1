"""What weights of transformers start from, where a paper says it."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["start_linear_maps", "start_token"]


def start_linear_maps(module: nn.Module) -> None:
    """Start all linear maps in a module from Xavier's uniform distribution, their biases from 0.

    Those that start at zero are left alone: they modulate.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear) and (part.weight.is_meta or bool(part.weight.any())):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def start_token(token: Tensor) -> None:
    """Start a learned token or table from a normal distribution of deviation 0.02, cut off at 2, in place."""
    nn.init.trunc_normal_(token, std=0.02)
