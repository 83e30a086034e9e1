"""What TexTok takes beside images and tokens; `TexTokTokenizer` says what each does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["DecodeOptions", "EncodeOptions"]


@dataclass(frozen=True)
class EncodeOptions:
    """Options of `encode`.

    Attributes:
        on_white: Whether what is transparent is laid on white.
        caption: What the image shows, or one text an image; none if None.
        states: States of captions, in place of captions.
        mask: Where these states count.
        cut: Whether of a caption that is too long the words that fit are taken.
    """

    on_white: bool = False
    caption: str | Sequence[str] | None = None
    states: Any = None
    mask: Any = None
    cut: bool = False


@dataclass(frozen=True)
class DecodeOptions:
    """Options of `decode`.

    Attributes:
        caption: Another caption than the image was encoded with; that one if None.
        states: States of captions, in place of captions.
        mask: Where these states count.
        cut: Whether of a caption that is too long the words that fit are taken.
        clamp: Whether what the decoder overshoots is clamped to 0…1.
    """

    caption: str | Sequence[str] | None = None
    states: Any = None
    mask: Any = None
    cut: bool = False
    clamp: bool = True
