"""`TokenSpec`: the facts that a token model needs from its tokenizer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from zoo.errors import ConfigError

__all__ = ["MODALITIES", "Modality", "TokenSpec"]

Modality = Literal["speech", "image", "video", "action"]
MODALITIES: tuple[str, ...] = get_args(Modality)


@dataclass(frozen=True)
class TokenSpec:
    """The facts that a token model needs from its tokenizer.

    Args:
        modality: What is tokenized.
        codebook_size: Number of different ids in each codebook, V.
        num_codebooks: Codebooks read in parallel at each position, K. Ids are (B, T) for one, (B, T, K) for several.
        num_tokens: Positions for an input of `input_size`, or None if the count varies from item to item.
        token_rate: Positions per second of signal, or None where there is no time axis or no known rate.
        sample_rate: Samples (speech), frames (video) or commands (actions) per second, or None.
        input_size: Size of one input: (H, W) of an image, (T, H, W) of a clip, (T, D) of an action chunk; None if free.
        is_ordered: Whether every prefix of an item's tokens is itself a valid, coarser code.
        licence: SPDX identifier of the licence of the weights.
    """

    modality: Modality
    codebook_size: int
    num_codebooks: int = 1
    num_tokens: int | None = None
    token_rate: float | None = None
    sample_rate: float | None = None
    input_size: tuple[int, ...] | None = None
    is_ordered: bool = False
    licence: str = "Apache-2.0"

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise ConfigError(f"modality must be one of {', '.join(MODALITIES)}, got {self.modality!r}.")
        counts = (self.codebook_size, self.num_codebooks, *(() if self.num_tokens is None else (self.num_tokens,)))
        if any(type(count) is not int for count in counts) or self.codebook_size < 2 or min(counts) < 1:
            raise ConfigError(
                "a spec needs at least 2 codes in at least 1 codebook, and at least 1 token or None, as Python "
                f"integers, got codebook_size={self.codebook_size!r}, num_codebooks={self.num_codebooks!r}, "
                f"num_tokens={self.num_tokens!r}."
            )

    @property
    def is_fixed_length(self) -> bool:
        """Whether every input of `input_size` gives the same number of tokens."""
        return self.num_tokens is not None

    @property
    def bits_per_token(self) -> float:
        """Information in one position: num_codebooks · log2(codebook_size) bits."""
        return self.num_codebooks * math.log2(self.codebook_size)

    @property
    def bit_rate(self) -> float | None:
        """Bits per second of signal, or None without a token rate."""
        return None if self.token_rate is None else self.token_rate * self.bits_per_token

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain values, `bits_per_token` and `bit_rate` included."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["input_size"] = None if self.input_size is None else list(self.input_size)
        return {**plain, "bits_per_token": self.bits_per_token, "bit_rate": self.bit_rate}
