"""What BEAST takes beside actions and tokens; `BeastTokenizer` says what each does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["DecodeOptions", "EncodeOptions"]


@dataclass(frozen=True)
class EncodeOptions:
    """Options of `encode`: the commands sent before each sequence."""

    start: Any = None


@dataclass(frozen=True)
class DecodeOptions:
    """Options of `decode`: the commands before, where and what to evaluate, and what to do with ids out of range."""

    start: Any = None
    times: Any = None
    derivative: int = 0
    out_of_range: Literal["error", "clamp"] = "error"
