"""A U-Net along time that predicts the velocity of a mel spectrum on its way from noise to speech.

As in Matcha-TTS (Mehta et al., arXiv 2309.03199), each level is a residual block of convolutions that knows the flow's
time, then transformer layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.components.layers.attention import merge_heads, scaled_dot_product, split_heads
from zoo.components.layers.positions import timestep_embedding
from zoo.config import MAX_COUNT, check_fields, check_positive, check_product
from zoo.errors import ConfigError

__all__ = ["UNetConfig", "VelocityUNet"]

_TIME_SCALE = 1000.0
_LEAST_TIME = 0.05
_GROUPS = 8


@dataclass(frozen=True)
class UNetConfig:
    """Settings of a `VelocityUNet`.

    Attributes:
        channels: Channels of each level, multiples of 8; each level but the last halves the rate.
        num_layers: Transformer layers of each level, on the way down and on the way up.
        num_middle: Blocks between, at the lowest rate, each with that many transformer layers.
        num_heads: Attention heads.
        head_size: Width of one head.
        predicts: What the last layer gives: the `velocity`; or the `data`, the spectrum at the path's end, from which
            the velocity follows. A velocity is the spectrum less the noise, so that all of the noise has to get through
            the network, and through less than a few times as many channels as there are mel bands it does not (Li and
            He, arXiv 2511.13720).

    Raises:
        ConfigError: A value is unusable.
    """

    channels: tuple[int, ...] = (256, 256)
    num_layers: int = 4
    num_middle: int = 12
    num_heads: int = 8
    head_size: int = 64
    predicts: Literal["velocity", "data"] = "velocity"

    def __post_init__(self) -> None:
        check_fields(self, "unet")
        check_positive(self, "unet")
        check_product(self, "unet", ("num_middle", "num_layers"), MAX_COUNT)
        if not self.channels or any(channels < 1 or channels % _GROUPS for channels in self.channels):
            raise ConfigError(f"unet: channels must be multiples of {_GROUPS}, one a level, got {self.channels}.")


class VelocityUNet(nn.Module):
    """Noisy spectra (B, M, F) at times (B,) → velocities (B, M, F).

    Items of a batch have one length: there is no padding that statistics or attention could run over.

    Args:
        num_mel: M. The input has 4M channels: the spectrum, the content, the speaker, a spectrum to go on from.
        config: Sizes.

    Attributes:
        down: Levels on the way down; `shrink` are the downsamplings between them, `down_smooth` follows the last.
        middle: Levels at the lowest rate.
        up: Levels on the way up; `stretch` are the upsamplings between them, `up_smooth` follows the last.
    """

    def __init__(self, num_mel: int, config: UNetConfig) -> None:
        super().__init__()
        channels = config.channels
        self.predicts = config.predicts
        self.time_size = 4 * num_mel
        time_width = 4 * channels[0]
        self.time_in = nn.Linear(self.time_size, time_width)
        self.time_out = nn.Linear(time_width, time_width)
        down, up = pairwise((4 * num_mel, *channels)), pairwise((*reversed(channels), channels[0]))
        self.down = nn.ModuleList(_Level(before, after, time_width, config) for before, after in down)
        self.shrink = nn.ModuleList(nn.Conv1d(width, width, 3, stride=2, padding=1) for width in channels[:-1])
        self.down_smooth = nn.Conv1d(channels[-1], channels[-1], 3, padding=1)
        self.middle = nn.ModuleList(
            _Level(channels[-1], channels[-1], time_width, config) for _ in range(config.num_middle)
        )
        # What comes up meets what went down at the same rate.
        self.up = nn.ModuleList(_Level(2 * before, after, time_width, config) for before, after in up)
        self.stretch = nn.ModuleList(
            nn.ConvTranspose1d(width, width, 4, stride=2, padding=1) for width in channels[-2::-1]
        )
        self.up_smooth = nn.Conv1d(channels[0], channels[0], 3, padding=1)
        self.final = _ConvBlock(channels[0], channels[0])
        self.out = nn.Conv1d(channels[0], num_mel, 1)

    def forward(self, x: Tensor, t: Tensor, content: Tensor, speaker: Tensor, prompt: Tensor) -> Tensor:
        """Predict velocities.

        Args:
            x: (B, M, F).
            t: (B,) from 0, noise, to 1, speech.
            content: (B, M, F), the mean spectrum of what is to be said.
            speaker: (B, M).
            prompt: (B, M, F), the beginning of the spectrum where it is given, 0 where it is not.
        """
        embedded = timestep_embedding(t, self.time_size, scale=_TIME_SCALE, endpoint=True, order="sin_cos")
        time = self.time_out(F.silu(self.time_in(embedded)))
        noisy = x
        x = torch.cat([x, content, speaker[:, :, None].expand_as(x), prompt], 1)
        skips = []
        for level, end in zip(self.down, (*self.shrink, self.down_smooth), strict=True):
            x = level(x, time)
            skips.append(x)
            x = end(x)
        for level in self.middle:
            x = level(x, time)
        for level, end in zip(self.up, (*self.stretch, self.up_smooth), strict=True):
            skip = skips.pop()
            # An odd number of frames was rounded up when it was halved.
            x = end(level(torch.cat([x[:, :, : skip.shape[2]], skip], 1), time))
        predicted: Tensor = self.out(self.final(x))
        if self.predicts == "velocity":
            return predicted
        # The straight way from here to there; just before the end, errors are not made larger without bound.
        return (predicted.float() - noisy) / (1 - t).clamp(min=_LEAST_TIME)[:, None, None]


class _Level(nn.Module):
    """(B, before, F) → (B, after, F): a residual block, then transformer layers."""

    def __init__(self, before: int, after: int, time_width: int, config: UNetConfig) -> None:
        super().__init__()
        self.residual = _ResidualBlock(before, after, time_width)
        self.layers = nn.ModuleList(_Layer(after, config.num_heads, config.head_size) for _ in range(config.num_layers))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        x = self.residual(x, time).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        return x.transpose(1, 2)


class _ConvBlock(nn.Module):
    """Convolution, group norm, Mish."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(before, after, 3, padding=1)
        self.norm = nn.GroupNorm(_GROUPS, after)

    def forward(self, x: Tensor) -> Tensor:
        return F.mish(self.norm(self.conv(x)))


class _ResidualBlock(nn.Module):
    """Two convolution blocks beside a 1×1 convolution; the time is added between the two."""

    def __init__(self, before: int, after: int, time_width: int) -> None:
        super().__init__()
        self.first = _ConvBlock(before, after)
        self.time = nn.Linear(time_width, after)
        self.second = _ConvBlock(after, after)
        self.direct = nn.Conv1d(before, after, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        inner = self.first(x) + self.time(F.mish(time))[:, :, None]
        summed: Tensor = self.second(inner) + self.direct(x)
        return summed


class _Layer(nn.Module):
    """A pre-norm transformer layer whose attention may be wider than its rows, and has one bias, the last.

    Written out rather than a `Block`, because checkpoints name its tensors without `attention.` and `mlp.`.
    """

    def __init__(self, width: int, num_heads: int, head_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        inner = num_heads * head_size
        self.attention_norm = nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.out = nn.Linear(inner, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.attention_norm(x)
        q, k, v = (split_heads(linear(rows), self.num_heads) for linear in (self.q, self.k, self.v))
        x = x + self.out(merge_heads(scaled_dot_product(q, k, v)))
        mapped: Tensor = x + self.down(F.gelu(self.up(self.mlp_norm(x))))
        return mapped
