"""The convolutional autoencoder of latent diffusion, with a Gaussian between its halves.

Rombach et al., arXiv 2112.10752, with the layers of VQGAN (Esser et al., arXiv 2012.09841): an encoder that halves the
size between stages, a posterior that a KL divergence keeps near the standard normal, and a decoder that mirrors it. Its
tensors are named as diffusers names those of `AutoencoderKL`, in which such models are published, so that a published
file fits by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.components.layers.conv import Downsample, ResidualBlock, SpatialAttention, Upsample, group_norm
from zoo.config import check_fields
from zoo.errors import ConfigError, InputError

__all__ = ["AutoencoderKL", "AutoencoderKLConfig", "ConvDecoder", "ConvEncoder", "DiagonalGaussian"]


@dataclass(frozen=True)
class AutoencoderKLConfig:
    """An autoencoder.

    Attributes:
        latent_channels: Of the latents.
        block_channels: Of each stage, from the full size down; sizes are halved between two stages.
        layers_per_block: Residual blocks of a stage of the encoder; the decoder has one more.
        norm_groups: Groups of every norm, a divisor of all channels.
        image_channels: Of the pictures.

    Raises:
        ConfigError: A value is unusable.
    """

    latent_channels: int = 16
    block_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_groups: int = 32
    image_channels: int = 3

    def __post_init__(self) -> None:
        check_fields(self, "autoencoder")
        for name in ("latent_channels", "layers_per_block", "norm_groups", "image_channels"):
            if not 1 <= getattr(self, name) <= 4096:
                raise ConfigError(f"autoencoder: {name} must be from 1 to 4096, got {getattr(self, name)}.")
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
        return 2 ** (len(self.block_channels) - 1)


@dataclass(frozen=True)
class DiagonalGaussian:
    """What the encoder says of the latents: independent normal distributions.

    Attributes:
        mean: (B, C, h, w).
        log_variance: (B, C, h, w), within -30 … 20.
    """

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def of(cls, moments: Tensor) -> DiagonalGaussian:
        """Split moments (B, 2C, h, w) into means, the first half, and log-variances, which are clamped."""
        mean, log_variance = moments.chunk(2, 1)
        return cls(mean, log_variance.clamp(-30, 20))

    def sample(self, noise: Tensor | None = None) -> Tensor:
        """Return mean + deviation · noise, with standard normal noise (B, C, h, w), drawn if None."""
        noise = torch.randn_like(self.mean) if noise is None else noise
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def kl(self) -> Tensor:
        """Return the KL divergence from the standard normal distribution of each item, in nats, (B,)."""
        terms = self.mean.square() + self.log_variance.exp() - 1 - self.log_variance
        return 0.5 * terms.flatten(1).sum(1)


class ConvEncoder(nn.Module):
    """Pictures → `out_channels` numbers a cell.

    Args:
        config: Sizes.
        out_channels: Of the output; twice the latents' for the moments of a Gaussian.
    """

    def __init__(self, config: AutoencoderKLConfig, out_channels: int) -> None:
        super().__init__()
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

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, image_channels, H, W) to (B, out_channels, H / f, W / f)."""
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return cast(Tensor, self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x)))))


class ConvDecoder(nn.Module):
    """Latents → pictures, the encoder mirrored.

    Args:
        config: Sizes.
    """

    def __init__(self, config: AutoencoderKLConfig) -> None:
        super().__init__()
        widths, groups = config.block_channels[::-1], config.norm_groups
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
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
        """The weight that adaptive weights of adversarial losses are computed at."""
        return cast(nn.Parameter, self.conv_out.weight)

    def forward(self, z: Tensor) -> Tensor:
        """Map (B, latent_channels, h, w) to (B, image_channels, f · h, f · w)."""
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        return cast(Tensor, self.conv_out(F.silu(self.conv_norm_out(x))))


class AutoencoderKL(nn.Module):
    """Encoder, Gaussian posterior, decoder.

    Pictures are in -1 … 1, as this network is trained everywhere; what is decoded is not clamped.

    Args:
        config: Sizes.
    """

    def __init__(self, config: AutoencoderKLConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ConvEncoder(config, 2 * config.latent_channels)
        self.decoder = ConvDecoder(config)
        self.quant_conv = nn.Conv2d(2 * config.latent_channels, 2 * config.latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)

    def encode(self, images: Tensor) -> DiagonalGaussian:
        """Return the posterior of pictures (B, C, H, W) in -1 … 1.

        Raises:
            InputError: The shape is another, or its sides are no multiples of `config.downsampling`.
        """
        factor = self.config.downsampling
        if (
            images.ndim != 4
            or images.shape[1] != self.config.image_channels
            or any(side < 1 or side % factor for side in images.shape[2:])
        ):
            raise InputError(
                f"the autoencoder takes (B, {self.config.image_channels}, H, W), sides multiples of {factor}, got "
                f"{tuple(images.shape)}: resize or crop."
            )
        return DiagonalGaussian.of(self.quant_conv(self.encoder(images)))

    def decode(self, latents: Tensor) -> Tensor:
        """Return the pictures of latents (B, latent_channels, h, w).

        Raises:
            InputError: The shape is another.
        """
        if latents.ndim != 4 or latents.shape[1] != self.config.latent_channels or 0 in latents.shape:
            raise InputError(f"latents must be (B, {self.config.latent_channels}, h, w), got {tuple(latents.shape)}.")
        return cast(Tensor, self.decoder(self.post_quant_conv(latents)))


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
