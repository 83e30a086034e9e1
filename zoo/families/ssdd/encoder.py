"""SSDD's encoder: that of latent diffusion, and what brings its latents to a quantizer."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from zoo.components.autoencoder_kl import ConvEncoder
from zoo.components.quantizers import Gaussian, Quantizer
from zoo.families.ssdd.config import SSDDConfig

__all__ = ["SSDDEncoder", "start_convolutions"]

_STD = 0.02


class SSDDEncoder(nn.Module):
    """Pictures in -1…1 → what the quantizer takes, on a grid.

    Args:
        config: Sizes.
        quantizer: What follows.

    Attributes:
        conv: Pictures → latents, of a variational encoder means and then log-variances.
        project: Latents → vectors of another width; the identity where that is the same.
    """

    def __init__(self, config: SSDDConfig, quantizer: Quantizer) -> None:
        super().__init__()
        self.conv = ConvEncoder(config.encoder, config.encoder_outputs)
        self.latent_channels = config.latent_channels
        self.is_gaussian = isinstance(quantizer, Gaussian)
        is_same = self.is_gaussian or quantizer.input_dim == config.latent_channels
        self.project = nn.Identity() if is_same else nn.Conv2d(config.latent_channels, quantizer.input_dim, 1)
        start_convolutions(self)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pictures (B, 3, H, W) to (B, C, h, w).

        Raises:
            InputError: Sides are no multiples of the encoder's downsampling.
        """
        made: Tensor = self.conv(pixels)
        if self.is_gaussian:
            return made
        return cast(Tensor, self.project(made[:, : self.latent_channels]))


def start_convolutions(module: nn.Module) -> None:
    """Start all convolutions in a module, linear maps of attention among them, from N(0, 0.02²), biases from 0."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(part.weight, std=_STD)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
