"""What judges the vocoder's waves in training: by their periods and by their spectra.

As for HiFTNet: periods as in HiFi-GAN (Kong et al., arXiv 2010.05646), spectra at several resolutions as in UnivNet
(Jang et al., arXiv 2106.07889).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from zoo import config as configs
from zoo.errors import ConfigError

__all__ = ["DiscriminatorConfig", "Discriminators"]

_SLOPE = 0.1
_WIDTHS = 1, 4, 16, 32, 32
"""Channels of a period's layers, in units of the first one's."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Settings of the discriminators.

    Attributes:
        channels: Of the first layer of each.
        periods: Samples after which a wave is folded, one discriminator each; primes, to see different things.
        resolutions: Samples in a frame, one discriminator of spectra each; a quarter of it is the hop.
    """

    channels: int = 32
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    resolutions: tuple[int, ...] = (512, 1024, 2048)

    def __post_init__(self) -> None:
        configs.check_fields(self, "discriminator")
        if self.channels < 1 or not (self.periods or self.resolutions):
            raise ConfigError(
                f"discriminator: there must be at least one channel and one period or resolution, got {self}."
            )
        if any(period < 2 for period in self.periods) or any(size < 16 or size % 4 for size in self.resolutions):
            raise ConfigError(
                "discriminator: periods must be at least 2 and resolutions multiples of 4 of at least 16, got "
                f"{self.periods} and {self.resolutions}."
            )


class Discriminators(nn.Module):
    """Waves (B, samples) → what each discriminator says of them, and its inner features.

    Args:
        config: Sizes.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        by_period = [_ByPeriod(period, config.channels) for period in config.periods]
        by_spectrum = [_BySpectrum(size, config.channels) for size in config.resolutions]
        self.each = nn.ModuleList([*by_period, *by_spectrum])

    def forward(self, wave: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Judge waves of more than half of the largest resolution."""
        judged = [discriminator(wave) for discriminator in self.each]
        return [features[-1] for features in judged], [features[:-1] for features in judged]


class _ByPeriod(nn.Module):
    """Folds a wave into rows of one period, and looks along the columns: at every p-th sample."""

    def __init__(self, period: int, channels: int) -> None:
        super().__init__()
        self.period = period
        widths = [1, *(channels * factor for factor in _WIDTHS)]
        strides = [3] * (len(_WIDTHS) - 1) + [1]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(before, after, (5, 1), (stride, 1), (2, 0)))
            for before, after, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.out = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, wave: Tensor) -> list[Tensor]:
        missing = -wave.shape[1] % self.period
        x = F.pad(wave[:, None], (0, missing), mode="reflect")
        return _features(x.view(len(x), 1, -1, self.period), self.layers, self.out)


class _BySpectrum(nn.Module):
    """Looks at the magnitudes of a short-time Fourier transform."""

    window: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("window", torch.hann_window(size, dtype=torch.float32), persistent=False)
        shapes: Sequence[tuple[int, tuple[int, int], tuple[int, int]]] = [
            (1, (3, 9), (1, 1)),
            (channels, (3, 9), (1, 2)),
            (channels, (3, 9), (1, 2)),
            (channels, (3, 9), (1, 2)),
            (channels, (3, 3), (1, 1)),
        ]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(before, channels, kernel, stride, (kernel[0] // 2, kernel[1] // 2)))
            for before, kernel, stride in shapes
        )
        self.out = weight_norm(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, wave: Tensor) -> list[Tensor]:
        spectrum = torch.stft(wave.float(), self.size, self.size // 4, window=self.window, return_complex=True)
        # Not abs(), whose gradient at zero is not a number. (B, 1, frames, bins).
        magnitudes = torch.view_as_real(spectrum).square().sum(-1).add(1e-9).sqrt()
        return _features(magnitudes.transpose(1, 2)[:, None], self.layers, self.out)


def _features(x: Tensor, layers: nn.ModuleList, out: nn.Module) -> list[Tensor]:
    """Return what every layer makes of its input, the judgement last."""
    features = []
    for layer in layers:
        x = F.leaky_relu(layer(x), _SLOPE)
        features.append(x)
    return [*features, out(x)]
