"""Stochastic vector quantization: training samples the code, inference takes the most likely (arXiv 2410.21264)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from zoo.components.exact.nearest import unit
from zoo.components.quantizers.base import full_precision, require
from zoo.components.quantizers.vq import VQ, VQConfig

__all__ = ["StochasticVQ", "StochasticVQConfig"]


@dataclass(frozen=True)
class StochasticVQConfig:
    """Stochastic vector quantization.

    Attributes:
        codebook_size: K.
        dim: Width of vectors and codes.
        temperature: τ, in training; smaller is closer to the nearest code.
        commitment_weight: Of mean((u - sg(c))²).
        codebook_weight: Of mean((sg(u) - c)²).
    """

    codebook_size: int
    dim: int
    temperature: float = 0.03
    commitment_weight: float = 0.25
    codebook_weight: float = 1.0
    kind: Literal["stochastic_vq"] = "stochastic_vq"

    def __post_init__(self) -> None:
        require(self.temperature > 0, f"stochastic_vq: temperature must be positive, got {self.temperature}.")
        require(self.codebook_size >= 1, f"stochastic_vq: codebook_size must be at least 1, got {self.codebook_size}.")
        require(self.dim >= 1, f"stochastic_vq: dim must be at least 1, got {self.dim}.")


class StochasticVQ(VQ):
    """VQ by angle whose ids are drawn, in training mode, from softmax_k(u·e_k / τ), u = z/|z|, |e_k| = 1.

    Attributes:
        temperature: τ; may be changed while training.
    """

    def __init__(self, config: StochasticVQConfig) -> None:
        super().__init__(
            VQConfig(
                config.codebook_size,
                config.dim,
                cosine=True,
                commitment_weight=config.commitment_weight,
                codebook_weight=config.codebook_weight,
            )
        )
        self.temperature = config.temperature

    def probabilities(self, z: Tensor) -> Tensor:
        """Return the probability of each code for z (..., D), float32 (..., K)."""
        with torch.no_grad(), full_precision(z):
            rows = self._rows(z)
            return self._likelihoods(rows, self.vectors()).view(*z.shape[:-1], self.codebook_size)

    def _likelihoods(self, rows: Tensor, vectors: Tensor) -> Tensor:
        return (unit(rows) @ vectors.T / self.temperature).softmax(-1)

    def _choose(self, rows: Tensor, vectors: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.training:
            return super()._choose(rows, vectors, generator)
        # A race of exponential clocks, which the code with clock / p smallest wins; unlike torch.multinomial it takes
        # padding of NaN, and draws the same numbers whatever the padding holds.
        clocks = rows.new_empty(len(rows), len(vectors)).exponential_(generator=generator)
        return (self._likelihoods(rows, vectors) / clocks).argmax(1)
