"""What FAST takes beside tokens; `FastTokenizer.decode` says what each does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo.errors import TokenError

__all__ = ["DecodeOptions"]


@dataclass(frozen=True)
class DecodeOptions:
    """Options of `decode`: how many chunks the tokens are of, and what to do with those that do not parse."""

    num_chunks: int | None = None
    malformed: Literal["error", "pad", "zeros"] = "error"

    def __post_init__(self) -> None:
        if self.num_chunks is not None and self.num_chunks < 1:
            raise TokenError(f"num_chunks must be 1 or more, got {self.num_chunks}.")
