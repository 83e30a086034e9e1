"""What BEAST takes beside actions and tokens; `BeastTokenizer` says what each does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from zoo.errors import InputError

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

    def __post_init__(self) -> None:
        if not isinstance(self.derivative, int) or self.derivative < 0:
            raise InputError(f"derivative must be 0, 1, 2 …, got {self.derivative!r}.")
