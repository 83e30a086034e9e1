"""Uniform scalar quantization on a grid that includes both ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from zoo.components.exact.precision import KeepsPrecision
from zoo.components.quantizers.base import Quantizer, require, straight_through
from zoo.components.quantizers.kinds import QuantizerConfig
from zoo.config import MAX_SIZE, check_fields

__all__ = ["Uniform", "UniformConfig", "UniformGrid"]

_RESOLUTION = 2.0**-22  # what float32 tells apart, twice over


class UniformGrid(KeepsPrecision):
    """V equally spaced levels between a low and a high bound, one pair of bounds per slot.

    id = round(clip((x - low) / (high - low), 0, 1) · (V - 1)), half to even; value = low + id / (V - 1) · (high - low).
    Computed in float64 by separately rounded operations, so that an id depends on its value alone.

    Args:
        shape: Shape of the slots; inputs are (..., *shape).
        codebook_size: V, at least 2; or one a slot, broadcast to the shape.
        is_fitted: Whether the bounds are statistics, hence part of the state, and not settings.

    Attributes:
        codebook_size: V, the largest if they differ.
        low: Lower bound of each slot, float64; NaN until `set_bounds`.
        high: Upper bound of each slot, float64.
        is_set: Whether the bounds are known.
    """

    low: Tensor
    high: Tensor
    inverse_step: Tensor
    origin: Tensor
    last_ids: Tensor | None

    def __init__(self, shape: tuple[int, ...], codebook_size: int | Sequence[int], *, is_fitted: bool = True) -> None:
        super().__init__()
        sizes = [codebook_size] if isinstance(codebook_size, int) else codebook_size
        self.codebook_size = max(sizes)
        self.is_set = False
        # A number for all slots where there can be one, which is faster than a tensor.
        last_ids = None if len(set(sizes)) == 1 else torch.tensor(sizes, dtype=torch.float64) - 1
        self.register_buffer("last_ids", last_ids, persistent=False)
        for name in ("low", "high"):
            self.register_buffer(name, torch.full(shape, torch.nan, dtype=torch.float64), persistent=is_fitted)
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
        return (self.high - self.low) / self._last

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Quantise x (..., *shape): return the nearest levels, with a straight-through gradient, and the ids."""
        ids = self.ids(x)
        codes = self.values(ids, x.dtype)
        return x + (codes - x).detach() if x.requires_grad else codes, ids

    def ids(self, x: Tensor) -> Tensor:
        """Return the id of each value, int64."""
        return self.round_levels(self.levels(x))

    def ids_(self, x: Tensor) -> Tensor:
        """Return the id of each value of x, float64, which is overwritten: spares the memory of another one."""
        return self.round_levels(x.mul_(self.inverse_step).add_(self.origin))

    def levels(self, x: Tensor) -> Tensor:
        """Return each value as an unrounded, unclipped position on the grid, float64."""
        return (x.double() * self.inverse_step).add_(self.origin)

    def round_levels(self, levels: Tensor) -> Tensor:
        """Return the nearest id of each position, overwriting `levels`."""
        rounded = levels.round_()
        if self.last_ids is None:
            return rounded.clamp_(0, self.codebook_size - 1).to(torch.int64)
        return rounded.clamp_(min=0).minimum(self.last_ids).to(torch.int64)

    def values(self, ids: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the value of each id."""
        return (self.low + ids * self.step).to(dtype)

    def is_clipped(self, x: Tensor) -> Tensor:
        """Return which values lie outside their bounds and would be clipped, bool."""
        return (x < self.low) | (x > self.high)

    @property
    def _last(self) -> int | Tensor:
        """The last id of all slots, or of each."""
        return self.codebook_size - 1 if self.last_ids is None else self.last_ids

    def _derive(self) -> None:
        width = self.high - self.low
        self.inverse_step = self._last / width
        # In this order of operations 0 lies exactly halfway between levels, or on one, if the bounds are symmetric.
        self.origin = -self.low / width * self._last
        self.is_set = not self.low.is_meta and not bool(self.low.isnan().any())


def _derive(grid: UniformGrid, _: object) -> None:
    # A function of the module, not a lambda, so that grids can be pickled.
    grid._derive()


@dataclass(frozen=True)
class UniformConfig(QuantizerConfig):
    """Uniform scalar quantization with bounds that are known beforehand.

    Attributes:
        dim: Width of vectors and codes, D.
        levels: Levels of each dimension, at least 2; one number for all or one a dimension.
        low: The first level of each dimension, likewise.
        high: The last level, likewise.
    """

    dim: int
    levels: int | tuple[int, ...] = 256
    low: float | tuple[float, ...] = -1.0
    high: float | tuple[float, ...] = 1.0
    kind: Literal["uniform"] = "uniform"

    def __post_init__(self) -> None:
        check_fields(self, "uniform")
        require(1 <= self.dim <= MAX_SIZE, f"uniform: dim must be from 1 to {MAX_SIZE}, got {self.dim}.")
        for name in ("levels", "low", "high"):
            value = getattr(self, name)
            require(
                not isinstance(value, tuple) or len(value) == self.dim,
                f"uniform: {name} must be one number, or one for each of {self.dim} dimensions, got {value}.",
            )
        for levels, low, high in self.each():
            require(levels >= 2, f"uniform: levels must be at least 2, got {self.levels}.")
            require(low < high, f"uniform: low must be below high, got {self.low} and {self.high}.")
            require(
                (high - low) / (levels - 1) > _RESOLUTION * max(abs(low), abs(high)),
                f"uniform: float32 cannot tell {levels} levels from {low} to {high} apart.",
            )

    def each(self) -> list[tuple[int, float, float]]:
        """Return levels, low and high of each dimension."""
        parts: list[Any] = [
            value if isinstance(value, tuple) else (value,) * self.dim for value in (self.levels, self.low, self.high)
        ]
        return list(zip(*parts, strict=True))


class Uniform(Quantizer):
    """Every number becomes the nearest of its dimension's levels, and an id of its own: `UniformGrid`, of fixed bounds.

    Dimensions are codebooks: ids are (..., D), or (...) if D is 1. Numbers beyond the bounds get the nearest end, NaN
    the first level. Gradients pass straight through, beyond the bounds as well. No parameters, no losses.

    Attributes:
        grid: The arithmetic.
    """

    config_class: ClassVar[type] = UniformConfig

    def __init__(self, config: UniformConfig) -> None:
        levels, low, high = zip(*config.each(), strict=True)
        super().__init__(config.dim, max(levels), config.dim)
        self.grid = UniformGrid((config.dim,), levels, is_fitted=False)
        self.grid.set_bounds(torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64))

    def codes(self, ids: Tensor) -> Tensor:
        """Return the codes of ids (..., D), or (...) if D is 1, float32 (..., D)."""
        return self.grid.values(ids[..., None] if self.dim == 1 else ids)

    def _ids(self, rows: Tensor) -> Tensor:
        ids = self.grid.ids(rows.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf))
        return ids[:, 0] if self.dim == 1 else ids

    def _quantize(
        self, rows: Tensor, valid: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        ids = self._ids(rows.detach())
        return straight_through(rows, self.codes(ids)), ids, {}
