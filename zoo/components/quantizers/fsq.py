"""Finite scalar quantization: each dimension is bounded and rounded on its own (arXiv 2309.15505)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from zoo.components.quantizers.base import Quantizer, integer_dot, require, straight_through
from zoo.components.quantizers.kinds import StageConfig

__all__ = ["FSQ", "FSQConfig"]

_BLOCK = 4096
_LOWEST = 0.0005 / 1.001
_MAX_LEVELS = 1000  # beyond it (1 + ε)(L - 1)/2 exceeds the last level by more than half a step


@dataclass(frozen=True)
class FSQConfig(StageConfig):
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

    What is computed are the digits, from 0, by tanh(x) = 2σ(2x) - 1, as σ is several times faster in float32: rounded
    is 2h·(σ(2z + 2s) - c), c = ε/2(1 + ε), which is the above plus ⌊L/2⌋. It differs between devices in its last bits,
    but decides nothing near a boundary between levels: there z is compared with the boundary itself,
    atanh((k + ½ + o)/h) - s, in float64.
    """

    levels: Tensor
    powers: Tensor
    middle: Tensor
    tables: Tensor
    boundaries: Tensor

    config_class: ClassVar[type] = FSQConfig

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
        # Roundings to float32 put the value at most (14 + s)·h·2⁻²⁴ off, if those of exp are within 2 ulp.
        self._sure = 0.5 - (max(halves) + 1) * 2.0**-20
        formula = [[2 * shift for shift in shifts], [2 * half for half in halves]]
        # Repeated for a block of vectors, because broadcasting along a short last axis is slow.
        tables = torch.tensor(formula, dtype=torch.float32)[:, None].expand(-1, _BLOCK, -1).clone()
        # 32 bits, where they hold every id, are faster.
        integer = torch.int32 if self.codebook_size <= 2**31 else torch.int64
        powers = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.int64), persistent=False)
        self.register_buffer("powers", torch.tensor(powers, dtype=integer), persistent=False)
        self.register_buffer("middle", torch.tensor([level // 2 for level in levels]), persistent=False)
        self.register_buffer("tables", tables, persistent=False)
        self.register_buffer("boundaries", torch.tensor(boundaries, dtype=torch.float64), persistent=False)

    def codes(self, ids: Tensor) -> Tensor:
        """Return the codes of ids (...), float32 (..., D) in [-1, 1]."""
        return self._codes(torch.div(ids[..., None], self.powers, rounding_mode="floor") % self.levels)

    def _ids(self, rows: Tensor) -> Tensor:
        if len(rows) > _BLOCK and not rows.is_cuda:  # blocks that stay in the cache
            return torch.cat([self._ids(part) for part in torch.split(rows, _BLOCK)])
        return self._number(self._digits(rows, self._values(rows)))

    def _quantize(
        self, rows: Tensor, valid: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        values = self._values(rows)
        digits = self._digits(rows.detach(), values.detach())
        scaled = (values - self.middle) / self.middle
        codes = straight_through(scaled, self._codes(digits))
        if self.training and self.bypass_rate:
            chance = torch.rand(len(rows), 1, dtype=torch.float32, generator=generator, device=rows.device)
            codes = torch.where(chance < self.bypass_rate, scaled, codes)
        return codes, self._number(digits), {}

    def _values(self, rows: Tensor) -> Tensor:
        """Return what is rounded to digits, -½ to L - ½, float32 (N, D)."""
        shift, width = self.tables.narrow(1, 0, len(rows) if len(rows) <= _BLOCK else 1)
        return (torch.add(shift, rows, alpha=2).sigmoid_() - _LOWEST).mul_(width)

    def _digits(self, rows: Tensor, values: Tensor) -> Tensor:
        """Return the rounded values, 0 to L - 1, integers (N, D)."""
        nearest = values.round()
        distance = values - nearest
        digits = nearest.to(self.powers.dtype)
        if len(rows):
            low, high = distance.aminmax()
            # Written so that NaN is unsure; it gets the lowest level.
            if not (low.item() >= -self._sure and high.item() <= self._sure):
                unsure = (~(distance.abs() <= self._sure)).flatten().nonzero()[:, 0]
                boundaries = self.boundaries.index_select(0, unsure % self.dim)
                passed = (rows.take(unsure)[:, None] > boundaries).sum(1)
                digits.put_(unsure, passed.to(digits.dtype))
        return digits

    def _codes(self, digits: Tensor) -> Tensor:
        return (digits - self.middle).float() / self.middle

    def _number(self, digits: Tensor) -> Tensor:
        return integer_dot(digits, self.powers).to(torch.int64)
