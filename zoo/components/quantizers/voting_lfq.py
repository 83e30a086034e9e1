"""Voting lookup-free quantization: several projections each give their bits, and every bit is put to the vote.

A perturbation of the input that flips a bit in fewer than half of the branches changes nothing (arXiv 2509.22220).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from zoo.components.quantizers.base import (
    Quantized,
    Quantizer,
    full_precision,
    integer_dot,
    mean,
    require,
    straight_through,
    valid_only,
)
from zoo.components.quantizers.collective import from_first, sample_rows
from zoo.components.quantizers.decisions import positive
from zoo.components.quantizers.entropy import entropies
from zoo.components.quantizers.lfq import bits_of, to_signs
from zoo.components.quantizers.principal import sign_directions
from zoo.errors import InputError

__all__ = ["VotingLFQ", "VotingLFQConfig"]

_MOST_ROWS = 20_000


@dataclass(frozen=True)
class VotingLFQConfig:
    """Voting lookup-free quantization.

    Attributes:
        dim: Width of the vectors, and of the codes.
        num_bits: d; the codebook has 2^d codes.
        num_voters: n branches; an odd number has no ties.
        num_clean: How many branches `draw_clean` picks to see the clean input where there is a noisy one.
        bias: Whether projections have one.
        consensus_weight: λ1.
        commitment_weight: λ2.
        entropy_weight: λ3.
        consensus_scale: "per-element" is Σ_i mean_tj (p_ij - p̄_j)²; "paper" is the paper's equation,
            mean_t (1/n) Σ_i |p_i - p̄|², which is d/n times that.
        sample_weight: Of the entropy of each vector's code, within the entropy loss.
        batch_weight: Of the entropy of the batch's codes, within the entropy loss.
        temperature: τ of π = softmax(2 p·c / τ).
        principal_start: Start from the first training batch instead of from random weights: all branches from the
            directions whose signs say most about it (`sign_directions`), each with some noise of its own; needs `bias`.
    """

    dim: int
    num_bits: int = 13
    num_voters: int = 5
    num_clean: int = 3
    bias: bool = False
    consensus_weight: float = 0.25
    commitment_weight: float = 0.25
    entropy_weight: float = 1.0
    consensus_scale: Literal["per-element", "paper"] = "per-element"
    sample_weight: float = 1.0
    batch_weight: float = 1.0
    temperature: float = 0.01
    principal_start: bool = False
    kind: Literal["voting_lfq"] = "voting_lfq"

    def __post_init__(self) -> None:
        require(self.dim >= 1, f"voting_lfq: dim must be at least 1, got {self.dim}.")
        require(1 <= self.num_bits <= 30, f"voting_lfq: num_bits must be from 1 to 30, got {self.num_bits}.")
        require(1 <= self.num_voters <= 99, f"voting_lfq: num_voters must be from 1 to 99, got {self.num_voters}.")
        require(
            0 <= self.num_clean <= self.num_voters,
            f"voting_lfq: num_clean must be from 0 to num_voters = {self.num_voters}, got {self.num_clean}.",
        )
        require(self.temperature > 0, f"voting_lfq: temperature must be positive, got {self.temperature}.")
        require(
            not self.principal_start or (self.bias and self.num_bits <= self.dim),
            "voting_lfq: principal_start needs bias, for the mean, and at most as many bits as dim.",
        )


class VotingLFQ(Quantizer):
    """p_i = W_i h, B_i = sign(p_i) with sign(0) = -1, s = (1/n) Σ B_i; bit j of the id is [s_j > 0], bit 0 the lowest.

    Codes are W_out s in training and W_out sign(s) otherwise (equations 1 to 3 of the paper), one W_out for all.

    Attributes:
        branches: h → p, (D → n · d), branch by branch.
        out: The vote → code, (d → D).
        is_started: Whether `principal_start` has happened, if the config asks for it.
    """

    powers: Tensor
    is_started: Tensor

    def __init__(self, config: VotingLFQConfig) -> None:
        super().__init__(config.dim, 2**config.num_bits)
        self.config = config
        self.branches = nn.Linear(config.dim, config.num_voters * config.num_bits, bias=config.bias)
        self.out = nn.Linear(config.num_bits, config.dim, bias=config.bias)
        self.register_buffer("powers", 2 ** torch.arange(config.num_bits), persistent=False)
        if config.principal_start:
            self.register_buffer("is_started", torch.tensor(False))

    def forward(
        self,
        z: Tensor,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        noisy: Tensor | None = None,
        clean_branches: Sequence[int] | None = None,
    ) -> Quantized:
        """Quantise z (..., D).

        Args:
            z: The vectors h.
            mask: bool (...), False where z is padding.
            generator: What `clean_branches` are drawn with if they are not given.
            noisy: h', vectors of the same shape from a perturbed signal, for the other branches. Ignored outside
                training.
            clean_branches: The branches that see z; `draw_clean` gives a random choice.
        """
        other, clean = None, None
        if noisy is not None and self.training:
            if noisy.shape != z.shape:
                raise InputError(f"noisy vectors must have the clean ones' shape {tuple(z.shape)}, got {noisy.shape}.")
            other = self._rows(noisy)
            clean = self.draw_clean(generator) if clean_branches is None else tuple(clean_branches)
        return self._on_rows(z, mask, lambda rows, valid: self._vote(rows, valid, other, clean, generator))

    def draw_clean(self, generator: torch.Generator | None = None) -> tuple[int, ...]:
        """Draw `num_clean` branches at random."""
        device = "cpu" if generator is None else generator.device
        order = torch.randperm(self.config.num_voters, generator=generator, device=device)
        return tuple(order[: self.config.num_clean].tolist())

    def codes(self, ids: Tensor) -> Tensor:
        """Return the codes of ids (...), float32 (..., D); in evaluation those of `forward`, up to rounding."""
        with full_precision(ids):
            codes: Tensor = self.out(to_signs(bits_of(ids, self.config.num_bits)))
        return codes

    def _ids(self, rows: Tensor) -> Tensor:
        return integer_dot(self._majority(self._branch_bits(rows)).to(torch.int64), self.powers)

    def _quantize(
        self, rows: Tensor, valid: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        return self._vote(rows, valid, None, None, generator)

    def _vote(
        self,
        rows: Tensor,
        valid: Tensor | None,
        noisy: Tensor | None,
        clean: tuple[int, ...] | None,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        if self.training and self.config.principal_start and not self.is_started.item():
            self._start(valid_only(rows.detach(), valid), generator)
        p = self._split(self.branches(rows))
        if noisy is not None and clean is not None:
            is_clean = torch.tensor([i in clean for i in range(self.config.num_voters)], device=p.device)
            p = torch.where(is_clean[:, None], p, self._split(self.branches(noisy)))
        bits = p > 0 if self.training else self._branch_bits(rows.detach())
        votes = straight_through(p, to_signs(bits)).mean(1)
        majority = self._majority(bits)
        decided = votes if self.training else straight_through(votes, to_signs(majority))
        losses = self._losses(valid_only(p, valid), valid_only(votes, valid))
        return self.out(decided), integer_dot(majority.to(torch.int64), self.powers), losses

    @torch.no_grad()
    def _start(self, rows: Tensor, generator: torch.Generator | None) -> None:
        """Set the weights by rows (N, D) of all processes together, once there are enough."""
        rows = sample_rows(rows, _MOST_ROWS, generator)
        if len(rows) <= self.config.num_bits:
            return
        weight, bias, codes, offset = sign_directions(rows, self.config.num_bits, generator)
        if self.config.num_voters > 1:
            noise = torch.randn(self.branches.weight.shape, generator=generator).to(weight.device)
            weight = weight.repeat(self.config.num_voters, 1)
            noise *= weight.square().mean(1, keepdim=True).sqrt()
            # Noise that leaves the mean where it is.
            weight, bias = weight + noise, bias.repeat(self.config.num_voters) - noise @ rows.mean(0)
        self.branches.weight.copy_(weight)
        self.branches.bias.copy_(bias)
        self.out.weight.copy_(codes)
        self.out.bias.copy_(offset)
        for parameter in self.parameters():  # rounding differs between machines
            from_first(parameter.data)
        self.is_started.fill_(True)

    def _losses(self, p: Tensor, votes: Tensor) -> dict[str, Tensor]:
        """Return the losses of projections p (N, n, d) and their average votes (N, d)."""
        config = self.config
        apart = (p - p.mean(1, keepdim=True).detach()).square()
        # Σ over branches of a mean over rows and bits, or a mean over rows of the mean over branches of |·|².
        scale = config.num_voters if config.consensus_scale == "per-element" else config.num_bits
        each, average = torch.stack(
            [torch.stack(entropies(branch, config.temperature)) for branch in p.unbind(1)]
        ).mean(0)
        return {
            "consensus": config.consensus_weight * scale * mean(apart),
            "commitment": config.commitment_weight * mean((p - votes.detach()[:, None]).square()),
            "entropy": config.entropy_weight * (config.sample_weight * each - config.batch_weight * average),
        }

    def _branch_bits(self, rows: Tensor) -> Tensor:
        """Return the bits of all branches (N, n, d), exact wherever the vote depends on them."""

        def undecided(bits: Tensor, unsure: Tensor) -> Tensor:
            # Votes that are sure, +1 or -1, against the number that are not.
            sure = self._split((2 * bits.to(torch.int8) - 1) * ~unsure).sum(1, dtype=torch.int8)
            doubts = self._split(unsure).sum(1, dtype=torch.int8)
            return (sure.abs() <= doubts).repeat(1, self.config.num_voters)

        return self._split(positive(rows, self.branches.weight.detach(), _detached(self.branches.bias), undecided))

    def _split(self, p: Tensor) -> Tensor:
        return p.view(len(p), self.config.num_voters, self.config.num_bits)

    def _majority(self, bits: Tensor) -> Tensor:
        """Return which bits (N, d) more than half of the branches (N, n, d) have set."""
        return 2 * bits.sum(1) > self.config.num_voters


def _detached(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach()
