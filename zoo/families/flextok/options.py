"""What FlexTok takes beside images and tokens; `FlexTokTokenizer` says what each does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from zoo.spec import DECODES

__all__ = ["DecodeOptions", "EncodeOptions"]


@dataclass(frozen=True)
class EncodeOptions:
    """Options of `encode`.

    Attributes:
        on_white: Whether what is transparent is laid on white.
        num_tokens: How many tokens to keep of each image; all if None.
        max_error: Keep as few as bring the error of the decoded image to this.
        measure: The error that `max_error` bounds: "mse" or "mae" of pixels in 0…1, or a function.
        decoding: Options of `decode` for that, by name.
    """

    on_white: bool = False
    num_tokens: int | None = None
    max_error: float | None = field(default=None, metadata=DECODES)
    measure: Literal["mse", "mae"] | Callable[..., Any] = "mse"
    decoding: dict[str, Any] | None = None


@dataclass(frozen=True)
class DecodeOptions:
    """Options of `decode`.

    Attributes:
        steps: Steps of the flow; those of the config if None.
        guidance: Its guidance scale; that of the config if None, 1 for none.
        adaptive_guidance: Whether guidance is adaptive and projected, or the three constants of it.
        generator: Source of the noise.
        noise: The noise itself.
        seed: Of each image's noise, where neither is given.
        clamp: Whether what the decoder overshoots is clamped to 0…1.
    """

    steps: int | None = None
    guidance: float | None = None
    adaptive_guidance: bool | Mapping[str, Any] | None = None
    generator: Any = None
    noise: Any = None
    seed: int = 0
    clamp: bool = True
