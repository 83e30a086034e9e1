"""Stochastic vector quantization: training samples the code, inference takes the most likely (arXiv 2410.21264)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from zoo.components.exact.nearest import unit
from zoo.components.quantizers.base import full_precision, require
from zoo.components.quantizers.kinds import StageConfig
from zoo.components.quantizers.vq import VQ, VQConfig
from zoo.config import MAX_SIZE

__all__ = ["StochasticVQ", "StochasticVQConfig"]


@dataclass(frozen=True)
class StochasticVQConfig(StageConfig):
    """Stochastic vector quantization.

    Attributes:
        codebook_size: K.
        dim: Width of vectors and codes.
        temperature: τ of what is drawn; smaller is closer to the nearest code.
        learns_temperature: Whether 1 / τ is a parameter, which starts from the one of `temperature`. It scales no
            code, so that none of the losses here reaches it: who trains it needs one of its own.
        commitment_weight: Of mean((u - sg(c))²).
        codebook_weight: Of mean((sg(u) - c)²).
        revive_below: As of `VQConfig`; as published 0, which never replaces a code.
        usage_decay: As of `VQConfig`.
    """

    codebook_size: int
    dim: int
    temperature: float = 0.03
    commitment_weight: float = 0.25
    codebook_weight: float = 1.0
    learns_temperature: bool = False
    revive_below: float = 0.0
    usage_decay: float = 0.99
    kind: Literal["stochastic_vq"] = "stochastic_vq"

    def __post_init__(self) -> None:
        require(
            1e-6 <= self.temperature <= 1e6,
            f"stochastic_vq: temperature must be positive, from 1e-6 to 1e6, got {self.temperature}.",
        )
        require(
            1 <= self.codebook_size <= 2**30,
            f"stochastic_vq: codebook_size must be from 1 to 2^30, got {self.codebook_size}.",
        )
        require(1 <= self.dim <= MAX_SIZE, f"stochastic_vq: dim must be from 1 to {MAX_SIZE}, got {self.dim}.")


class StochasticVQ(VQ):
    """VQ by angle whose ids are drawn, in training mode, from softmax_k(u·e_k / τ), u = z/|z|, |e_k| = 1.

    Attributes:
        temperature: τ; may be changed while training. Without meaning if it is learned.
        inverse_temperature: 1 / τ, (), if it is learned; None if not.
    """

    inverse_temperature: nn.Parameter | None

    config_class: ClassVar[type] = StochasticVQConfig

    def __init__(self, config: StochasticVQConfig) -> None:
        super().__init__(
            VQConfig(
                config.codebook_size,
                config.dim,
                cosine=True,
                commitment_weight=config.commitment_weight,
                codebook_weight=config.codebook_weight,
                revive_below=config.revive_below,
                usage_decay=config.usage_decay,
            )
        )
        self.temperature = config.temperature
        self.inverse_temperature = None
        if config.learns_temperature:
            self.inverse_temperature = nn.Parameter(torch.tensor(1 / config.temperature, dtype=torch.float32))

    def probabilities(self, z: Tensor) -> Tensor:
        """Return the probability of each code for z (..., D), float32 (..., K)."""
        with torch.no_grad(), full_precision(z):
            rows = self._rows(z)
            return self._likelihoods(rows, self.vectors()).view(*z.shape[:-1], self.codebook_size)

    def draw(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return ids of z (..., D) drawn from `probabilities`, int64 (...), in either mode.

        Args:
            z: The vectors.
            generator: Source of randomness, on any device; that of the vectors' if None.
        """
        with torch.no_grad(), full_precision(z):
            return self._shape_ids(self._drawn(self._rows(z), self.vectors(), generator), z)

    def _likelihoods(self, rows: Tensor, vectors: Tensor) -> Tensor:
        cosines = unit(rows) @ vectors.T
        if self.inverse_temperature is not None:
            return (cosines * self.inverse_temperature).softmax(-1)
        return (cosines / self.temperature).softmax(-1)

    def _choose(self, rows: Tensor, vectors: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.training:
            return super()._choose(rows, vectors, generator)
        return self._drawn(rows, vectors, generator)

    def _drawn(self, rows: Tensor, vectors: Tensor, generator: torch.Generator | None) -> Tensor:
        # A race of exponential clocks, which the code with clock / p smallest wins; unlike torch.multinomial it takes
        # padding of NaN, and draws the same numbers whatever the padding holds.
        source = rows.device if generator is None else generator.device
        # Logarithms of uniform numbers are made six times as fast on a CPU as `exponential_` is, and none of them is 0.
        clocks = torch.rand(len(rows), len(vectors), generator=generator, dtype=rows.dtype, device=source).log_().neg_()
        return (self._likelihoods(rows, vectors) / clocks.to(rows.device)).argmax(1)
