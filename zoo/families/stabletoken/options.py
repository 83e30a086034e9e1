"""What StableToken takes beside signal and tokens; `StableTokenTokenizer` says what each does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["DecodeOptions", "EncodeOptions"]


@dataclass(frozen=True)
class EncodeOptions:
    """Options of `encode`: two of reading files, and seconds that neighbouring segments have in common."""

    resample: bool = False
    mix_down: bool = False
    overlap: float = 0.0


@dataclass(frozen=True)
class DecodeOptions:
    """Options of `decode`: steps and guidance of the flow, a `torch.Generator`, and the rate of the result in Hz."""

    steps: int | None = None
    guidance: float | None = None
    generator: Any = None
    sample_rate: int | None = None
