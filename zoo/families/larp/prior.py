"""The prior that trains beside LARP's tokenizer and makes its tokens predictable: published sizes, and what it sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from zoo.components.layers.start import start_linear_maps
from zoo.components.prior import CausalConfig, CodePrior, CodePriorConfig, replacement_rate
from zoo.components.quantizers import Quantizer
from zoo.config import check_fields
from zoo.errors import ConfigError

__all__ = ["PRESETS", "Preset", "PriorConfig", "all_codes"]

Preset = Literal["gptc-XXS", "gptc-XS", "gptc-S", "gptc-M", "gptc-B", "gptc-L"]

PRESETS: Mapping[Preset, CausalConfig] = {
    "gptc-XXS": CausalConfig(256, 6, 4),
    "gptc-XS": CausalConfig(384, 6, 6),
    "gptc-S": CausalConfig(384, 12, 6),
    "gptc-M": CausalConfig(512, 12, 8),
    "gptc-B": CausalConfig(768, 12, 12),
    "gptc-L": CausalConfig(1024, 24, 16),
}
"""Sizes by their published names; `gptc-S` trained the released tokenizer."""

_MOST_CODES = 2**17  # of which each position has a logit


@dataclass(frozen=True)
class PriorConfig:
    """A prior and how it is trained.

    Attributes:
        preset: Its size by a published name.
        transformer: Its size in numbers, in place of a preset.
        max_length: Its positions, where a preset says the rest; a clip has one token more at most.
        dropout: Probability that an input, an attention weight or a layer's output value is dropped; that of the preset
            or of the transformer if None.
        temperature: What cosines are divided by to be logits; not that of the quantizer.
        num_rounds: Times that a clip's tokens are predicted, each but the first from some that the one before drew.
        counts_all_rounds: Average the loss over the rounds; if not, the earlier ones are for drawing alone.
        mixes: Whether drawn tokens replace a share of the input; if not, all of it.
        most_replaced: The largest share that is replaced.
        ramp: Share of the run's steps in which it grows to that, linearly.

    Raises:
        ConfigError: A value is unusable.
    """

    preset: Preset | None = None
    transformer: CausalConfig | None = None
    max_length: int | None = None
    dropout: float | None = None
    temperature: float = 1.0
    num_rounds: int = 2
    counts_all_rounds: bool = True
    mixes: bool = True
    most_replaced: float = 0.5
    ramp: float = 0.3

    def __post_init__(self) -> None:
        check_fields(self, "prior")
        if self.preset is not None and self.transformer is not None:
            raise ConfigError(f"prior: give a preset or a transformer, not both, got {self.preset!r} and another.")
        if self.transformer is not None and self.max_length is not None:
            raise ConfigError("prior: max_length goes with a preset: say it in the transformer.")
        for name in ("most_replaced", "ramp"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"prior: {name} must be from 0 to 1, got {getattr(self, name)}.")
        self.code_prior(1)

    def code_prior(self, dim: int) -> CodePriorConfig:
        """Return the settings of the prior over codes of some width."""
        sizes = self.transformer or PRESETS[self.preset or "gptc-S"]
        if self.max_length is not None:
            sizes = replace(sizes, max_length=self.max_length)
        if self.dropout is not None:
            sizes = replace(sizes, dropout=self.dropout)
        return CodePriorConfig(dim, self.temperature, self.num_rounds, self.counts_all_rounds, sizes)

    def build(self, dim: int, num_tokens: int) -> CodePrior:
        """Return a new prior over codes of some width, its linear maps started as the tokenizer's are.

        Raises:
            ConfigError: It has too few positions.
        """
        prior = CodePrior(self.code_prior(dim))
        most = prior.config.transformer.max_length
        if num_tokens - 1 > most:
            raise ConfigError(f"prior: {num_tokens} tokens need {num_tokens - 1} positions, and it has {most}.")
        start_linear_maps(prior)
        return prior

    def replaced(self, step: int, num_steps: float) -> float:
        """Return the share of the input that is replaced in a step, counted from 1.

        Args:
            step: The step.
            num_steps: Steps of the run; of an endless one nothing is ever replaced but by `mixes` = False.
        """
        if not self.mixes:
            return 1.0
        if not self.ramp:
            return self.most_replaced
        return replacement_rate(step, num_steps, self.most_replaced, self.ramp)


def all_codes(quantizer: Quantizer) -> Tensor:
    """Return the codes of all ids, (V, D), without gradient.

    Raises:
        ConfigError: The quantizer has no single codebook, or too large a one, for a prior over ids.
    """
    if quantizer.num_codebooks != 1:
        raise ConfigError(
            f"a prior predicts one id a position, and this quantizer has {quantizer.num_codebooks} codebooks: set "
            "prior to null, or take another quantizer."
        )
    if quantizer.codebook_size > _MOST_CODES:
        raise ConfigError(
            f"a prior over {quantizer.codebook_size} codes is out of reach, at most {_MOST_CODES}: set prior to null, "
            "or take a smaller codebook."
        )
    device = next(iter([*quantizer.parameters(), *quantizer.buffers()]), torch.empty(0)).device
    with torch.no_grad():
        return quantizer.codes(torch.arange(quantizer.codebook_size, device=device))
