"""Disturbances of speech that recordings suffer: pitch, speed, rooms, narrow bands, voices in the background.

STAB-style perturbations: specification of STAB (arXiv 2409.02384), section 4. The paper names a slight change of pitch,
playback speed and background noise, without strengths that could be read; rooms, coarse amplitudes and narrow bands are
extensions. Noise and amplitudes are in `zoo.data.perturbations.noise`; `acoustic_perturbation` knows all by name.

Every transform is a `Perturbation`: it takes a wave (samples,) and a generator and returns a new float32 wave. At
strength zero (0 semitones, rate 1, no reverberation, the whole band) it returns the samples it was given, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import pad

from zoo.data.audio import change_rate
from zoo.data.perturbations.noise import KINDS, NoiseBank, Perturbation, check_finite, mix, perturbation, rms
from zoo.errors import ConfigError, near_matches, shown

__all__ = [
    "ACOUSTIC_KINDS",
    "GRID",
    "Babble",
    "BandLimit",
    "PitchShift",
    "Reverb",
    "Speed",
    "Tempo",
    "acoustic_perturbation",
]

_SNRS = (30.0, 20.0, 10.0, 5.0, 0.0)

GRID: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "pitch": (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0),
        "speed": (0.8, 0.9, 1.1, 1.25),
        "tempo": (0.8, 0.9, 1.1, 1.25),
        "gaussian": _SNRS,
        "pink": _SNRS,
        "real": _SNRS,
        "babble": _SNRS,
        "reverb": (0.3,),
        "bit_crush": (8.0,),
        "band": (3400.0,),
    }
)
"""Strengths by kind (section 4): semitones, rates, SNR in dB, seconds of reverberation, bits, upper end in Hz."""

ACOUSTIC_KINDS = tuple(dict.fromkeys((*GRID, *KINDS)))
"""What `acoustic_perturbation` knows."""

_FFT = 1024  # 64 ms at 16 kHz: harmonics of a low voice are apart
_HOP = 128
# Rates are taken as fractions, since resampling by p / q needs a table of p times q; the error is below 0.05 cent.
_LARGEST_DENOMINATOR = 200
_BAND_TAPS = 511
_BABBLE_VOICES = 6
_LOW_BAND = 300.0


@dataclass(frozen=True)
class PitchShift(Perturbation):
    """Moves the pitch and keeps duration and loudness (RMS), by a phase vocoder and resampling.

    Args:
        semitones: Up if above 0; at most two octaves either way.
    """

    semitones: float

    def __post_init__(self) -> None:
        check_finite(semitones=self.semitones)
        if abs(self.semitones) > 24:
            raise ConfigError(f"semitones must lie in -24..24, got {self.semitones!r}.")

    def apply(self, wave: Tensor, generator: torch.Generator | None) -> Tensor:
        """Stretch and resample; nothing is random."""
        rate = _fraction(2 ** (self.semitones / 12))
        if rate == 1:
            return wave.clone()
        shifted = _fit(_resample(_stretch(wave, 1 / rate), rate), len(wave))
        return shifted * (rms(wave) / max(rms(shifted), 1e-12))


class _Playback(Perturbation):
    """Changes the duration; subclasses say how."""

    rate: float

    def __post_init__(self) -> None:
        check_finite(rate=self.rate)
        if not 0.25 <= self.rate <= 4:
            raise ConfigError(f"rate must lie in 0.25..4, got {self.rate!r}.")

    def __call__(self, wave: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the disturbed wave (round(samples / rate),), float32. One of zeros is shorter or longer, too."""
        return _fit(super().__call__(wave, generator), max(1, round(len(wave) / self.rate)))

    def apply(self, wave: Tensor, generator: torch.Generator | None) -> Tensor:
        """Change the duration; nothing is random."""
        rate = _fraction(self.rate)
        return wave.clone() if rate == 1 else self._play(wave, rate)

    def _play(self, wave: Tensor, rate: Fraction) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class Speed(_Playback):
    """Plays faster, so that the pitch rises, as a tape does.

    Args:
        rate: 2 is twice as fast; in 0.25..4.
    """

    rate: float

    def _play(self, wave: Tensor, rate: Fraction) -> Tensor:
        return _resample(wave, rate)


@dataclass(frozen=True)
class Tempo(_Playback):
    """Plays faster and keeps the pitch, by a phase vocoder.

    Args:
        rate: 2 is twice as fast; in 0.25..4.
    """

    rate: float

    def _play(self, wave: Tensor, rate: Fraction) -> Tensor:
        return _stretch(wave, rate)


@dataclass(frozen=True)
class Reverb(Perturbation):
    """Plays in a room: adds echoes that die away, drawn anew for each wave, and keeps the loudness (RMS).

    The room's answer is the sound itself and white noise that decays by 60 dB in the given time (Moorer 1979).

    Args:
        seconds: Until echoes are 60 dB softer; 0.3 is a small room, 0 none.
        sample_rate: Hz.
        direct: Energy of the sound itself over that of the echoes, in dB.
    """

    seconds: float
    sample_rate: int = 16000
    direct: float = 0.0

    def __post_init__(self) -> None:
        check_finite(seconds=self.seconds, direct=self.direct)
        if not 0 <= self.seconds <= 10 or self.sample_rate < 1:
            raise ConfigError(
                f"seconds must lie in 0..10 and sample_rate be above 0, got {self.seconds!r}, {self.sample_rate!r}."
            )

    def apply(self, wave: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw a room and convolve; the tail past the wave's end is cut."""
        count = round(self.seconds * self.sample_rate)
        if count == 0:
            return wave.clone()
        decay = torch.arange(count, dtype=torch.float32, device="cpu") * (-3 * math.log(10) / count)
        echoes = torch.randn(count, dtype=torch.float32, device="cpu", generator=generator) * decay.exp()
        echoes *= 10 ** (-self.direct / 20) / max(float(echoes.square().sum().sqrt()), 1e-12)
        answer = pad(echoes, (1, 0))
        answer[0] = 1.0
        wet = _convolve(wave, answer.to(wave.device))[: len(wave)]
        return wet * (rms(wave) / max(rms(wet), 1e-12))


@dataclass(frozen=True)
class BandLimit(Perturbation):
    """Keeps a band, as a telephone does, without delay, by a windowed sinc of 511 taps.

    Args:
        low: Hz; 0 keeps all below `high`.
        high: Hz; half the sample rate or more keeps all above `low`.
        sample_rate: Hz.
    """

    low: float = _LOW_BAND
    high: float = 3400.0
    sample_rate: int = 16000

    def __post_init__(self) -> None:
        check_finite(low=self.low, high=self.high)
        if not 0 <= self.low < self.high or self.sample_rate < 1:
            raise ConfigError(
                f"low must lie in 0..high and sample_rate be above 0, got {self.low!r}, {self.high!r} and "
                f"{self.sample_rate!r}."
            )

    def apply(self, wave: Tensor, generator: torch.Generator | None) -> Tensor:
        """Filter; nothing is random."""
        taps = self._taps(self.high) - self._taps(self.low)
        if torch.equal(taps, self._taps(self.sample_rate / 2)):
            return wave.clone()
        start = _BAND_TAPS // 2
        return _convolve(wave, taps.to(wave.device))[start : start + len(wave)]

    def _taps(self, cutoff: float) -> Tensor:
        """Return the taps of a low pass; a single one in the middle if it passes all."""
        place = torch.arange(_BAND_TAPS, dtype=torch.float64) - _BAND_TAPS // 2
        share = min(1.0, 2 * cutoff / self.sample_rate)
        taps = share * torch.sinc(share * place) * torch.hann_window(_BAND_TAPS + 2, False, dtype=torch.float64)[1:-1]
        return (place == 0).float() if share == 1 else taps.float()


@dataclass(frozen=True)
class Babble(Perturbation):
    """Adds several voices at once.

    Args:
        snr: In dB, of the whole wave to the sum of voices.
        bank: Recordings of speech, of which each voice is a random part.
        num_voices: How many; all are equally loud.
    """

    snr: float
    bank: NoiseBank
    num_voices: int = _BABBLE_VOICES

    def __post_init__(self) -> None:
        check_finite(snr=self.snr)
        if self.num_voices < 1:
            raise ConfigError(f"num_voices must be at least 1, got {self.num_voices!r}.")

    def apply(self, wave: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw voices and add them."""
        voices = [self.bank.draw(len(wave), generator) for _ in range(self.num_voices)]
        babble = torch.stack([voice / rms(voice) for voice in voices]).sum(0)
        if not bool(babble.any()):
            babble = voices[0]  # those of a sample or two can cancel
        return mix(wave, babble.to(wave.device), self.snr)


def acoustic_perturbation(
    kind: str, strength: float, sample_rate: int = 16000, noise_bank: NoiseBank | None = None
) -> Perturbation:
    """Return a perturbation by its name.

    Args:
        kind: One of `ACOUSTIC_KINDS`.
        strength: As in `GRID`.
        sample_rate: Of the waves, in Hz.
        noise_bank: What `real` and `babble` draw from.

    Raises:
        ConfigError: The kind is unknown, the strength unusable, or a bank is missing.

    Example:
        >>> acoustic_perturbation("pitch", -0.5)
        PitchShift(semitones=-0.5)
    """
    if kind == "pitch":
        return PitchShift(strength)
    if kind == "speed":
        return Speed(strength)
    if kind == "tempo":
        return Tempo(strength)
    if kind == "reverb":
        return Reverb(strength, sample_rate)
    if kind == "band":
        return BandLimit(min(_LOW_BAND, strength / 2), strength, sample_rate)
    if kind == "babble":
        if noise_bank is None:
            raise ConfigError("the perturbation 'babble' needs recordings of speech: give a noise_bank.")
        return Babble(strength, noise_bank)
    if kind not in KINDS:
        raise ConfigError(f"there is no perturbation {shown(kind)}: {near_matches(str(kind), ACOUSTIC_KINDS)}")
    return perturbation(kind, strength, noise_bank)


def _fraction(value: float) -> Fraction:
    return Fraction(value).limit_denominator(_LARGEST_DENOMINATOR)


def _fit(wave: Tensor, num_samples: int) -> Tensor:
    return pad(wave, (0, num_samples - len(wave)))


def _resample(wave: Tensor, rate: Fraction) -> Tensor:
    """Return a wave that is `rate` times as fast, (ceil(samples / rate),)."""
    return change_rate(wave, rate.numerator, rate.denominator)


def _stretch(wave: Tensor, rate: Fraction) -> Tensor:
    """Return a wave that is `rate` times as fast at its own pitch, (round(samples / rate),)."""
    from torchaudio.functional import phase_vocoder

    wanted = round(len(wave) / rate)
    window = torch.hann_window(_FFT, dtype=wave.dtype, device=wave.device)
    padded = pad(wave, (0, max(0, _FFT - len(wave))))
    spectrum = torch.stft(padded, _FFT, _HOP, window=window, return_complex=True, pad_mode="constant")
    advance = torch.linspace(0, math.pi * _HOP, spectrum.shape[0], dtype=wave.dtype, device=wave.device)[:, None]
    stretched = phase_vocoder(spectrum, float(rate), advance)
    return _fit(torch.istft(stretched, _FFT, _HOP, window=window), wanted)


def _convolve(wave: Tensor, taps: Tensor) -> Tensor:
    from torchaudio.functional import fftconvolve

    convolved: Tensor = fftconvolve(wave, taps)
    return convolved
