"""The convolutional halves of latent diffusion's autoencoder: pictures to vectors on a coarse grid, and back.

Rombach et al., arXiv 2112.10752, with the layers of VQGAN (Esser et al., arXiv 2012.09841): an encoder that halves the
size between stages, and a decoder that mirrors it. What stands between them is a quantizer: `gaussian`, whose KL
divergence gave the autoencoder its name, or any other.

Tensors are named as diffusers names those of its `AutoencoderKL`, in which such models are published, except that each
half has its own 1×1 convolution: `quant_conv` is the encoder's, `post_quant_conv` the decoder's (`HALVES`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.components.layers.conv import Downsample, ResidualBlock, SpatialAttention, Upsample, group_norm
from zoo.config import check_fields
from zoo.errors import ConfigError, InputError

__all__ = ["HALVES", "ConvConfig", "ConvDecoder", "ConvEncoder"]

HALVES = {
    "encoder.": "encoder.",
    "quant_conv.": "encoder.quant_conv.",
    "decoder.": "decoder.",
    "post_quant_conv.": "decoder.post_quant_conv.",
}
"""How names of diffusers begin, and how names of a module begin that has an `encoder` and a `decoder`."""


@dataclass(frozen=True)
class ConvConfig:
    """Sizes of both halves.

    Attributes:
        block_channels: Of each stage, from the full size down; sizes are halved between two stages.
        layers_per_block: Residual blocks of a stage of the encoder; the decoder has one more.
        norm_groups: Groups of every norm, a divisor of all channels.
        image_channels: Of the pictures.

    Raises:
        ConfigError: A value is unusable.
    """

    block_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_groups: int = 32
    image_channels: int = 3

    def __post_init__(self) -> None:
        check_fields(self, "autoencoder")
        for name, most in {"layers_per_block": 64, "norm_groups": 4096, "image_channels": 4096}.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"autoencoder: {name} must be from 1 to {most}, got {getattr(self, name)}.")
        if not 1 <= len(self.block_channels) <= 8:
            raise ConfigError(f"autoencoder: block_channels needs 1 to 8 stages, got {len(self.block_channels)}.")
        for channels in self.block_channels:
            if not 1 <= channels <= 8192 or channels % self.norm_groups:
                raise ConfigError(
                    f"autoencoder: block_channels must be multiples of norm_groups, {self.norm_groups}, up to 8192; "
                    f"got {channels}."
                )

    @property
    def downsampling(self) -> int:
        """Pixels of a side for each cell of the latents' side."""
        return 1 << (len(self.block_channels) - 1)


class ConvEncoder(nn.Module):
    """Pictures → a vector for each cell of a grid.

    Args:
        config: Sizes.
        out_channels: Width of the vectors; for a Gaussian twice that of the latents, means and then log-variances.
    """

    def __init__(self, config: ConvConfig, out_channels: int) -> None:
        super().__init__()
        self.config = config
        widths, groups = config.block_channels, config.norm_groups
        self.conv_in = nn.Conv2d(config.image_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        for stage, width in enumerate(widths):
            is_last = stage == len(widths) - 1
            self.down_blocks.append(
                _Stage(
                    widths[max(stage - 1, 0)],
                    width,
                    config.layers_per_block,
                    groups,
                    downsamplers=None if is_last else Downsample(width),
                )
            )
        self.mid_block = _Middle(widths[-1], groups)
        self.conv_norm_out = group_norm(widths[-1], groups)
        self.conv_out = nn.Conv2d(widths[-1], out_channels, 3, padding=1)
        self.quant_conv = nn.Conv2d(out_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (B, image_channels, H, W) in -1 … 1 to (B, out_channels, H / f, W / f).

        Raises:
            InputError: The shape is another, or its sides are no multiples of `config.downsampling`.
        """
        factor, channels = self.config.downsampling, self.config.image_channels
        if x.ndim != 4 or x.shape[1] != channels or any(side < 1 or side % factor for side in x.shape[2:]):
            raise InputError(
                f"the autoencoder takes (B, {channels}, H, W), sides multiples of {factor}, got {tuple(x.shape)}: "
                "resize or crop."
            )
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return cast(Tensor, self.quant_conv(self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))))


class ConvDecoder(nn.Module):
    """Vectors on a grid → pictures, the encoder mirrored.

    Args:
        config: Sizes.
        in_channels: Width of the vectors.
    """

    def __init__(self, config: ConvConfig, in_channels: int) -> None:
        super().__init__()
        widths, groups = config.block_channels[::-1], config.norm_groups
        self.post_quant_conv = nn.Conv2d(in_channels, in_channels, 1)
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.mid_block = _Middle(widths[0], groups)
        self.up_blocks = nn.ModuleList()
        for stage, width in enumerate(widths):
            is_last = stage == len(widths) - 1
            self.up_blocks.append(
                _Stage(
                    widths[max(stage - 1, 0)],
                    width,
                    config.layers_per_block + 1,
                    groups,
                    upsamplers=None if is_last else Upsample(width),
                )
            )
        self.conv_norm_out = group_norm(widths[-1], groups)
        self.conv_out = nn.Conv2d(widths[-1], config.image_channels, 3, padding=1)

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight at which adaptive weights of adversarial losses are computed (VQGAN, equation 7)."""
        return cast(nn.Parameter, self.conv_out.weight)

    def forward(self, z: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to pictures (B, image_channels, f · h, f · w), about -1 … 1, not clamped.

        Raises:
            InputError: The shape is another.
        """
        channels = self.post_quant_conv.in_channels
        if z.ndim != 4 or z.shape[1] != channels or 0 in z.shape:
            raise InputError(f"the autoencoder decodes vectors (B, {channels}, h, w), got {tuple(z.shape)}.")
        x = self.mid_block(self.conv_in(self.post_quant_conv(z)))
        for block in self.up_blocks:
            x = block(x)
        return cast(Tensor, self.conv_out(F.silu(self.conv_norm_out(x))))


class _Middle(nn.Module):
    """A residual block, attention, a residual block."""

    def __init__(self, channels: int, num_groups: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([SpatialAttention(channels, num_groups)])
        self.resnets = nn.ModuleList(ResidualBlock(channels, channels, num_groups) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.resnets[1](self.attentions[0](self.resnets[0](x))))


class _Stage(nn.Module):
    """Residual blocks of one size, then, but in the last stage, half or twice the size."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_layers: int,
        num_groups: int,
        *,
        downsamplers: nn.Module | None = None,
        upsamplers: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResidualBlock(out_channels if layer else in_channels, out_channels, num_groups)
            for layer in range(num_layers)
        )
        # Lists of one, since that is how published tensors are named.
        if downsamplers is not None:
            self.downsamplers = nn.ModuleList([downsamplers])
        if upsamplers is not None:
            self.upsamplers = nn.ModuleList([upsamplers])

    def forward(self, x: Tensor) -> Tensor:
        for module in self.children():
            for layer in cast(nn.ModuleList, module):
                x = layer(x)
        return x
