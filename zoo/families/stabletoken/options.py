"""What StableToken takes beside tokens; `StableTokenTokenizer` says what each does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["DecodeOptions"]


@dataclass(frozen=True)
class DecodeOptions:
    """Options of `decode`: steps and guidance of the flow, a `torch.Generator`, and the rate of the result in Hz."""

    steps: int | None = None
    guidance: float | None = None
    generator: Any = None
    sample_rate: int | None = None
