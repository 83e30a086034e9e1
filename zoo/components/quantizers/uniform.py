"""Uniform scalar quantization on a grid that includes both ends."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.components.layers.exact import KeepsPrecision

__all__ = ["UniformGrid"]


class UniformGrid(KeepsPrecision):
    """V equally spaced levels between a low and a high bound, one pair of bounds per slot.

    id = round(clip((x - low) / (high - low), 0, 1) · (V - 1)), half to even; value = low + id / (V - 1) · (high - low).
    Computed in float64 by separately rounded operations, so that an id depends on its value alone.

    Args:
        shape: Shape of the slots; inputs are (..., *shape).
        codebook_size: V, at least 2.

    Attributes:
        low: Lower bound of each slot, float64; NaN until `set_bounds`.
        high: Upper bound of each slot, float64.
        is_set: Whether the bounds are known.
    """

    low: Tensor
    high: Tensor
    inverse_step: Tensor
    origin: Tensor

    def __init__(self, shape: tuple[int, ...], codebook_size: int) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.is_set = False
        for name in ("low", "high"):
            self.register_buffer(name, torch.full(shape, torch.nan, dtype=torch.float64))
        for name in ("inverse_step", "origin"):
            self.register_buffer(name, torch.full(shape, torch.nan, dtype=torch.float64), persistent=False)
        self.register_load_state_dict_post_hook(_derive)  # type: ignore[no-untyped-call]

    def set_bounds(self, low: Tensor, high: Tensor) -> None:
        """Set the bounds, broadcast to the slots' shape; each high must exceed its low, and both be finite."""
        self.low = low.to(self.low).expand_as(self.low).contiguous()
        self.high = high.to(self.high).expand_as(self.high).contiguous()
        self._derive()

    @property
    def step(self) -> Tensor:
        """Distance between neighbouring levels, per slot."""
        return (self.high - self.low) / (self.codebook_size - 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Quantise x (..., *shape): return the nearest levels, with a straight-through gradient, and the ids."""
        ids = self.ids(x)
        codes = self.values(ids, x.dtype)
        return x + (codes - x).detach() if x.requires_grad else codes, ids

    def ids(self, x: Tensor) -> Tensor:
        """Return the id of each value, int64."""
        return self.round_levels(self.levels(x))

    def levels(self, x: Tensor) -> Tensor:
        """Return each value as an unrounded, unclipped position on the grid, float64."""
        return (x.double() * self.inverse_step).add_(self.origin)

    def round_levels(self, levels: Tensor) -> Tensor:
        """Return the nearest id of each position, overwriting `levels`."""
        return levels.round_().clamp_(0, self.codebook_size - 1).to(torch.int64)

    def values(self, ids: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the value of each id."""
        return (self.low + ids * self.step).to(dtype)

    def is_clipped(self, x: Tensor) -> Tensor:
        """Return which values lie outside their bounds and would be clipped, bool."""
        return (x < self.low) | (x > self.high)

    def _derive(self) -> None:
        width = self.high - self.low
        self.inverse_step = (self.codebook_size - 1) / width
        # In this order of operations 0 lies exactly halfway between levels, or on one, if the bounds are symmetric.
        self.origin = -self.low / width * (self.codebook_size - 1)
        self.is_set = not self.low.is_meta and not bool(self.low.isnan().any())


def _derive(grid: UniformGrid, _: object) -> None:
    # A function of the module, not a lambda, so that grids can be pickled.
    grid._derive()
