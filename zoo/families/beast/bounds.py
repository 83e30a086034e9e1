"""The bounds of BEAST's control points, from what control points the fitted data has."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.components.statistics import RunningRange
from zoo.families.beast.config import BeastConfig

__all__ = ["fitted_bounds"]

_MIN_WIDTH = 1e-6


def fitted_bounds(
    seen: RunningRange, of_centre: Tensor, half_range: Tensor, config: BeastConfig
) -> tuple[Tensor, Tensor]:
    """Return the lower and the upper bounds of control points in normalised units, (F, D) or (1, D) each.

    Args:
        seen: Control points (F, D) in physical units. They were gathered before the centre of the data was known; the
            fit is linear, so it can be taken off here.
        of_centre: Control points (F, D) of the centre.
        half_range: What normalised units divide by, (D,).
        config: Which bounds are wanted.
    """
    if config.bounds == "minmax":
        low, high = seen.low, seen.high
    else:
        low, high = (seen.quantile(q) for q in config.bounds_quantiles)
    low, high = ((bound.to(half_range) - of_centre) / half_range for bound in (low, high))
    if config.per == "dof":
        low, high = low.amin(0, keepdim=True), high.amax(0, keepdim=True)
    extra = (high - low) * config.margin + torch.where(high - low < _MIN_WIDTH, _MIN_WIDTH / 2, 0.0)
    return low - extra, high + extra
