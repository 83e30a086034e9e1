"""SSDD's decoder: latents and noise → a picture, by a flow in pixels that is short, or a single step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from zoo.components.flow import Path, Power, Solver, sample, start_noise
from zoo.errors import ConfigError
from zoo.families.ssdd.config import DecoderConfig
from zoo.families.ssdd.encoder import start_convolutions
from zoo.families.ssdd.options import require_steps
from zoo.families.ssdd.unet import PixelUNet

__all__ = ["PATH", "SSDDDecoder"]

PATH = Path(noise_time=1, points_to="data")
"""Of the flow: noise is at time 1, and velocities point to the picture."""

_PIXELS_TOGETHER = 2**21  # decoded at a time: 8 pictures of 512 × 512


class SSDDDecoder(nn.Module):
    """Codes on a grid → pixels.

    Args:
        config: Sizes.
        code_channels: Width of the codes.
        latent_channels: Of the latents that the network is conditioned on.
        layout: What makes these of normalised codes; a 1×1 convolution, where they are of another width, if None.

    Attributes:
        project: Normalised codes → latents.
        unet: Noised pictures, times and latents → velocities.

    Raises:
        ConfigError: The config normalises another number of channels.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(
        self, config: DecoderConfig, code_channels: int, latent_channels: int, layout: nn.Module | None = None
    ) -> None:
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
        if layout is None:
            is_same = code_channels == latent_channels
            layout = nn.Identity() if is_same else nn.Conv2d(code_channels, latent_channels, 1)
            start_convolutions(layout)
        self.project = layout
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

    def pictures(
        self,
        latents: Tensor,
        size: tuple[int, int],
        steps: int,
        time_power: float,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        noise: Tensor | None = None,
        seed: int = 0,
    ) -> Tensor:
        """Return pictures (B, 3, H, W), about 0…1, not clamped, some at a time.

        Args:
            latents: (B, Y, h, w).
            size: H and W.
            steps: As of `forward`.
            time_power: As of `forward`.
            generator: As of `zoo.components.flow.start_noise`.
            noise: As of `zoo.components.flow.start_noise`.
            seed: As of `zoo.components.flow.start_noise`.

        Raises:
            InputError: As of `zoo.components.flow.start_noise`.
            ConfigError: There are no such steps.
        """
        require_steps(steps)
        start = start_noise((len(latents), 3, *size), generator, noise, seed, latents.device)
        together = max(1, _PIXELS_TOGETHER // (size[0] * size[1]))
        made = [
            self.from_latents(some, begin, steps, time_power).float()
            for some, begin in zip(torch.split(latents, together), torch.split(start, together), strict=True)
        ]
        return (torch.cat(made) + 1) / 2
