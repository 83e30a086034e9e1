"""Increasing maps of [0, 1] onto itself: how times are spread, in training and along the solver's steps.

A warp of uniform random numbers is a distribution, of which the warp is the quantile function; a warp of equal steps is
a time grid. All act on the path's own t, so that e.g. a power above 1 makes short steps where t is near 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from zoo.config import check_fields
from zoo.errors import ConfigError

__all__ = ["Cosine", "Linear", "LogitNormal", "Mode", "Power", "Warp"]

_LARGEST_MODE = 2 / (math.pi - 2)


@dataclass(frozen=True)
class Linear:
    """t = u."""

    kind: Literal["linear"] = "linear"

    def __call__(self, u: Tensor) -> Tensor:
        """Warp u."""
        return u


@dataclass(frozen=True)
class Cosine:
    """t = 1 - cos(πu/2): times gather near 0."""

    kind: Literal["cosine"] = "cosine"

    def __call__(self, u: Tensor) -> Tensor:
        """Warp u."""
        # 2 sin²(πu/4), which loses no digits near 0.
        return 2 * torch.sin(u * (math.pi / 4)).square()


@dataclass(frozen=True)
class Power:
    """t = u^p: times gather near 0 if p > 1.

    Attributes:
        exponent: p, positive.
    """

    exponent: float = 2.0
    kind: Literal["power"] = "power"

    def __post_init__(self) -> None:
        check_fields(self, "power")
        if self.exponent <= 0:
            raise ConfigError(f"power: exponent must be positive, got {self.exponent}.")

    def __call__(self, u: Tensor) -> Tensor:
        """Warp u."""
        return u**self.exponent


@dataclass(frozen=True)
class LogitNormal:
    """t is the sigmoid of a normal variable (arXiv 2403.03206): times gather in the middle.

    Attributes:
        mean: Of the normal variable.
        std: Of the normal variable.
    """

    mean: float = 0.0
    std: float = 1.0
    kind: Literal["logit_normal"] = "logit_normal"

    def __post_init__(self) -> None:
        check_fields(self, "logit_normal")
        if self.std <= 0:
            raise ConfigError(f"logit_normal: std must be positive, got {self.std}.")

    def __call__(self, u: Tensor) -> Tensor:
        """Warp u."""
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(u))


@dataclass(frozen=True)
class Mode:
    """t = u + m(cos²(πu/2) - 1 + u) (arXiv 2403.03206): times gather in the middle if m > 0, at the ends if m < 0.

    Attributes:
        scale: m, from -1 to 2/(π - 2), between which the map is increasing.
    """

    scale: float = 0.25
    kind: Literal["mode"] = "mode"

    def __post_init__(self) -> None:
        check_fields(self, "mode")
        if not -1 <= self.scale <= _LARGEST_MODE:
            raise ConfigError(f"mode: scale must be from -1 to {_LARGEST_MODE:.3f}, got {self.scale}.")

    def __call__(self, u: Tensor) -> Tensor:
        """Warp u."""
        return u + self.scale * (torch.cos(u * (math.pi / 2)).square() - 1 + u)


Warp = Linear | Cosine | Power | LogitNormal | Mode
"""Any of them; as plain values, for `zoo.config.from_dict`, told apart by `kind`."""
