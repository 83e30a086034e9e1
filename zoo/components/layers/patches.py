"""Pictures and clips as rows of patches, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

from einops import rearrange
from torch import Tensor, nn

from zoo.errors import ConfigError, InputError

__all__ = ["PatchEmbedding", "patchify", "unpatchify"]


def patchify(x: Tensor, size: Sequence[int]) -> Tensor:
    """Cut pictures or clips into patches that do not overlap.

    Args:
        x: (B, C, H, W) or (B, C, T, H, W).
        size: Of a patch: (h, w) or (t, h, w).

    Returns:
        (B, N, F): patches by (time,) row and column, and of each its values by (time,) row, column and channel, the
        last fastest.

    Raises:
        InputError: The rank is another, or patches do not fill x.
    """
    size = _checked(size)
    if x.ndim != len(size) + 2 or any(
        length < 1 or length % part for length, part in zip(x.shape[2:], size, strict=True)
    ):
        wanted = "(B, C, H, W)" if len(size) == 2 else "(B, C, T, H, W)"
        raise InputError(
            f"patches of {_shape(size)} need {wanted} whose last axes are multiples of that, got {tuple(x.shape)}: "
            "crop or resize it."
        )
    if len(size) == 2:
        return rearrange(x, "b c (h i) (w j) -> b (h w) (i j c)", i=size[0], j=size[1])
    return rearrange(x, "b c (t k) (h i) (w j) -> b (t h w) (k i j c)", k=size[0], i=size[1], j=size[2])


def unpatchify(patches: Tensor, size: Sequence[int], grid: Sequence[int]) -> Tensor:
    """Undo `patchify`.

    Args:
        patches: (B, N, F).
        size: Of a patch: (h, w) or (t, h, w).
        grid: Patches along each of these axes.

    Returns:
        (B, C, H, W) or (B, C, T, H, W).

    Raises:
        InputError: There are more or fewer patches than the grid has, or a patch has no whole number of channels.
    """
    size = _checked(size)
    if patches.ndim != 3 or len(grid) != len(size) or patches.shape[1] != math.prod(grid):
        raise InputError(f"patches on a grid of {_shape(grid)} must be (B, N, F), got {tuple(patches.shape)}.")
    if patches.shape[2] % math.prod(size):
        raise InputError(f"{patches.shape[2]} values are no whole number of channels of a patch of {_shape(size)}.")
    if len(size) == 2:
        return rearrange(patches, "b (h w) (i j c) -> b c (h i) (w j)", h=grid[0], i=size[0], j=size[1])
    return rearrange(
        patches, "b (t h w) (k i j c) -> b c (t k) (h i) (w j)", t=grid[0], h=grid[1], k=size[0], i=size[1], j=size[2]
    )


class PatchEmbedding(nn.Module):
    """Patches as tokens: `patchify`, then one linear map, which equals a convolution that steps by its own kernel.

    Args:
        size: Of a patch: (h, w) or (t, h, w).
        channels: C.
        width: D.

    Raises:
        ConfigError: The size is none.
    """

    def __init__(self, size: Sequence[int], channels: int, width: int) -> None:
        super().__init__()
        self.size = _checked(size)
        self.linear = nn.Linear(math.prod(self.size) * channels, width)

    def forward(self, x: Tensor) -> Tensor:
        """Embed x (B, C, H, W) or (B, C, T, H, W): return (B, N, D), patches by (time,) row and column."""
        tokens: Tensor = self.linear(patchify(x, self.size))
        return tokens


def _checked(size: Sequence[int]) -> tuple[int, ...]:
    if len(size) not in (2, 3) or min(size) < 1:
        raise ConfigError(f"a patch's size must be (h, w) or (t, h, w), each at least 1, got {tuple(size)}.")
    return tuple(size)


def _shape(size: Sequence[int]) -> str:
    return " × ".join(map(str, size))
