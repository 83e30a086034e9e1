"""FlexTok's encoder: registers that read an image's latents, each seeing the registers before it."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from zoo.components.autoencoder_kl import ConvEncoder
from zoo.components.layers.patches import PatchEmbedding
from zoo.components.layers.positions import sincos_2d
from zoo.components.layers.start import start_linear_maps, start_token
from zoo.components.quantizers.base import full_precision
from zoo.components.query import GroupTransformerConfig, QueryEncoder, QueryEncoderConfig, TokenGroup
from zoo.families.flextok.config import FlexTokConfig

__all__ = ["FlexTokEncoder", "Resampler"]


class FlexTokEncoder(nn.Module):
    """Pixels (B, 3, H, W) in -1…1 → vectors (B, N, D), one a register.

    Args:
        config: Sizes.
        output_size: D, what the quantizer takes.

    Attributes:
        autoencoder: Pixels → means and log-variances of latents. It is trained before the rest, and frozen then.
        resampler: Latents → vectors.
    """

    def __init__(self, config: FlexTokConfig, output_size: int) -> None:
        super().__init__()
        self.scaling_factor = config.scaling_factor
        self.autoencoder = ConvEncoder(config.autoencoder, 2 * config.latent_channels)
        self.resampler = Resampler(config, output_size)

    def latents(self, pixels: Tensor) -> Tensor:
        """Return scaled latents (B, C, h, w): the mean of the posterior, never a sample of it.

        A sample, which the authors' configuration may ask for, would give other tokens each time.
        """
        with full_precision(pixels):  # as its authors have it, whatever the autocast around it
            moments: Tensor = self.autoencoder(pixels.to(self.autoencoder.conv_in.weight.dtype))
        return moments.chunk(2, 1)[0] * self.scaling_factor

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode."""
        return cast(Tensor, self.resampler(self.latents(pixels)))


class Resampler(nn.Module):
    """Scaled latents (B, C, h, w) → vectors (B, N, D).

    Patches see one another and no register, register j sees all patches and registers up to j. So the first k vectors
    are what they would be if there were no others.

    Attributes:
        embed: Patches of latents → tokens.
        positions: (h · w / p², width), added to these; fixed, and stored with the weights.
        registers: Tokens → vectors.
    """

    positions: Tensor

    def __init__(self, config: FlexTokConfig, output_size: int) -> None:
        super().__init__()
        trunk = config.encoder
        size = (config.patch_size, config.patch_size)
        self.embed = PatchEmbedding(size, config.latent_channels, trunk.width)
        self.register_buffer("positions", sincos_2d(config.grid, trunk.width))
        groups = (TokenGroup("patches", sees=()), TokenGroup("queries", is_causal=True))
        transformer = GroupTransformerConfig(groups, trunk.block(), trunk.depth)
        self.registers = QueryEncoder(QueryEncoderConfig(transformer, config.num_tokens, output_size))
        start_linear_maps(self)
        start_token(self.registers.queries)
        nn.init.zeros_(self.registers.project.weight)

    def forward(self, latents: Tensor) -> Tensor:
        """Resample."""
        patches = self.embed(latents.to(self.positions.dtype)) + self.positions
        return cast(Tensor, self.registers({"patches": patches}))
