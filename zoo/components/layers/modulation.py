"""Norms whose shift and scale, and branches whose gate, are functions of a condition such as the time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ConfigError, InputError, near_matches

__all__ = ["PARTS", "AdaGN", "AdaLN", "modulate", "require_parts"]

PARTS = ("shift_attention", "scale_attention", "gate_attention", "shift_mlp", "scale_mlp", "gate_mlp")
"""What a transformer block asks of an `AdaLN`, in the order of DiT."""


class AdaLN(nn.Module):
    """A condition → named shifts, scales and gates of a layer of width D (adaLN; Peebles and Xie, arXiv 2212.09748).

    SiLU, then one linear map, whose output is cut into the parts. It starts at zero (adaLN-zero): shifts and scales
    change nothing, and gates are shut.

    Args:
        condition_size: C.
        width: D.
        parts: Their names in the order of the linear map's rows. A block takes those of `PARTS`, and does without the
            ones that are not made.
        num_groups: G. Groups of tokens, such as patches and registers, that have parts of their own; their rows of the
            linear map follow each other.
        is_zero: Whether the linear map starts at zero.

    Raises:
        ConfigError: There are no parts, or two have one name.
    """

    def __init__(
        self,
        condition_size: int,
        width: int,
        parts: Sequence[str] = PARTS,
        *,
        num_groups: int = 1,
        is_zero: bool = True,
    ) -> None:
        super().__init__()
        self.parts = tuple(parts)
        if not self.parts or len(set(self.parts)) < len(self.parts):
            raise ConfigError(f"adaLN needs parts, each once, got {list(self.parts)}: name some of {', '.join(PARTS)}.")
        self.num_groups = num_groups
        self.linear = nn.Linear(condition_size, num_groups * len(self.parts) * width)
        if is_zero:
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

    def forward(self, condition: Tensor, group: Tensor | None = None) -> dict[str, Tensor]:
        """Return the parts by name.

        Args:
            condition: (B, C), one an item, or (B, T, C), one a token.
            group: int64 (T,), which group a token is of; needed if there are several.

        Returns:
            (B, 1, D) or (B, T, D) each, to be broadcast over the tokens.

        Raises:
            InputError: There are several groups, and `group` is missing.
        """
        if condition.ndim == 2:
            condition = condition[:, None]
        values = self.linear(F.silu(condition)).unflatten(2, (self.num_groups, len(self.parts), -1))
        if self.num_groups == 1:
            values = values[:, :, 0]
        elif group is None:
            raise InputError(f"adaLN of {self.num_groups} groups of tokens: pass `group`, which one a token is of.")
        elif values.shape[1] == 1:
            values = values[:, 0, group]
        else:
            values = values.take_along_dim(group.view(1, -1, 1, 1, 1), 2)[:, :, 0]
        return dict(zip(self.parts, values.unbind(2), strict=True))


class AdaGN(nn.Module):
    """Group norm whose scale and shift are a function of a condition (Dhariwal and Nichol, arXiv 2105.05233).

    norm(x) · (1 + scale) + shift, where a projection of the condition gives the scales, then the shifts.

    Args:
        channels: C.
        projection: Condition → 2C channels on axis 1, such as a 1×1 convolution of a map, or SiLU and a linear map of a
            vector.
        num_groups: Groups of the norm, a divisor of C.
        eps: Added to the variance.
        affine: Whether the norm has a weight and a bias of its own beside.

    Raises:
        ConfigError: The groups do not divide the channels.
    """

    def __init__(
        self, channels: int, projection: nn.Module, *, num_groups: int = 32, eps: float = 1e-5, affine: bool = False
    ) -> None:
        super().__init__()
        if num_groups < 1 or channels % num_groups:
            raise ConfigError(f"adaGN: {num_groups} groups do not divide {channels} channels: choose a divisor.")
        self.norm = nn.GroupNorm(num_groups, channels, eps=eps, affine=affine)
        self.projection = projection

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Normalise.

        Args:
            x: (B, C, …).
            condition: What the projection takes. If that makes a map (B, 2C, …) of another size than x, the nearest
                values count; a vector (B, 2C) counts everywhere.

        Returns:
            (B, C, …).
        """
        scale, shift = self.projection(condition).chunk(2, 1)
        values = torch.cat([scale + 1, shift], 1)  # before it is as large as x
        normed = self.norm(x)
        if values.ndim < x.ndim:
            values = values.view(*values.shape, *[1] * (x.ndim - values.ndim))
        elif values.ndim == 4 and x.shape[2] > values.shape[2] and x.shape[2] % values.shape[2] == 0:
            # A row of values counts for several of x, for which it need not be copied.
            rows = values.shape[2]
            values = F.interpolate(values, (rows, x.shape[3]), mode="nearest").unsqueeze(3)
            normed = normed.unflatten(2, (rows, -1))
        elif values.shape[2:] != x.shape[2:]:
            values = F.interpolate(values, x.shape[2:], mode="nearest")
        scale, shift = values.chunk(2, 1)
        return torch.addcmul(shift, normed, scale).reshape(x.shape)  # one pass over the map in place of three


def modulate(x: Tensor, shift: Tensor | None, scale: Tensor | None) -> Tensor:
    """Return x · (1 + scale) + shift; what is None changes nothing."""
    if scale is not None:
        x = x * (1 + scale)
    return x if shift is None else x + shift


def require_parts(parts: Sequence[str]) -> None:
    """Refuse names that no transformer block asks for.

    Raises:
        ConfigError: A name is none of `PARTS`.
    """
    for part in parts:
        if part not in PARTS:
            raise ConfigError(f"a block is not modulated by {part!r}; {near_matches(part, PARTS)}")
