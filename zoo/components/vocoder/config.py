"""The settings of the vocoder; the defaults are those of HiFTNet as CosyVoice uses it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from zoo import config as configs
from zoo.errors import ConfigError

__all__ = ["VocoderConfig"]


@dataclass(frozen=True)
class VocoderConfig:
    """Settings of the network that turns mel spectra into waves.

    Attributes:
        channels: Channels at the mel's rate; every upsampling halves them.
        upsample_rates: Factors of the transposed convolutions, even.
        upsample_kernels: Their kernels, even and no shorter than the factors.
        n_fft: Samples in one frame of the inverse Fourier transform.
        hop_length: Samples from one such frame to the next.
        kernels: Kernels of the residual blocks whose mean follows each upsampling.
        dilations: Dilations of each such block.
        source_kernels: Kernels of the residual blocks that the source passes, one an upsampling.
        source_dilations: Dilations of each such block.
        num_harmonics: Sines above the fundamental.
        sine_amplitude: Of each sine, relative to full scale.
        noise_std: Standard deviation of the noise on voiced sines; on unvoiced ones it is a third of the amplitude.
        voiced_threshold: Hz of fundamental frequency above which speech is voiced.
        pitch_channels: Width of the network that predicts the fundamental frequency.
        slope: Of the leaky ReLU before each upsampling.
        limit: The wave is clamped to ± this.
    """

    channels: int = 512
    upsample_rates: tuple[int, ...] = (8, 8)
    upsample_kernels: tuple[int, ...] = (16, 16)
    n_fft: int = 16
    hop_length: int = 4
    kernels: tuple[int, ...] = (3, 7, 11)
    dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    source_kernels: tuple[int, ...] = (7, 11)
    source_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5))
    num_harmonics: int = 8
    sine_amplitude: float = 0.1
    noise_std: float = 0.003
    voiced_threshold: float = 10.0
    pitch_channels: int = 512
    slope: float = 0.1
    limit: float = 0.99

    def __post_init__(self) -> None:
        configs.check_fields(self, "vocoder")
        configs.check_positive(self, "vocoder")
        stages = len(self.upsample_rates)
        _require(
            0 < stages == len(self.upsample_kernels) == len(self.source_kernels) == len(self.source_dilations),
            "vocoder: upsample_rates, upsample_kernels, source_kernels and source_dilations must be equally many",
        )
        _require(0 < len(self.kernels) == len(self.dilations), "vocoder: kernels and dilations must be equally many")
        _require(
            self.channels % 2**stages == 0,
            f"vocoder: channels must be a multiple of {2**stages}, for {stages} halvings, got {self.channels}",
        )
        for rate, kernel in zip(self.upsample_rates, self.upsample_kernels, strict=True):
            _require(
                kernel >= rate >= 2 and rate % 2 == 0 and kernel % 2 == 0,
                f"vocoder: upsampling factors and their kernels must be even, and the kernels no shorter, got {rate} "
                f"and {kernel}",
            )
        kernels = (*self.kernels, *self.source_kernels)
        steps = [step for block in (*self.dilations, *self.source_dilations) for step in block]
        _require(
            all(kernel >= 1 and kernel % 2 == 1 for kernel in kernels) and all(step >= 1 for step in steps),
            f"vocoder: kernels must be odd and dilations at least 1, got {kernels} and {steps}",
        )
        _require(
            self.n_fft % 2 == 0 and self.hop_length <= self.n_fft // 2,
            f"vocoder: n_fft must be even and at least twice hop_length, got {self.n_fft} and {self.hop_length}",
        )

    @property
    def frame_samples(self) -> int:
        """Samples in one mel frame."""
        return math.prod(self.upsample_rates) * self.hop_length


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(f"{message}.")
