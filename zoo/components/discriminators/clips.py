"""What judges clips in training, each as a whole: a transformer over patches of space and time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from zoo.components.layers.block import BlockConfig
from zoo.components.layers.patches import PatchEmbedding
from zoo.components.layers.positions import sincos_3d
from zoo.components.layers.start import start_linear_maps
from zoo.config import MAX_SIZE, check_fields, check_positive
from zoo.errors import ConfigError

__all__ = ["ClipDiscriminator", "ClipDiscriminatorConfig"]

_STD = 0.02
_NORM_EPS = 1e-6  # of the last norm alone


@dataclass(frozen=True)
class ClipDiscriminatorConfig:
    """A discriminator of clips, by default that of LARP (arXiv 2410.21264).

    Attributes:
        size: Frames, rows and columns of a clip.
        patch: Of a patch, each a divisor of that.
        width: D, a multiple of 4.
        num_layers: Layers.
        num_heads: Attention heads, a divisor of D.

    Raises:
        ConfigError: A value is unusable.
    """

    size: tuple[int, int, int] = (16, 128, 128)
    patch: tuple[int, int, int] = (4, 8, 8)
    width: int = 512
    num_layers: int = 12
    num_heads: int = 8

    def __post_init__(self) -> None:
        check_fields(self, "clip discriminator")
        check_positive(self, "clip discriminator")
        if any(part < 1 or length < 1 or length % part for length, part in zip(self.size, self.patch, strict=True)):
            raise ConfigError(f"clip discriminator: patches of {self.patch} do not fill clips of {self.size}.")
        if self.width % 4 or self.width % self.num_heads:
            raise ConfigError(
                f"clip discriminator: width must be a multiple of 4 and of num_heads, got {self.width} and "
                f"{self.num_heads}."
            )
        if math.prod(self.grid) > MAX_SIZE:
            raise ConfigError(f"clip discriminator: {self.grid} are too many patches: choose larger ones.")

    @property
    def grid(self) -> tuple[int, int, int]:
        """Patches along time, height and width."""
        times, rows, columns = (length // part for length, part in zip(self.size, self.patch, strict=True))
        return times, rows, columns


class ClipDiscriminator(nn.Module):
    """Clips → a judgement of each, by a token that stands before its patches and has no place.

    Args:
        config: Sizes.

    Attributes:
        embed: Patches → tokens.
        positions: (N, D), added to these; fixed, and stored with the weights.
        judge: (D,), the token that becomes the judgement.
        layers: Pre-norm blocks.
        norm: Of what that token has become.
        project: That → a logit.
    """

    positions: Tensor

    def __init__(self, config: ClipDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.embed = PatchEmbedding(config.patch, 3, width)
        self.register_buffer("positions", sincos_3d(config.grid, width))
        self.judge = nn.Parameter(torch.randn(width) * _STD)
        block = BlockConfig(width, config.num_heads, 4 * width, qkv_bias=False)
        self.layers = nn.ModuleList(block.block() for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(width, eps=_NORM_EPS)
        self.project = nn.Linear(width, 1)
        start_linear_maps(self)

    def forward(self, clips: Tensor) -> Tensor:
        """Judge clips (B, 3, T, H, W): return logits (B,), a high one where a clip seems real.

        With fewer frames than the config says, those of the first patches are judged as such.
        """
        patches = self.embed(clips)
        patches = patches + self.positions[: patches.shape[1]]
        x = torch.cat([self.judge.expand(len(patches), 1, -1), patches], 1)
        for layer in self.layers:
            x = layer(x)
        return cast(Tensor, self.project(self.norm(x[:, 0])))[:, 0]
