"""The part of a transformer layer that looks at one row at a time: two linear maps, or a gated pair and one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ConfigError, near_matches

__all__ = ["MLP", "ActivationName", "GatedMLP"]

ActivationName = Literal["gelu", "silu"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "silu": F.silu}


class MLP(nn.Module):
    """down(activation(up(x))), (..., D) → (..., D).

    Args:
        width: D.
        hidden: Width between the two maps.
        activation: "gelu", the exact one, or "silu".
        bias: Whether the maps have biases.

    Raises:
        ConfigError: There is no such activation.
    """

    def __init__(self, width: int, hidden: int, *, activation: str = "gelu", bias: bool = True) -> None:
        super().__init__()
        self.activation = _activation(activation)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map each row."""
        mapped: Tensor = self.down(self.activation(self.up(x)))
        return mapped


class GatedMLP(nn.Module):
    """down(activation(gate(x)) · up(x)), (..., D) → (..., D) (Shazeer, arXiv 2002.05202).

    With "silu" this is SwiGLU, with "gelu" GEGLU.

    Args:
        width: D.
        hidden: Width of the product.
        activation: "silu" or "gelu", the exact one.
        bias: Whether the three maps have biases.

    Raises:
        ConfigError: There is no such activation.
    """

    def __init__(self, width: int, hidden: int, *, activation: str = "silu", bias: bool = True) -> None:
        super().__init__()
        self.activation = _activation(activation)
        self.gate = nn.Linear(width, hidden, bias=bias)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map each row."""
        mapped: Tensor = self.down(self.activation(self.gate(x)) * self.up(x))
        return mapped


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    if name not in _ACTIVATIONS:
        raise ConfigError(f"there is no activation {name!r}; {near_matches(str(name), _ACTIVATIONS)}")
    return _ACTIVATIONS[name]
