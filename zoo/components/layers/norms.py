"""Norms over the last axis, chosen by name."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from zoo.errors import ConfigError, near_matches

__all__ = ["NormName", "RMSNorm", "make_norm"]

NormName = Literal["layer", "rms"]


class RMSNorm(nn.Module):
    """x / √(mean(x²) + eps) · weight over the last axis (Zhang and Sennrich, arXiv 1910.07467).

    The statistic is float32 whatever x is; the quotient is in x's dtype again before it meets the weight, as in LLaMA.

    Args:
        width: D.
        eps: Added to the mean square.
        affine: Whether there is a weight.
    """

    weight: nn.Parameter | None

    def __init__(self, width: int, *, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (..., D)."""
        exact = x.float()
        normed = (exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)
        return normed if self.weight is None else normed * self.weight


def make_norm(name: str, width: int, *, eps: float = 1e-5, affine: bool = True) -> nn.Module:
    """Return a norm over the last axis.

    Args:
        name: "layer" for `torch.nn.LayerNorm`, "rms" for `RMSNorm`.
        width: D, size of that axis.
        eps: Added to the variance or mean square.
        affine: Whether it has a weight and, a layer norm, a bias.

    Raises:
        ConfigError: There is no norm of that name.
    """
    if name == "layer":
        return nn.LayerNorm(width, eps=eps, elementwise_affine=affine)
    if name == "rms":
        return RMSNorm(width, eps=eps, affine=affine)
    raise ConfigError(f"there is no norm {name!r}; {near_matches(str(name), ('layer', 'rms'))}")
