"""What judges estimates of pictures in the training of a flow, beside the noisy pictures that they were made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from zoo.components.layers.modulation import AdaGN
from zoo.components.layers.positions import timestep_embedding
from zoo.config import check_fields
from zoo.errors import ConfigError

__all__ = ["NoisyDiscriminator", "NoisyDiscriminatorConfig"]

_SLOPE = 0.2
_MOST_GROWTH = 8
"""The widest layer, in units of the first one's channels."""


@dataclass(frozen=True)
class NoisyDiscriminatorConfig:
    """A discriminator of pictures beside noisy ones.

    Attributes:
        channels: Of the first layer; each further one has twice as many, up to eight times.
        num_layers: Layers, each of which halves the size.
        condition_size: Width of the embedding of times, even.
        image_channels: Of the pictures.

    Raises:
        ConfigError: A value is unusable.
    """

    channels: int = 64
    num_layers: int = 4
    condition_size: int = 128
    image_channels: int = 3

    def __post_init__(self) -> None:
        check_fields(self, "noisy discriminator")
        limits = {"channels": 4096, "num_layers": 8, "condition_size": 4096, "image_channels": 4096}
        for name, most in limits.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"noisy discriminator: {name} must be from 1 to {most}, got {getattr(self, name)}.")
        if self.condition_size % 2:
            raise ConfigError(f"noisy discriminator: condition_size must be even, got {self.condition_size}.")


class NoisyDiscriminator(nn.Module):
    """Pictures, what they were estimated from, and the time → one judgement of each.

    Each layer is a 4×4 convolution that halves the size, a norm whose scale and shift the time gives, and a leaky ReLU;
    a last map judges the mean over places. The weights of all convolutions and of that map are divided by their largest
    singular value (Miyato et al., arXiv 1802.05957). It is as the spec of SSDD says of its authors' ablation (section
    5), who leave the norm and the embedding of times open.

    Args:
        config: Sizes.

    Attributes:
        smallest: Pixels a side must have.
    """

    def __init__(self, config: NoisyDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.smallest = 2**config.num_layers
        size = config.condition_size
        self.embed = nn.Sequential(nn.Linear(size, size), nn.SiLU(), nn.Linear(size, size))
        widths = [config.channels * min(2**index, _MOST_GROWTH) for index in range(config.num_layers)]
        self.layers = nn.ModuleList()
        self.norms = nn.ModuleList()
        for before, width in zip([2 * config.image_channels, *widths], widths, strict=False):
            self.layers.append(spectral_norm(nn.Conv2d(before, width, 4, stride=2, padding=1)))
            projection = nn.Sequential(nn.SiLU(), nn.Linear(size, 2 * width))
            self.norms.append(AdaGN(width, projection, num_groups=1))
        self.judge = spectral_norm(nn.Linear(widths[-1], 1))

    def forward(self, pictures: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        """Judge.

        Args:
            pictures: (B, C, H, W).
            noisy: (B, C, H, W), at the time.
            t: (B,) times, 0 … 1.

        Returns:
            (B,) logits, a high one where a picture seems real.
        """
        condition = self.embed(timestep_embedding(t, self.config.condition_size).to(pictures.dtype))
        x = torch.cat([pictures, noisy.to(pictures.dtype)], 1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.leaky_relu(norm(layer(x), condition), _SLOPE)
        return cast(Tensor, self.judge(x.mean((2, 3))))[:, 0]
