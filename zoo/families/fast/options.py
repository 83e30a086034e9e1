"""What FAST takes beside tokens; `FastTokenizer.decode` says what each does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DecodeOptions"]


@dataclass(frozen=True)
class DecodeOptions:
    """Options of `decode`: how many chunks the tokens are of, and what to do with those that do not parse."""

    num_chunks: int | None = None
    malformed: Literal["error", "pad", "zeros"] = "error"
