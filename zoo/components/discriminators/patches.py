"""What judges pictures in training, patch by patch (PatchGAN; Isola et al., arXiv 1611.07004)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from zoo.config import check_fields
from zoo.errors import ConfigError

__all__ = ["PatchDiscriminator", "PatchDiscriminatorConfig"]

_SLOPE = 0.2
_MOST_GROWTH = 8
"""The widest layer, in units of the first one's channels."""


@dataclass(frozen=True)
class PatchDiscriminatorConfig:
    """A patch discriminator.

    Attributes:
        channels: Of the first layer; each further one has twice as many, up to eight times.
        num_layers: Layers that halve the size; with 3, a judgement is of 70 × 70 pixels.
        norm: Of all layers but the first and the last: "batch", as published; "group", of the item alone, so that
            judgements, and the R1 penalty, do not depend on the rest of the batch; or "none".
        image_channels: Of the pictures.

    Raises:
        ConfigError: A value is unusable.
    """

    channels: int = 64
    num_layers: int = 3
    norm: Literal["batch", "group", "none"] = "batch"
    image_channels: int = 3

    def __post_init__(self) -> None:
        check_fields(self, "patch discriminator")
        for name, most in {"channels": 4096, "num_layers": 8, "image_channels": 4096}.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"patch discriminator: {name} must be from 1 to {most}, got {getattr(self, name)}.")


class PatchDiscriminator(nn.Module):
    """Pictures → a judgement of every patch.

    4×4 convolutions and leaky ReLUs; `num_layers` of them halve the size, two more keep it. Weights start from
    N(0, 0.02²).

    Args:
        config: Sizes.

    Attributes:
        smallest: Pixels a side must have.
    """

    def __init__(self, config: PatchDiscriminatorConfig) -> None:
        super().__init__()
        self.smallest = 3 * 2**config.num_layers
        layers: list[nn.Module] = []
        width = config.image_channels
        for index in range(config.num_layers + 1):
            wider = config.channels * min(2**index, _MOST_GROWTH)
            normed = index > 0 and config.norm != "none"
            stride = 2 if index < config.num_layers else 1
            layers.append(nn.Conv2d(width, wider, 4, stride=stride, padding=1, bias=not normed))
            if normed:
                layers.append(nn.BatchNorm2d(wider) if config.norm == "batch" else nn.GroupNorm(1, wider))
            layers.append(nn.LeakyReLU(_SLOPE))
            width = wider
        layers.append(nn.Conv2d(width, 1, 4, padding=1))
        self.layers = nn.Sequential(*layers)
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 1.0, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Judge pictures (B, C, H, W): return logits (B, 1, h, w), a high one where a patch seems real."""
        return cast(Tensor, self.layers(x))
