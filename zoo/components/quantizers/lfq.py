"""Lookup-free quantization: the sign of each dimension is one bit (arXiv 2310.05737)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from zoo.components.quantizers.base import Quantizer, integer_dot, mean, require, straight_through, valid_only
from zoo.components.quantizers.entropy import MOST_SUMMED_BITS, entropies, entropies_of, entropy_sums
from zoo.components.quantizers.kinds import StageConfig

__all__ = ["LFQ", "LFQConfig", "bits_of", "to_signs"]


@dataclass(frozen=True)
class LFQConfig(StageConfig):
    """Lookup-free quantization.

    Attributes:
        num_bits: d, the width of the vectors; the codebook has 2^d codes.
        commitment_weight: Of mean((z - sg(c))²).
        entropy_weight: Of E[H(π)] - diversity · H(E[π]); makes each vector sure of its code, and codes equally used.
        diversity: See there.
        temperature: τ of π = softmax(2 z·c / τ).
    """

    num_bits: int
    commitment_weight: float = 0.25
    entropy_weight: float = 0.1
    diversity: float = 1.0
    temperature: float = 0.01
    kind: Literal["lfq"] = "lfq"

    def __post_init__(self) -> None:
        require(1 <= self.num_bits <= 30, f"lfq: num_bits must be from 1 to 30, got {self.num_bits}.")
        require(self.temperature > 0, f"lfq: temperature must be positive, got {self.temperature}.")


class LFQ(Quantizer):
    """Code c_j = +1 if z_j > 0 else -1, id Σ_j [z_j > 0]·2^j.

    Signs of values that are given need no care to be the same in every batch.
    """

    powers: Tensor

    config_class: ClassVar[type] = LFQConfig

    def __init__(self, config: LFQConfig) -> None:
        super().__init__(config.num_bits, 2**config.num_bits)
        self.config = config
        self.register_buffer("powers", torch.tensor([2**bit for bit in range(config.num_bits)]), persistent=False)

    def codes(self, ids: Tensor) -> Tensor:
        """Return the codes of ids (...), float32 (..., d) of ±1."""
        return to_signs(bits_of(ids, self.dim))

    def _ids(self, rows: Tensor) -> Tensor:
        return integer_dot((rows > 0).to(torch.int64), self.powers)

    def _quantize(
        self, rows: Tensor, valid: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        config = self.config
        signs = to_signs(rows > 0)
        losses = {"commitment": config.commitment_weight * mean(valid_only(rows - signs, valid).square())}
        if config.entropy_weight:
            each, average = entropies(valid_only(rows, valid), config.temperature)
            losses["entropy"] = config.entropy_weight * (each - config.diversity * average)
        return straight_through(rows, signs), self._ids(rows), losses

    def _sums(self, rows: Tensor) -> dict[str, tuple[Any, ...]]:
        if not self.config.entropy_weight or self.dim > MOST_SUMMED_BITS:
            return {}
        return {"entropy": (partial(_entropy, self.config), *entropy_sums(rows, self.config.temperature))}


def _entropy(config: LFQConfig, *sums: Tensor) -> Tensor:
    each, average = entropies_of(*sums)
    return config.entropy_weight * (each - config.diversity * average)


def bits_of(ids: Tensor, num_bits: int) -> Tensor:
    """Return the bits of ids (...), least significant first, bool (..., num_bits)."""
    return (ids[..., None] >> torch.arange(num_bits, device=ids.device)) % 2 > 0


def to_signs(bits: Tensor) -> Tensor:
    """Return +1 for True and -1 for False, float32."""
    return bits.float() * 2 - 1
