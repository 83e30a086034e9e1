"""The settings of the decoder that turns tokens into speech; the defaults are the published design's."""

from __future__ import annotations

from dataclasses import dataclass

from zoo import config as configs
from zoo.components.layers.conformer import ConformerConfig
from zoo.components.layers.unet1d import UNetConfig
from zoo.components.vocoder.config import VocoderConfig
from zoo.errors import ConfigError

__all__ = ["ConformerConfig", "DecoderConfig", "UNetConfig", "VocoderConfig"]

_CONFORMER, _UNET, _VOCODER = ConformerConfig(), UNetConfig(), VocoderConfig()


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(f"decoder: {message}.")


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
        speaker_size: Width of the vector that describes a speaker, S.
        voice: Whose voice the zero vector is, which speech has if a caller does not say; as published, no one's ("").
        voices: Speakers whose names stand for a vector (`speaker_vector`) that the flow was trained with.
        steps: Steps from noise to spectrum, if a caller does not say.
        guidance: How much the tokens' influence is exaggerated, if a caller does not say; 0 for not at all.
        temperature: What the noise that a spectrum starts from is scaled by, if a caller does not say; as published, 1.
            With less, spectra are nearer to the likeliest, and plainer.
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
    voice: str = ""
    voices: tuple[str, ...] = ()
    steps: int = 10
    guidance: float = 0.7
    temperature: float = 1.0
    conformer: ConformerConfig = _CONFORMER
    unet: UNetConfig = _UNET
    vocoder: VocoderConfig = _VOCODER

    def __post_init__(self) -> None:
        configs.check_fields(self, "decoder")
        configs.check_positive(self, "decoder", signed=("mel_mean",))
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
