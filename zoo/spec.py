"""What a tokenizer says of itself: `TokenSpec`, the facts that a token model needs, and the options that it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

from zoo.errors import ConfigError, shown

__all__ = ["DECODES", "MODALITIES", "Modality", "NoOptions", "TokenSpec", "option_names"]

Modality = Literal["speech", "image", "video", "action"]
MODALITIES: tuple[str, ...] = get_args(Modality)


@dataclass(frozen=True)
class TokenSpec:
    """The facts that a token model needs from its tokenizer.

    Args:
        modality: What is tokenized.
        codebook_size: Number of different ids in each codebook, V; None if the tokenizer is continuous and has latents
            only.
        num_codebooks: Codebooks read in parallel at each position, K. Ids are (B, T) for one, (B, T, K) for several.
        num_tokens: Positions for an input of `input_size`, or None if the count varies from item to item.
        token_rate: Positions per second of signal, or None where there is no time axis or no known rate.
        sample_rate: Samples (speech), frames (video) or commands (actions) per second, or None.
        input_size: Size of one input: (H, W) of an image, (T, H, W) of a clip, (T, D) of an action chunk; None if free.
        is_ordered: Whether every prefix of an item's tokens is itself a valid, coarser code.
        trained_lengths: Of an ordered tokenizer, the numbers of tokens that its training kept, ascending, the last all;
            others decode worse than their neighbours may. None if it is not ordered, or any length was kept.
        licence: SPDX identifier of the licence of the weights.
        latent_dim: Numbers in each latent vector, D, or None if the tokenizer gives no latents.
    """

    modality: Modality
    codebook_size: int | None
    num_codebooks: int = 1
    num_tokens: int | None = None
    token_rate: float | None = None
    sample_rate: float | None = None
    input_size: tuple[int, ...] | None = None
    is_ordered: bool = False
    licence: str = "Apache-2.0"
    latent_dim: int | None = None
    trained_lengths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise ConfigError(f"modality must be one of {', '.join(MODALITIES)}, got {self.modality!r}.")
        size = 2 if self.codebook_size is None else self.codebook_size
        counts = [size, self.num_codebooks, *(n for n in (self.num_tokens, self.latent_dim) if n is not None)]
        if any(type(count) is not int for count in counts) or size < 2 or min(counts) < 1:
            raise ConfigError(
                "a spec needs at least 2 codes in at least 1 codebook, and at least 1 token or None, as Python "
                f"integers, got codebook_size={self.codebook_size!r}, num_codebooks={self.num_codebooks!r}, "
                f"num_tokens={self.num_tokens!r}, latent_dim={self.latent_dim!r}."
            )
        if self.trained_lengths is not None:
            self._require_lengths(self.trained_lengths)
        if self.codebook_size is None and self.latent_dim is None:
            raise ConfigError("a spec without a codebook is of a continuous tokenizer, and says its latent_dim.")

    def _require_lengths(self, lengths: tuple[int, ...]) -> None:
        ascending = sorted(set(lengths)) == list(lengths)
        if not self.is_ordered or not lengths or not ascending or lengths[0] < 1 or lengths[-1] != self.num_tokens:
            raise ConfigError(
                "trained_lengths are of an ordered tokenizer, ascending, from 1 to num_tokens; got "
                f"{shown(lengths)} with num_tokens={self.num_tokens} and is_ordered={self.is_ordered}."
            )

    @property
    def is_fixed_length(self) -> bool:
        """Whether every input of `input_size` gives the same number of tokens."""
        return self.num_tokens is not None

    @property
    def is_continuous(self) -> bool:
        """Whether there are latents and no ids."""
        return self.codebook_size is None

    def require_codebook(self) -> int:
        """Return the codebook's size.

        Raises:
            ConfigError: The tokenizer is continuous.
        """
        if self.codebook_size is None:
            raise ConfigError("this tokenizer is continuous and has no ids: use encode_latents and decode_latents.")
        return self.codebook_size

    @property
    def bits_per_token(self) -> float | None:
        """Information in one position: num_codebooks · log2(codebook_size) bits; None without a codebook."""
        return None if self.codebook_size is None else self.num_codebooks * math.log2(self.codebook_size)

    @property
    def bit_rate(self) -> float | None:
        """Bits per second of signal, or None without a token rate or a codebook."""
        bits = self.bits_per_token
        return None if self.token_rate is None or bits is None else self.token_rate * bits

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain values, `bits_per_token` and `bit_rate` included."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("input_size", "trained_lengths"):
            plain[name] = None if plain[name] is None else list(plain[name])
        return {**plain, "bits_per_token": self.bits_per_token, "bit_rate": self.bit_rate}


DECODES = MappingProxyType({"decodes": True})
"""Metadata of the field of an option of `encode` for which the tokenizer decodes, and needs its decoder."""


@dataclass(frozen=True)
class NoOptions:
    """Nothing is taken beside the signal."""


def option_names(options: type) -> frozenset[str]:
    """Return the names of the options that a dataclass declares, such as `option_names(tokenizer.decode_options)`."""
    return frozenset(field.name for field in fields(options))
