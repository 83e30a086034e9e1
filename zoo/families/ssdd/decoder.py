"""SSDD's decoder: latents and noise → a picture, by a flow in pixels that is short, or a single step."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from zoo.components.flow import Path, Power, Solver, sample
from zoo.errors import ConfigError
from zoo.families.ssdd.config import DecoderConfig
from zoo.families.ssdd.encoder import start_convolutions
from zoo.families.ssdd.unet import PixelUNet

__all__ = ["PATH", "SSDDDecoder"]

PATH = Path(noise_time=1, points_to="data")
"""Of the flow: noise is at time 1, and velocities point to the picture."""


class SSDDDecoder(nn.Module):
    """Codes on a grid → pixels.

    Args:
        config: Sizes.
        code_channels: Width of the codes.
        latent_channels: Of the latents that the network is conditioned on.

    Attributes:
        project: Normalised codes → latents; the identity where they are as wide.
        unet: Noised pictures, times and latents → velocities.

    Raises:
        ConfigError: The config normalises another number of channels.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: DecoderConfig, code_channels: int, latent_channels: int) -> None:
        super().__init__()
        self.config = config
        self.is_normalised = bool(config.latent_mean)
        if self.is_normalised and len(config.latent_mean) != code_channels:
            raise ConfigError(
                f"ssdd decoder: latent_mean and latent_std are of {len(config.latent_mean)} channels, and it is given "
                f"{code_channels}."
            )
        for name in ("latent_mean", "latent_std"):
            values = torch.tensor(getattr(config, name), dtype=torch.float32).view(-1, 1, 1)
            self.register_buffer(name, values, persistent=False)
        is_same = code_channels == latent_channels
        self.project = nn.Identity() if is_same else nn.Conv2d(code_channels, latent_channels, 1)
        start_convolutions(self.project)
        self.unet = PixelUNet(config, latent_channels)

    def latents(self, codes: Tensor) -> Tensor:
        """Return what the network is conditioned on, (B, Y, h, w), of codes (B, D, h, w)."""
        if self.is_normalised:
            codes = ((codes.float() - self.latent_mean) / self.latent_std).to(codes.dtype)
        return cast(Tensor, self.project(codes.to(self.unet.conv_in.weight.dtype)))

    def forward(self, codes: Tensor, noise: Tensor, num_steps: int, time_power: float = 2.0) -> Tensor:
        """Return pixels (B, 3, H, W), about -1…1, not clamped.

        Args:
            codes: (B, D, h, w).
            noise: (B, 3, H, W), standard normal. Zeros would not do for a single step, which has only ever seen noise.
            num_steps: N of Euler's steps.
            time_power: p; steps begin at (1 - i / N)^p.
        """
        return self.from_latents(self.latents(codes), noise, num_steps, time_power)

    def from_latents(self, latents: Tensor, noise: Tensor, num_steps: int, time_power: float = 2.0) -> Tensor:
        """As `forward`, of what `latents` returned."""
        return sample(self.unet, noise, PATH, Solver(num_steps, warp=Power(time_power)), conditions=[latents])
