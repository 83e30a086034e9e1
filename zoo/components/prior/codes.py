"""A prior over code vectors, whose gradient makes a tokenizer's codes predictable (arXiv 2410.21264)."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.components.prior.causal import CausalConfig, CausalTransformer, initialise, valid_positions
from zoo.components.prior.sampling import draw_ids
from zoo.config import check_fields
from zoo.errors import ConfigError, InputError, TokenError

__all__ = ["CodePrior", "CodePriorConfig", "replacement_rate"]


@dataclass(frozen=True)
class CodePriorConfig:
    """A prior over code vectors.

    Attributes:
        dim: Width d of the codes.
        temperature: What cosines are divided by to be logits.
        num_rounds: Times that a sequence is predicted, each but the first from inputs that the one before it drew.
        counts_all_rounds: Average the loss over the rounds instead of taking the last round's.
        transformer: Sizes.

    Raises:
        ConfigError: A value is unusable.
    """

    dim: int
    temperature: float = 1.0
    num_rounds: int = 2
    counts_all_rounds: bool = True
    transformer: CausalConfig = field(default_factory=CausalConfig)

    def __post_init__(self) -> None:
        check_fields(self, "code prior")
        if self.dim < 1 or self.num_rounds < 1:
            raise ConfigError(
                f"code prior: dim and num_rounds must be at least 1, got {self.dim} and {self.num_rounds}."
            )
        if self.temperature <= 0:
            raise ConfigError(f"code prior: temperature must be positive, got {self.temperature}.")


class CodePrior(nn.Module):
    """Predicts from the codes of positions 1 … i a direction for that of i + 1; its logits are cosines to all codes.

    There is no start token, so the first code is not predicted. Cosines at temperature 1 are logits in [-1, 1], so that
    the loss falls little below ln V; it is there for its gradient.

    Args:
        config: Sizes.
    """

    def __init__(self, config: CodePriorConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(config.dim, config.transformer.width)
        self.head = nn.Linear(config.transformer.width, config.dim)
        initialise(self)
        self.transformer = CausalTransformer(config.transformer)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return, for the codes (B, T, d), predictions of length 1 (B, T, d), of the code after each."""
        predicted: Tensor = self.head(self.transformer(self.embed(vectors)))
        return F.normalize(predicted, dim=-1)

    def logits(self, vectors: Tensor, codebook: Tensor) -> Tensor:
        """Return the logits of the id after each of the codes (B, T, d), float32 (B, T, V).

        Args:
            vectors: The codes.
            codebook: (V, d), the codes of all ids, of any length. No gradient reaches it.
        """
        directions = F.normalize(codebook.detach(), dim=-1)
        cosines: Tensor = self(vectors) @ directions.T
        return cosines.float() / self.config.temperature

    def loss(
        self,
        vectors: Tensor,
        ids: Tensor,
        codebook: Tensor,
        *,
        replaced: float = 0.0,
        lengths: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the mean negative log-probability, in nats, of ids 2 … T, by scheduled sampling (arXiv 1506.03099).

        From the second round on some codes of the input, the same in all rounds and never the first, are those of ids
        drawn from the logits of the round before. Gradients reach the prior and the vectors that are not replaced.

        Args:
            vectors: (B, T, d), the codes, with a gradient to whatever made them.
            ids: int64 (B, T).
            codebook: (V, d), the codes of all ids, as they would stand among the vectors. No gradient reaches it.
            replaced: Probability that a code is replaced.
            lengths: (B,) tokens of each item; what follows them is padding and may hold anything. All T if None.
            generator: Source of randomness; the device's default one if None.

        Returns:
            A scalar; 0 if no item has two tokens.

        Raises:
            TokenError: Vectors and ids do not fit.
            InputError: Lengths do not fit, or T - 1 is more than the prior's positions.
        """
        if vectors.ndim != 3 or ids.shape != vectors.shape[:2] or ids.dtype != torch.int64 or not ids.shape[1]:
            raise TokenError(
                f"vectors must be (B, T, d) and ids int64 (B, T), got {tuple(vectors.shape)} and {ids.dtype} of "
                f"{tuple(ids.shape)}."
            )
        if not 0 <= replaced <= 1:
            raise InputError(f"replaced is a probability, got {replaced}.")
        valid = valid_positions(lengths, ids)
        vectors = vectors.masked_fill(~valid[..., None], 0)
        given, targets, counted = vectors[:, :-1], ids[:, 1:].masked_fill(~valid[:, 1:], 0), valid[:, 1:]
        source = vectors.device if generator is None else generator.device
        chance = torch.rand(*targets.shape, 1, dtype=torch.float32, generator=generator, device=source).to(
            vectors.device
        )
        is_replaced = (chance < replaced)[:, :-1]

        inputs, losses = given, []
        for number in range(1, self.config.num_rounds + 1):
            is_last = number == self.config.num_rounds
            # Drawn ids have no gradient: a round matters to others by its loss alone.
            with nullcontext() if is_last or self.config.counts_all_rounds else torch.no_grad():
                logits = self.logits(inputs, codebook)
                losses.append(_cross_entropy(logits, targets, counted))
            if not is_last:
                drawn = F.embedding(draw_ids(logits.detach(), generator=generator), codebook.detach())
                later = torch.where(is_replaced, drawn[:, :-1].to(given.dtype), given[:, 1:])
                inputs = torch.cat([given[:, :1], later], 1)
        return torch.stack(losses).mean() if self.config.counts_all_rounds else losses[-1]


def replacement_rate(step: int, num_steps: float, peak: float = 0.5, ramp: float = 0.3) -> float:
    """Return the share of codes to replace in a step: from 0 to `peak`, linearly over the first `ramp` of all steps."""
    return peak if step >= ramp * num_steps else peak * step / (ramp * num_steps)


def _cross_entropy(logits: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
    """Return the mean over the counted of (B, T), 0 if there are none."""
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
    return losses.masked_fill(~counted, 0).sum() / counted.sum().clamp(min=1)
