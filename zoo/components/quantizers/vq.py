"""Vector quantization: the nearest vector of a learned codebook (arXiv 1711.00937)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.components.exact.nearest import nearest, ordered_sum, unit
from zoo.components.quantizers.base import Quantizer, mean, require, straight_through, valid_only
from zoo.components.quantizers.collective import sample_rows, total

__all__ = ["VQ", "VQConfig"]

_NEVER = 1e-5  # a code with a smaller moving count keeps its place


@dataclass(frozen=True)
class VQConfig:
    """Vector quantization.

    Attributes:
        codebook_size: K.
        dim: Width of vectors and codes.
        cosine: Scale vectors and codes to length 1 and compare by angle (arXiv 2110.04627).
        commitment_weight: Of mean((z - sg(c))²).
        codebook_weight: Of mean((sg(z) - c)²), which trains a codebook that has no `ema_decay`.
        ema_decay: Decay γ of the moving averages that the codebook is made of, instead of being trained by gradient.
        revive_below: Codes used less than this share of the average code's use are replaced by vectors of the batch;
            0 never replaces any.
        usage_decay: Decay of the counts which that is judged by, if there is no `ema_decay`.
        kmeans_iterations: Start from that many rounds of k-means on the first training batch; 0 starts from random.
    """

    codebook_size: int
    dim: int
    cosine: bool = False
    commitment_weight: float = 0.25
    codebook_weight: float = 1.0
    ema_decay: float | None = None
    revive_below: float = 0.0
    usage_decay: float = 0.99
    kmeans_iterations: int = 0
    kind: Literal["vq"] = "vq"

    def __post_init__(self) -> None:
        require(self.codebook_size >= 1, f"vq: codebook_size must be at least 1, got {self.codebook_size}.")
        require(self.dim >= 1, f"vq: dim must be at least 1, got {self.dim}.")
        for name in ("ema_decay", "usage_decay"):
            decay = getattr(self, name)
            require(decay is None or 0 <= decay < 1, f"vq: {name} must be at least 0 and below 1, got {decay}.")
        require(
            0 <= self.revive_below < 1, f"vq: revive_below must be at least 0 and below 1, got {self.revive_below}."
        )
        require(self.kmeans_iterations >= 0, f"vq: kmeans_iterations must not be negative: {self.kmeans_iterations}.")


class VQ(Quantizer):
    """id = argmin_k |z - e_k|², code = e_id; gradients pass straight through.

    With `ema_decay` γ the codebook is e_k = m_k / N_k, where each training step sets N_k ← γ N_k + (1 - γ) n_k and
    m_k ← γ m_k + (1 - γ) Σ z over the n_k vectors that chose k, on all processes together (appendix A.1 of the paper;
    starting from N_k = 1, m_k = e_k).

    A code that has died is revived at the start of the next training step, before anything is computed with it, with
    average statistics, and identically on all processes.

    Attributes:
        codebook: (K, D), a parameter, or a buffer if it is a moving average. `vectors()` is what is searched.
        counts: N_k, moving average of how often each code is chosen in a step.
        sums: m_k, (K, D).
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    is_initialised: Tensor

    def __init__(self, config: VQConfig) -> None:
        super().__init__(config.dim, config.codebook_size)
        self.config = config
        codebook = nn.init.kaiming_uniform_(torch.empty(config.codebook_size, config.dim, dtype=torch.float32))
        if config.ema_decay is None:
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
            self.register_buffer("sums", codebook.clone())
        if config.ema_decay is not None or config.revive_below:
            self.register_buffer("counts", torch.ones(config.codebook_size, dtype=torch.float32))
        if config.kmeans_iterations:
            self.register_buffer("is_initialised", torch.tensor(False))

    def vectors(self) -> Tensor:
        """Return the codes of all ids, (K, D)."""
        return unit(self.codebook) if self.config.cosine else self.codebook

    def codes(self, ids: Tensor) -> Tensor:
        """Return the codes of ids (...), float32 (..., D)."""
        # Gather, then scale: each code is scaled on its own, so the order does not matter.
        codes = F.embedding(ids, self.codebook)
        return unit(codes) if self.config.cosine else codes

    def _ids(self, rows: Tensor) -> Tensor:
        return nearest(rows, self.vectors(), by_angle=self.config.cosine)

    def _choose(self, rows: Tensor, vectors: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the ids of rows (N, D) as the step uses them, here those of `ids`."""
        return nearest(rows, vectors, by_angle=self.config.cosine)

    def _quantize(
        self, rows: Tensor, valid: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        config = self.config
        z = unit(rows) if config.cosine else rows
        if self.training:
            self._prepare(valid_only(z.detach(), valid), generator)
        vectors = self.vectors()
        ids = self._choose(rows.detach(), vectors.detach(), generator)
        codes = F.embedding(ids, vectors)
        kept, chosen = valid_only(z, valid), valid_only(codes, valid)
        losses = {"commitment": config.commitment_weight * mean((kept - chosen.detach()).square())}
        if config.ema_decay is None:
            losses["codebook"] = config.codebook_weight * mean((kept.detach() - chosen).square())
        if self.training and (config.ema_decay is not None or config.revive_below):
            self._observe(kept.detach(), valid_only(ids, valid))
        return straight_through(z, codes), ids, losses

    @torch.no_grad()
    def _prepare(self, rows: Tensor, generator: torch.Generator | None) -> None:
        """Start from k-means, the first time, and revive what has died."""
        if self.config.kmeans_iterations and not self.is_initialised.item():
            self._start(rows, generator)
        if not self.config.revive_below:
            return
        average = ordered_sum(self.counts.double()) / len(self.counts)
        dead = (self.counts < self.config.revive_below * average).nonzero()[:, 0]
        if len(dead):
            fresh = sample_rows(rows, len(dead), generator)
            dead = dead[: len(fresh)]
            self.codebook[dead] = fresh
            self.counts[dead] = average.float()
            if self.config.ema_decay is not None:
                self.sums[dead] = fresh * average.float()

    def _start(self, rows: Tensor, generator: torch.Generator | None) -> None:
        """Set the codebook by k-means on rows (N, D) of all processes together."""
        seeds = sample_rows(rows, self.codebook_size, generator)
        if not len(seeds):
            return
        self.codebook[: len(seeds)] = seeds
        for _ in range(self.config.kmeans_iterations):
            counts, sums = self._statistics(rows, self._ids(rows))
            self.codebook.copy_(torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], self.codebook))
        if self.config.ema_decay is not None:
            self.sums.copy_(self.codebook * self.counts[:, None])
        self.is_initialised.fill_(True)

    @torch.no_grad()
    def _observe(self, rows: Tensor, ids: Tensor) -> None:
        """Update the moving averages, and the codebook if it is made of them."""
        counts, sums = self._statistics(rows, ids)
        if not counts.any():
            return
        decay = self.config.ema_decay
        self.counts.lerp_(counts, 1 - (self.config.usage_decay if decay is None else decay))
        if decay is not None:
            self.sums.lerp_(sums, 1 - decay)
            used = (self.counts > _NEVER)[:, None]
            self.codebook.copy_(torch.where(used, self.sums / self.counts[:, None], self.codebook))

    def _statistics(self, rows: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return how many rows of all processes chose each code, (K,), and their sums, (K, D)."""
        both = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
        both = total(both.new_zeros(self.codebook_size, both.shape[1]).index_add_(0, ids, both))
        return both[:, -1], both[:, :-1]
