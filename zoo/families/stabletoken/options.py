"""What StableToken takes beside tokens; `StableTokenTokenizer` says what each does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["DecodeOptions"]


@dataclass(frozen=True)
class DecodeOptions:
    """Options of `decode`.

    Attributes:
        steps: Steps of the flow from noise to the mel spectrum; those of the decoder's config if None.
        guidance: How much the tokens' influence is exaggerated; as in the config if None.
        temperature: What the noise is scaled by; as in the config if None.
        generator: A `torch.Generator` that the random numbers come from.
        sample_rate: Hz of the result; that of speech to encode if None.
        voice: Name of the speaker whose voice it has, or a speaker's vector; the decoder's own voice if None.
    """

    steps: int | None = None
    guidance: float | None = None
    temperature: float | None = None
    generator: Any = None
    sample_rate: int | None = None
    voice: str | Tensor | None = None
