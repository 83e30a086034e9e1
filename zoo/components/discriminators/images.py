"""What judges images in training, each as a whole: residual convolutions that halve its size, as StyleGAN2's do.

Layout and sizes are those that the group of MAGVIT and TexTok (arXiv 2310.05737, 2412.05796) uses.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import check_fields
from zoo.errors import ConfigError

__all__ = ["ImageDiscriminator", "ImageDiscriminatorConfig"]

_SLOPE = 0.2
_BLUR = (1.0, 3.0, 3.0, 1.0)
_MOST = 2**15  # channels


@dataclass(frozen=True)
class ImageDiscriminatorConfig:
    """A discriminator of images.

    Attributes:
        image_size: Pixels of a side.
        channels: Of the first convolution, and what the stages' are multiples of.
        multipliers: Channels of each stage, in these; each stage halves the size, as published down to 4 × 4:
            (1, 2, 4, 4, 4, 4) at 256 pixels, (0.5, 1, 2, 4, 4, 4, 4) at 512.
        hidden: Numbers before the judgement.
        is_blurred: Whether a picture is blurred where it is halved (Zhang, arXiv 1904.11486), or averaged by 2 × 2.

    Raises:
        ConfigError: A value is unusable.
    """

    image_size: int = 256
    channels: int = 128
    multipliers: tuple[float, ...] = (1.0, 2.0, 4.0, 4.0, 4.0, 4.0)
    hidden: int = 512
    is_blurred: bool = True

    def __post_init__(self) -> None:
        check_fields(self, "image discriminator")
        for name, most in {"image_size": 8192, "channels": 4096, "hidden": _MOST}.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"image discriminator: {name} must be from 1 to {most}, got {getattr(self, name)}.")
        if not 1 <= len(self.multipliers) <= 12 or not all(1 <= width <= _MOST for width in self.widths):
            raise ConfigError(
                f"image discriminator: multipliers must be of 1 to 12 stages, of 1 to {_MOST} channels each, got "
                f"{self.multipliers} with channels {self.channels}."
            )
        if self.image_size % 2 ** len(self.multipliers) or self.last_size > 64:
            raise ConfigError(
                f"image discriminator: {len(self.multipliers)} stages must halve {self.image_size} pixels to a whole "
                "size of at most 64."
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(int(self.channels * factor) for factor in self.multipliers)

    @property
    def last_size(self) -> int:
        """Pixels of a side behind the last stage."""
        return self.image_size >> len(self.multipliers)


class ImageDiscriminator(nn.Module):
    """Images → a judgement of each.

    Nothing in it mixes the items of a batch, so that the R1 penalty is one of each item. Weights start from Xavier's
    uniform distribution, biases from 0.

    Args:
        config: Sizes.

    Attributes:
        first: Pixels → channels.
        stages: Each halves the size.
        last: Keeps it.
        hidden: All that is left → numbers.
        judge: These → a logit.
    """

    def __init__(self, config: ImageDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Conv2d(3, config.channels, 3, padding=1)
        widths = (config.channels, *config.widths)
        self.stages = nn.ModuleList(
            _Stage(width, wider, config.is_blurred) for width, wider in itertools.pairwise(widths)
        )
        self.last = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        self.hidden = nn.Linear(widths[-1] * config.last_size**2, config.hidden)
        self.judge = nn.Linear(config.hidden, 1)
        for part in self.modules():
            if isinstance(part, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(part.weight)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Judge images (B, 3, H, W): return logits (B,), a high one where an image seems real."""
        x = F.leaky_relu(self.first(images), _SLOPE)
        for stage in self.stages:
            x = stage(x)
        x = F.leaky_relu(self.last(x), _SLOPE)
        x = F.leaky_relu(self.hidden(x.flatten(1)), _SLOPE)
        return cast(Tensor, self.judge(x))[:, 0]


class _Stage(nn.Module):
    """(halved and mapped(x) + a shortcut) / √2."""

    def __init__(self, width: int, wider: int, is_blurred: bool) -> None:
        super().__init__()
        self.inner = nn.Conv2d(width, width, 3, padding=1)
        self.outer = nn.Conv2d(width, wider, 3, padding=1)
        self.shortcut = nn.Conv2d(width, wider, 1, bias=False)
        self.halve: nn.Module = _Blur() if is_blurred else nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        made = F.leaky_relu(self.outer(self.halve(F.leaky_relu(self.inner(x), _SLOPE))), _SLOPE)
        return cast(Tensor, (made + self.shortcut(self.halve(x))) / math.sqrt(2))


class _Blur(nn.Module):
    """Every second pixel of a picture that was blurred by [1, 3, 3, 1] along both axes."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor(_BLUR)
        kernel = torch.outer(row, row)
        self.register_buffer("kernel", (kernel / kernel.sum())[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        rows = x.reshape(batch * channels, 1, height, width)
        halved = F.conv2d(rows, self.kernel.to(x.dtype), stride=2, padding=1)
        return halved.view(batch, channels, height // 2, width // 2)
