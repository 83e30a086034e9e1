"""What SSDD takes beside tokens; `SSDDTokenizer.decode` says what each does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zoo.errors import ConfigError, shown

__all__ = ["DecodeOptions", "require_steps"]

_MOST_STEPS = 10_000


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

    def __post_init__(self) -> None:
        if self.steps is not None:
            require_steps(self.steps)


def require_steps(steps: Any) -> None:
    """Raise `ConfigError` if there are no so many steps."""
    if type(steps) is not int or not 1 <= steps <= _MOST_STEPS:
        raise ConfigError(f"steps must be a whole number from 1 to {_MOST_STEPS}, got {shown(steps)}.")
