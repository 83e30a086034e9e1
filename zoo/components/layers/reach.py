"""How far values may lie from what statistics were fitted on before their unit must be wrong."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo.components.exact.precision import KeepsPrecision
from zoo.components.layers.normalization import CONSTANT

__all__ = ["LIMIT", "MAX_LIMIT", "Reach"]

LIMIT = 12.0
"""Degrees for radians are 57 times too large, millimetres for metres 1000 times; outliers are hardly ever that far."""

MAX_LIMIT = 1e6
"""The largest that makes sense."""

# Channels that hardly move are measured by this part of their magnitude: where they stand still may shift a little.
_LEAST = 0.01


class Reach(KeepsPrecision):
    """The values of each channel that are within `limit` half ranges of the middle of its range.

    Holds no state of a checkpoint: `set_range` derives it from statistics.

    Args:
        num_channels: D.
        limit: In half ranges, above 1.
    """

    low: Tensor
    high: Tensor

    def __init__(self, num_channels: int, limit: float) -> None:
        super().__init__()
        self.limit = limit
        for name in ("low", "high", "usual_low", "usual_high"):
            self.register_buffer(name, torch.full((num_channels,), torch.nan, dtype=torch.float64), persistent=False)
        # What every channel reaches: all values inside are fine, which one pass without regard to channels finds out.
        self._inner = (math.nan, math.nan)

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """State the range of each channel, (D,) each; one that is constant reaches `limit` units to each side."""
        if low.is_meta:
            return
        low, high = low.double(), high.double()
        centre, half = (low + high) / 2, (high - low) / 2
        half = torch.where(2 * half < CONSTANT, 1.0, torch.maximum(half, _LEAST * torch.maximum(low.abs(), high.abs())))
        self.usual_low, self.usual_high = low, high
        self.low, self.high = centre - self.limit * half, centre + self.limit * half
        self._inner = (float(self.low.max()), float(self.high.min()))

    def holds(self, x: Tensor) -> bool:
        """Whether all of x (..., T, D) is within reach; NaN is not."""
        if not x.numel():
            return True
        low, high = x.aminmax()
        lowest, highest = low.item(), high.item()
        if self._inner[0] <= lowest and highest <= self._inner[1]:
            return True
        if math.isnan(lowest):
            return False
        # Over whole chunks first: reducing to rows as short as D is slow.
        wide = x.reshape(-1, x.shape[-2] * x.shape[-1]) if x.ndim > 2 else x
        lows, highs = (each(wide, 0).view(-1, x.shape[-1]).double() for each in (torch.amin, torch.amax))
        return bool((lows >= self.low).all() and (highs <= self.high).all())

    def complaint(self, x: Tensor) -> str:
        """Return what is to be said of x (..., T, D), finite, that is not within reach."""
        flat = x.reshape(-1, x.shape[-1]).double()
        beyond = torch.maximum(flat - self.high, self.low - flat).amax(0) / (self.high - self.low)
        channel = int(beyond.argmax())
        low, high = float(self.usual_low[channel]), float(self.usual_high[channel])
        column = flat[:, channel]
        value = float(column[(column - (low + high) / 2).abs().argmax()])
        largest = max(abs(low), abs(high))
        times = f", some {abs(value) / largest:.3g} times the largest value" if largest else ", far from all"
        return (
            f"DoF {channel} reaches {value:.4g}{times} that the statistics were fitted on "
            f"({low:.4g} to {high:.4g}), and at most limit = {self.limit:g} half ranges from the middle are taken. "
            "Check the unit (degrees for radians, millimetres for metres?), or fit on data like it; if it is right, "
            "with a larger limit, or with wider action_quantiles where outliers are the cause."
        )

    def extra_repr(self) -> str:
        """Return the limit, for `repr`."""
        return f"limit={self.limit:g}"
