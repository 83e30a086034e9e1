"""Affine normalisation of physical quantities."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.components.exact.precision import KeepsPrecision

__all__ = ["CONSTANT", "RangeNormalizer"]

CONSTANT = 1e-8
"""A channel with a smaller range counts as constant."""


class RangeNormalizer(KeepsPrecision):
    """Map [low, high] of each channel to [-1, 1]: affine only, nothing is clipped.

    A channel whose range is below 1e-8 is shifted to 0 and keeps its scale.

    Args:
        num_channels: D.
    """

    centre: Tensor
    half_range: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.full((num_channels,), torch.nan, dtype=torch.float64))
        self.register_buffer("half_range", torch.full((num_channels,), torch.nan, dtype=torch.float64))

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Set the range of each channel, (D,) each."""
        spread = high.double() - low.double()
        self.centre = ((high.double() + low.double()) / 2).to(self.centre.device)
        self.half_range = torch.where(spread < CONSTANT, 1.0, spread / 2).to(self.centre.device)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (..., D): return float64, the same for each element whatever is around it."""
        return (x.double() - self._expanded(self.centre, x)).div_(self._expanded(self.half_range, x))

    def restore(self, x: Tensor) -> Tensor:
        """Undo `forward`: return x (..., D) in physical units, in x's dtype."""
        return (x * self._expanded(self.half_range, x) + self._expanded(self.centre, x)).to(x.dtype)

    @staticmethod
    def _expanded(values: Tensor, x: Tensor) -> Tensor:
        """Return values (D,) for each step of x (B, T, D): broadcasting along a short last axis is slow."""
        return values if x.ndim < 3 or len(x) < 2 else values.expand(x.shape[-2:]).contiguous()
