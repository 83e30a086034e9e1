"""Convolutional parts of autoencoders of pictures: residual blocks, attention over positions, half and double size."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ConfigError

__all__ = ["Downsample", "ResidualBlock", "SpatialAttention", "Upsample", "group_norm"]


def group_norm(channels: int, num_groups: int) -> nn.GroupNorm:
    """Return a group norm with weight and bias, and the 1e-6 of VQGAN.

    Raises:
        ConfigError: The groups do not divide the channels.
    """
    if num_groups < 1 or channels % num_groups:
        raise ConfigError(f"{num_groups} groups of a norm do not divide {channels} channels: choose a divisor.")
    return nn.GroupNorm(num_groups, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))))), with 3×3 convolutions (VQGAN; Esser et al., arXiv 2012.09841).

    Args:
        in_channels: C of the input.
        out_channels: C of the output; where it differs, a 1×1 convolution takes the input there.
        num_groups: Groups of the norms.
    """

    def __init__(self, in_channels: int, out_channels: int, num_groups: int = 32) -> None:
        super().__init__()
        self.norm1 = group_norm(in_channels, num_groups)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels, num_groups)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W)."""
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return cast(Tensor, self.conv_shortcut(x) + y)


class SpatialAttention(nn.Module):
    """x + attention(norm(x)) with one head, over all positions of a map.

    Args:
        channels: C, which is the width of the head.
        num_groups: Groups of the norm.
    """

    def __init__(self, channels: int, num_groups: int = 32) -> None:
        super().__init__()
        self.group_norm = group_norm(channels, num_groups)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        rows = self.group_norm(x).flatten(2).transpose(1, 2)[:, None]
        mixed = F.scaled_dot_product_attention(self.to_q(rows), self.to_k(rows), self.to_v(rows))
        return cast(Tensor, x + self.to_out[0](mixed)[:, 0].transpose(1, 2).unflatten(2, x.shape[2:]))


class Downsample(nn.Module):
    """Half the size: a 3×3 convolution with stride 2, zeros at the right and the bottom edge, or at all four.

    Args:
        channels: C.
        is_centred: Whether there are zeros at all edges, as in U-Nets of diffusion; those of autoencoders have them at
            two.
    """

    def __init__(self, channels: int, *, is_centred: bool = False) -> None:
        super().__init__()
        self.padding = (1, 1, 1, 1) if is_centred else (0, 1, 0, 1)
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H / 2, W / 2), for even H and W."""
        return cast(Tensor, self.conv(F.pad(x, self.padding)))


class Upsample(nn.Module):
    """Twice the size: nearest neighbours, then a 3×3 convolution.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, 2H, 2W)."""
        return cast(Tensor, self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest")))
