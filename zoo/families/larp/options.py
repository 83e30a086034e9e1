"""What LARP takes beside clips and tokens; `LARPTokenizer` says what each does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["DecodeOptions", "EncodeOptions"]


@dataclass(frozen=True)
class EncodeOptions:
    """Options of `encode`.

    Attributes:
        on_white: Whether what is transparent is laid on white.
        sample: Whether ids are drawn, as in training, instead of the most likely ones.
        seed: Of what each clip draws, where there is no generator.
        generator: Source of that.
    """

    on_white: bool = False
    sample: bool = False
    seed: int = 0
    generator: Any = None


@dataclass(frozen=True)
class DecodeOptions:
    """Options of `decode`.

    Attributes:
        num_frames: Frames of the clips; as the tokens say if None.
        clamp: Whether what the decoder overshoots is clamped to 0…1.
    """

    num_frames: int | None = None
    clamp: bool = True
