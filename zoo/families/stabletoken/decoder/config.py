"""The settings of the decoder that turns tokens into speech; the defaults are the published design's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo import config as configs
from zoo.components.vocoder.config import VocoderConfig
from zoo.errors import ConfigError

__all__ = ["ConformerConfig", "DecoderConfig", "UNetConfig", "VocoderConfig"]

_GROUPS = 8
_VOCODER = VocoderConfig()


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
        configs.check_positive(self, "decoder: conformer")
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
        configs.check_positive(self, "decoder: unet")
        configs.check_product(self, "decoder: unet", ("num_middle", "num_layers"), configs.MAX_COUNT)
        _require(
            bool(self.channels) and all(channels >= 1 and channels % _GROUPS == 0 for channels in self.channels),
            f"unet: channels must be multiples of {_GROUPS}, one a level, got {self.channels}",
        )


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
    vocoder: VocoderConfig = _VOCODER

    def __post_init__(self) -> None:
        configs.check_fields(self, "decoder")
        configs.check_positive(self, "decoder: decoder", signed=("mel_mean",))
        _require(self.mel_std > 0, f"mel_std must be above 0, got {self.mel_std}")
        _require(
            self.num_frames(1) >= 1,
            f"a token must last for at least one mel frame of {self.vocoder.frame_samples} samples, and "
            f"{self.token_rate} tokens a second at {self.sample_rate} Hz do not",
        )

    def require_codebooks(self, codebook_size: int, num_codebooks: int) -> None:
        """Raise `ConfigError` if a quantizer's ids are not those that are decoded."""
        if (codebook_size, num_codebooks) != (self.codebook_size, 1):
            raise ConfigError(
                f"StableToken: the decoder is for one codebook of {self.codebook_size} ids, and the quantizer has "
                f"{num_codebooks} of {codebook_size}: decoder.codebook_size must say the same."
            )

    @property
    def mel(self) -> tuple[int, int, int]:
        """Bands, rate in Hz and samples in a frame of the spectra, as `MelSpectrum` takes them."""
        return self.num_mel, self.sample_rate, self.vocoder.frame_samples

    def num_frames(self, num_tokens: int) -> int:
        """Return how many mel frames tokens become: those that end before they do."""
        return num_tokens * self.sample_rate // (self.token_rate * self.vocoder.frame_samples)

    def num_samples(self, num_tokens: int) -> int:
        """Return how many samples at `sample_rate` tokens become."""
        return self.num_frames(num_tokens) * self.vocoder.frame_samples
