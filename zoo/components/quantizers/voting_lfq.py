"""Voting lookup-free quantization: several projections each give their bits, and every bit is put to the vote.

A perturbation of the input that flips a bit in fewer than half of the branches changes nothing (arXiv 2509.22220).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from zoo.components.exact.nearest import positive
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
from zoo.components.quantizers.entropy import MOST_SUMMED_BITS, entropies, entropies_of, entropy_sums
from zoo.components.quantizers.kinds import QuantizerConfig
from zoo.components.quantizers.lfq import bits_of, to_signs
from zoo.components.quantizers.principal import sign_directions
from zoo.config import MAX_SIZE
from zoo.errors import InputError

__all__ = ["VotingLFQ", "VotingLFQConfig"]


@dataclass(frozen=True)
class VotingLFQConfig(QuantizerConfig):
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
    kind: Literal["voting_lfq"] = "voting_lfq"

    def __post_init__(self) -> None:
        require(1 <= self.dim <= MAX_SIZE, f"voting_lfq: dim must be from 1 to {MAX_SIZE}, got {self.dim}.")
        require(1 <= self.num_bits <= 30, f"voting_lfq: num_bits must be from 1 to 30, got {self.num_bits}.")
        require(1 <= self.num_voters <= 99, f"voting_lfq: num_voters must be from 1 to 99, got {self.num_voters}.")
        require(
            0 <= self.num_clean <= self.num_voters,
            f"voting_lfq: num_clean must be from 0 to num_voters = {self.num_voters}, got {self.num_clean}.",
        )
        require(self.temperature > 0, f"voting_lfq: temperature must be positive, got {self.temperature}.")


class VotingLFQ(Quantizer):
    """p_i = W_i h, B_i = sign(p_i) with sign(0) = -1, s = (1/n) Σ B_i; bit j of the id is [s_j > 0], bit 0 the lowest.

    Codes are W_out s in training and W_out sign(s) otherwise (equations 1 to 3 of the paper), one W_out for all.

    Attributes:
        branches: h → p, (D → n · d), branch by branch.
        out: The vote → code, (d → D).
    """

    powers: Tensor

    config_class: ClassVar[type] = VotingLFQConfig

    def __init__(self, config: VotingLFQConfig) -> None:
        super().__init__(config.dim, 2**config.num_bits)
        self.config = config
        self.branches = nn.Linear(
            config.dim, config.num_voters * config.num_bits, bias=config.bias, dtype=torch.float32
        )
        self.out = nn.Linear(config.num_bits, config.dim, bias=config.bias, dtype=torch.float32)
        self.register_buffer("powers", torch.tensor([2**bit for bit in range(config.num_bits)]), persistent=False)

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
        return self._on_rows(z, mask, lambda rows, valid: self._vote(rows, valid, other, clean))

    @torch.no_grad()
    def start_from(self, rows: Tensor, mean: Tensor, generator: torch.Generator | None = None) -> None:
        """Set the weights by example: bits are the directions whose signs say most about the rows (`sign_directions`).

        All branches look that way, each with some noise of its own, and codes are what the signs stand for.

        Args:
            rows: (N, D) what the codes are to be, more than d of them.
            mean: (D,) of the vectors that will be quantised; where the rows are something else, such as their
                differences from something known, the directions are the rows' and the origin is this.
            generator: Of the noise, on the CPU; the default one if None.

        Raises:
            ConfigError: The projections have no bias, or there are too few rows.
        """
        config = self.config
        require(config.bias, "starting a voting_lfq from examples needs bias: true, for their mean.")
        require(
            config.num_bits <= config.dim and config.num_bits < len(rows),
            f"starting a voting_lfq of {config.num_bits} bits from examples needs more than {config.num_bits} of them, "
            f"at least as wide; got {tuple(rows.shape)}.",
        )
        weight, _, codes, offset = sign_directions(rows, config.num_bits, generator)
        weight = weight.repeat(config.num_voters, 1)
        if config.num_voters > 1:
            noise = torch.randn(
                weight.shape,
                dtype=torch.float32,
                generator=generator,
                device="cpu" if generator is None else generator.device,
            ).to(weight.device)
            weight += noise * weight.square().mean(1, keepdim=True).sqrt()
        self.branches.weight.copy_(weight)
        self.branches.bias.copy_(-(weight @ mean))
        self.out.weight.copy_(codes)
        self.out.bias.copy_(offset)

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
        return self._vote(rows, valid, None, None)

    def _vote(
        self, rows: Tensor, valid: Tensor | None, noisy: Tensor | None, clean: tuple[int, ...] | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
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

    def _sums(self, rows: Tensor) -> dict[str, tuple[Any, ...]]:
        if self.config.num_bits > MOST_SUMMED_BITS:
            return {}
        branches = self._split(self.branches(rows)).unbind(1)
        columns = zip(*(entropy_sums(branch, self.config.temperature) for branch in branches), strict=True)
        return {"entropy": (partial(_entropy, self.config), *map(torch.stack, columns))}

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


def _entropy(config: VotingLFQConfig, *sums: Tensor) -> Tensor:
    """Return the entropy loss of `entropy_sums`, each of which has the branches on a first axis."""
    each, average = torch.stack([torch.stack(entropies_of(*parts)) for parts in zip(*sums, strict=True)]).mean(0)
    loss: Tensor = config.entropy_weight * (config.sample_weight * each - config.batch_weight * average)
    return loss


def _detached(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach()
