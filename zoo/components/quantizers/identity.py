"""No quantization: the vectors as they are, or samples of the Gaussian that they describe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from zoo.components.quantizers.base import Quantized, Quantizer, require, valid_only
from zoo.errors import TokenError

__all__ = ["Gaussian", "GaussianConfig", "Identity", "IdentityConfig"]


@dataclass(frozen=True)
class IdentityConfig:
    """No quantization.

    Attributes:
        dim: Width of the vectors.
    """

    dim: int
    kind: Literal["none"] = "none"

    def __post_init__(self) -> None:
        require(self.dim >= 1, f"none: dim must be at least 1, got {self.dim}.")


class Identity(Quantizer):
    """Codes are the vectors. There are no codebooks, so ids are (..., 0)."""

    def __init__(self, config: IdentityConfig) -> None:
        super().__init__(config.dim, codebook_size=0, num_codebooks=0)

    def codes(self, ids: Tensor) -> Tensor:
        """Raise `TokenError`: there are no ids."""
        raise TokenError("continuous latents have no ids to make codes of; keep the codes that forward returned.")

    def _ids(self, rows: Tensor) -> Tensor:
        return torch.empty(len(rows), 0, dtype=torch.int64, device=rows.device)

    def _quantize(
        self, rows: Tensor, valid: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        return rows, self._ids(rows), {}


@dataclass(frozen=True)
class GaussianConfig:
    """Latents of a variational autoencoder.

    Attributes:
        dim: Width of the codes; vectors have twice that, means and then logarithms of variances.
        kl_weight: Of KL(N(μ, σ²) | N(0, 1)), summed over an item and averaged over the batch.
    """

    dim: int
    kl_weight: float = 1e-6
    kind: Literal["gaussian"] = "gaussian"

    def __post_init__(self) -> None:
        require(self.dim >= 1, f"gaussian: dim must be at least 1, got {self.dim}.")


class Gaussian(Identity):
    """Codes are μ + σ·ε in training and μ otherwise, for vectors [μ, ln σ²] (arXiv 1312.6114); there are no ids."""

    def __init__(self, config: GaussianConfig) -> None:
        super().__init__(IdentityConfig(config.dim))
        self.input_dim = 2 * config.dim
        self.kl_weight = config.kl_weight

    def forward(self, z: Tensor, mask: Tensor | None = None, generator: torch.Generator | None = None) -> Quantized:
        """Sample from z (B, ..., 2D): codes (B, ..., D)."""
        result = super().forward(z, mask, generator)
        batch = max(1, len(z)) if z.ndim > 1 else 1
        return result._replace(losses={name: loss / batch for name, loss in result.losses.items()})

    def _quantize(
        self, rows: Tensor, valid: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        mean, log_variance = rows.chunk(2, -1)
        log_variance = log_variance.clamp(-30, 20)
        divergence = 0.5 * valid_only(mean.square() + log_variance.exp() - 1 - log_variance, valid).sum()
        codes = mean
        if self.training:
            noise = torch.randn(mean.shape, dtype=mean.dtype, generator=generator, device=mean.device)
            codes = mean + (0.5 * log_variance).exp() * noise
        return codes, self._ids(rows), {"kl": self.kl_weight * divergence}
