"""What SSDD takes beside tokens; `SSDDTokenizer.decode` says what each does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["DecodeOptions"]


@dataclass(frozen=True)
class DecodeOptions:
    """Options of `decode`.

    Attributes:
        steps: Steps of the flow; those of the config if None.
        generator: Source of the noise.
        noise: The noise itself.
        seed: Of each picture's noise, where neither is given.
        clamp: Whether what the decoder overshoots is clamped to 0…1.
    """

    steps: int | None = None
    generator: Any = None
    noise: Any = None
    seed: int = 0
    clamp: bool = True
