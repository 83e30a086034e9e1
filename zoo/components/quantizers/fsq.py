"""Finite scalar quantization: each dimension is bounded and rounded on its own (arXiv 2309.15505)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from zoo.components.quantizers.base import Quantizer, integer_dot, require, straight_through

__all__ = ["FSQ", "FSQConfig"]

_BLOCK = 4096
_MAX_LEVELS = 1000  # beyond it (1 + ε)(L - 1)/2 exceeds the last level by more than half a step


@dataclass(frozen=True)
class FSQConfig:
    """Finite scalar quantization.

    Attributes:
        levels: Levels of each dimension, 2 to 1000 each; their product is the codebook size.
        bypass_rate: Probability, in training, that a vector passes bounded but not rounded.
    """

    levels: tuple[int, ...]
    bypass_rate: float = 0.0
    kind: Literal["fsq"] = "fsq"

    def __post_init__(self) -> None:
        require(
            len(self.levels) > 0 and all(2 <= level <= _MAX_LEVELS for level in self.levels),
            f"fsq: levels must be from 2 to {_MAX_LEVELS}, one a dimension, got {self.levels}.",
        )
        require(math.prod(self.levels) < 2**62, f"fsq: levels {self.levels} give more codes than int64 can count.")
        require(0 <= self.bypass_rate <= 1, f"fsq: bypass_rate is a probability, got {self.bypass_rate}.")


class FSQ(Quantizer):
    """Round tanh(z + s)·h - o, where h = (L - 1)(1 + ε)/2, o = ½ for even L and 0 for odd, s = atanh(o/h), ε = 10⁻³.

    Rounded values run from -⌊L/2⌋ to ⌈L/2⌉ - 1; divided by ⌊L/2⌋ they are the code. The id is the number whose digits
    they are, in the mixed radix of the levels, dimension 0 least significant. No parameters, no losses.

    The float32 tanh, which differs between devices, decides nothing near a boundary between levels: there z is compared
    with the boundary itself, atanh((k + ½ + o)/h) - s, in float64.
    """

    levels: Tensor
    powers: Tensor
    middle: Tensor
    width: Tensor
    minus_offset: Tensor
    shift: Tensor
    boundaries: Tensor

    def __init__(self, config: FSQConfig) -> None:
        levels = config.levels
        super().__init__(len(levels), math.prod(levels))
        self.bypass_rate = config.bypass_rate
        halves = [(level - 1) * 1.001 / 2 for level in levels]
        offsets = [0.0 if level % 2 else 0.5 for level in levels]
        shifts = [math.atanh(offset / half) for offset, half in zip(offsets, halves, strict=True)]
        boundaries = [
            [math.atanh((k + 0.5 + o - level // 2) / h) - s for k in range(level - 1)]
            + [math.inf] * (max(levels) - level)
            for level, h, o, s in zip(levels, halves, offsets, shifts, strict=True)
        ]
        # A bound of the float32 error of the bounded value, several times over.
        self._sure = 0.5 - (max(halves) + 1) * 2.0**-20
        powers = [math.prod(levels[:i]) for i in range(len(levels))]
        # The id of rounded values that are all 0.
        self._origin = sum(level // 2 * power for level, power in zip(levels, powers, strict=True))
        tables: dict[str, tuple[list, torch.dtype]] = {
            "levels": (list(levels), torch.int64),
            "powers": (powers, torch.int64),
            "middle": ([level // 2 for level in levels], torch.int64),
            "width": (halves, torch.float32),
            "minus_offset": ([-offset for offset in offsets], torch.float32),
            "shift": (shifts, torch.float32),
            "boundaries": (boundaries, torch.float64),
        }
        for name, (values, dtype) in tables.items():
            self.register_buffer(name, torch.tensor(values, dtype=dtype), persistent=False)

    def codes(self, ids: Tensor) -> Tensor:
        """Return the codes of ids (...), float32 (..., D) in [-1, 1]."""
        digits = torch.div(ids[..., None], self.powers, rounding_mode="floor") % self.levels
        return self._codes(digits - self.middle)

    def _ids(self, rows: Tensor) -> Tensor:
        if len(rows) > _BLOCK and not rows.is_cuda:  # blocks that stay in the cache
            return torch.cat([self._ids(part) for part in torch.split(rows, _BLOCK)])
        return self._number(self._round(rows, self._bound(rows)))

    def _quantize(
        self, rows: Tensor, valid: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        bounded = self._bound(rows)
        rounded = self._round(rows.detach(), bounded.detach())
        scaled = bounded / self.middle
        codes = straight_through(scaled, self._codes(rounded))
        if self.training and self.bypass_rate:
            chance = torch.rand(len(rows), 1, generator=generator, device=rows.device)
            codes = torch.where(chance < self.bypass_rate, scaled, codes)
        return codes, self._number(rounded), {}

    def _bound(self, rows: Tensor) -> Tensor:
        return torch.addcmul(self.minus_offset, torch.tanh(rows + self.shift), self.width)

    def _round(self, rows: Tensor, bounded: Tensor) -> Tensor:
        """Return the rounded values, -⌊L/2⌋ to ⌈L/2⌉ - 1, int64 (N, D)."""
        nearest = bounded.round()
        distance = bounded - nearest
        rounded = nearest.to(torch.int64)
        # Written so that NaN is unsure; it gets the lowest level.
        if len(rows) and not all(abs(end.item()) <= self._sure for end in distance.aminmax()):
            unsure = (~(distance.abs() <= self._sure)).nonzero(as_tuple=True)
            passed = (rows[unsure].double()[:, None] > self.boundaries[unsure[1]]).sum(1)
            rounded[unsure] = passed - self.middle[unsure[1]]
        return rounded

    def _codes(self, rounded: Tensor) -> Tensor:
        return rounded.float() / self.middle

    def _number(self, rounded: Tensor) -> Tensor:
        return integer_dot(rounded, self.powers).add_(self._origin)
