"""The settings of the decoder that turns tokens into speech; the defaults are the published design's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from zoo import config as configs
from zoo.errors import ConfigError

__all__ = ["ConformerConfig", "DecoderConfig", "UNetConfig", "VocoderConfig"]

_GROUPS = 8


def _require_positive(config: object, where: str, signed: Sequence[str] = ()) -> None:
    """Refuse integers below 1 and negative numbers, but for fields that have a sign."""
    for name, value in vars(config).items():
        if name in signed:
            continue
        if type(value) is int:
            _require(value >= 1, f"{where}: {name} must be at least 1, got {value}")
        if type(value) is float:
            _require(value >= 0, f"{where}: {name} must not be negative, got {value}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(f"decoder: {message}.")


@dataclass(frozen=True)
class ConformerConfig:
    """Settings of the network that reads the tokens.

    Attributes:
        width: Width of the blocks, D.
        num_heads: Attention heads, a divisor of D.
        ffn_size: Width inside the blocks' MLPs.
        num_blocks: Blocks.
        block_size: Tokens that see one another; later ones are hidden from them. Unknown for the published model, whose
            class has this default.
    """

    width: int = 512
    num_heads: int = 8
    ffn_size: int = 2048
    num_blocks: int = 6
    block_size: int = 25

    def __post_init__(self) -> None:
        configs.check_fields(self, "decoder: conformer")
        _require_positive(self, "conformer")
        _require(
            self.width % self.num_heads == 0 and self.width % 2 == 0,
            f"conformer: width must be even and a multiple of num_heads, got {self.width} and {self.num_heads}",
        )


@dataclass(frozen=True)
class UNetConfig:
    """Settings of the network that predicts velocities of the mel spectrum.

    Attributes:
        channels: Channels of each level, multiples of 8; each level but the last halves the rate.
        num_layers: Transformer layers of each level, on the way down and on the way up.
        num_middle: Blocks between, at the lowest rate, each with that many transformer layers.
        num_heads: Attention heads.
        head_size: Width of one head.
        predicts: What the last layer gives: as published, the `velocity`; or the `data`, the spectrum at the path's
            end, from which the velocity follows. A velocity is the spectrum less the noise, so that all of the noise
            has to get through the network, and through less than a few times as many channels as there are mel bands it
            does not (Li and He, arXiv 2511.13720).
    """

    channels: tuple[int, ...] = (256, 256)
    num_layers: int = 4
    num_middle: int = 12
    num_heads: int = 8
    head_size: int = 64
    predicts: Literal["velocity", "data"] = "velocity"

    def __post_init__(self) -> None:
        configs.check_fields(self, "decoder: unet")
        _require_positive(self, "unet")
        _require(
            bool(self.channels) and all(channels >= 1 and channels % _GROUPS == 0 for channels in self.channels),
            f"unet: channels must be multiples of {_GROUPS}, one a level, got {self.channels}",
        )


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
        configs.check_fields(self, "decoder: vocoder")
        _require_positive(self, "vocoder")
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


@dataclass(frozen=True)
class DecoderConfig:
    """Settings of the decoder.

    Attributes:
        codebook_size: Different ids there are, those of the tokenizer's only codebook.
        token_rate: Tokens a second, those of the tokenizer.
        sample_rate: Hz of the wave.
        num_mel: Mel bands, M. The published ones are from 0 to 8000 Hz, of 1024 samples every 256.
        mel_mean: Of the natural logarithms that the flow's spectra are measured from; as published, 0.
        mel_std: Unit that they are measured in; as published, 1.
        speaker_size: Width of the vector that describes a speaker. Here it is zero, a voice of no one in particular.
        steps: Steps from noise to spectrum, if a caller does not say.
        guidance: How much the tokens' influence is exaggerated, if a caller does not say; 0 for not at all.
        conformer: Reads the tokens.
        unet: Predicts velocities of the mel spectrum.
        vocoder: Makes the wave.
    """

    codebook_size: int = 8192
    token_rate: int = 25
    sample_rate: int = 22050
    num_mel: int = 80
    mel_mean: float = 0.0
    mel_std: float = 1.0
    speaker_size: int = 192
    steps: int = 10
    guidance: float = 0.7
    conformer: ConformerConfig = ConformerConfig()
    unet: UNetConfig = UNetConfig()
    vocoder: VocoderConfig = VocoderConfig()

    def __post_init__(self) -> None:
        configs.check_fields(self, "decoder")
        _require_positive(self, "decoder", signed=("mel_mean",))
        _require(self.mel_std > 0, f"mel_std must be above 0, got {self.mel_std}")
        _require(
            self.num_frames(1) >= 1,
            f"a token must last for at least one mel frame of {self.vocoder.frame_samples} samples, and "
            f"{self.token_rate} tokens a second at {self.sample_rate} Hz do not",
        )

    def num_frames(self, num_tokens: int) -> int:
        """Return how many mel frames tokens become: those that end before they do."""
        return num_tokens * self.sample_rate // (self.token_rate * self.vocoder.frame_samples)

    def num_samples(self, num_tokens: int) -> int:
        """Return how many samples at `sample_rate` tokens become."""
        return self.num_frames(num_tokens) * self.vocoder.frame_samples
