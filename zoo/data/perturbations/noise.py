"""Disturbances of speech: coloured noise, coarse amplitudes, recordings of noise.

They are what StableToken (arXiv 2509.22220, appendix B.3) is trained to ignore and is measured under. The paper names
the library `audiomentations`, and the conventions are those of its version 0.43.1, so that figures can be compared:

* A signal-to-noise ratio (SNR) is that of the RMS of the whole wave to the RMS of the whole noise; here it is exact,
  there it is that of the expected noise.
* Nothing is clipped afterwards: the sum may leave -1…1.
* Coloured noise is white noise through 128 taps, given by gains at the 65 frequencies of an FFT and random phases. On
  these frequencies (125 Hz apart at 16 kHz) the slope is exact, but the gain at 0 Hz is that of 1 Hz. So the taps of
  brown noise are a moving average for the most part: flat below some 60 Hz, where three quarters of its power are, and
  falling in lobes, by the same 6 dB an octave. Noise that is flat below 125 Hz without that peak would be far louder
  where speech is, and noise with the exact slope down to the inverse of its duration far softer.

Every transform takes a wave (samples,) and a generator and returns a new float32 wave (samples,). The generator decides
all that is random; without one it is torch's default CPU generator, which data loaders seed for each item.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import pad

from zoo.data.json_lines import read_json_lines
from zoo.data.manifest import Stretch
from zoo.errors import ConfigError, InputError, near_matches, shown

__all__ = [
    "EVALUATION_VALUES",
    "KINDS",
    "TRAINING_RANGES",
    "BitCrush",
    "ColourNoise",
    "NoiseBank",
    "Perturbation",
    "RandomPerturbation",
    "RealNoise",
    "perturbation",
]

TRAINING_RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"gaussian": (16, 30), "pink": (16, 24), "brown": (12, 24), "bit_crush": (8, 14), "real": (12, 24)}
)
"""Least and greatest intensity in training: bits of `bit_crush`, else SNR in dB (Table 9 of the paper)."""

EVALUATION_VALUES: Mapping[str, float] = MappingProxyType(
    {"gaussian": 25, "pink": 22, "brown": 16, "bit_crush": 10, "real": 16, "real_ood": 16}
)
"""Intensities in evaluation (Table 21). `real_ood` is `real` with noise of kinds that training has not heard."""

_SLOPES = {"gaussian": 0.0, "pink": -3.01, "brown": -6.02}
KINDS = (*_SLOPES, "bit_crush", "real")
"""What `perturbation` knows."""

_NUM_TAPS = 128
_BLOCK = 1024


class Perturbation:
    """Disturbs a wave; subclasses implement `apply`."""

    def __call__(self, wave: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the disturbed wave (samples,), float32. A wave of zeros stays as it is: it has no SNR.

        Args:
            wave: (samples,), floating point.
            generator: A CPU generator; torch's default one if None.

        Raises:
            InputError: The wave is empty, not finite, or not (samples,).
        """
        if wave.ndim != 1 or not wave.is_floating_point() or len(wave) == 0:
            raise InputError(
                f"a wave to disturb is (samples,), floating point and not empty; got {wave.dtype} {tuple(wave.shape)}."
            )
        wave = wave.detach().float()
        if not bool(wave.isfinite().all()):
            raise InputError("the wave to disturb holds NaN or infinity: repair or drop it.")
        return self.apply(wave, generator) if bool(wave.any()) else wave.clone()

    def apply(self, wave: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the disturbed wave; `wave` is float32, finite and not all zero."""
        raise NotImplementedError


@dataclass(frozen=True)
class ColourNoise(Perturbation):
    """Adds noise with a sloping spectrum.

    Args:
        snr: In dB.
        slope: Of the power in dB an octave: 0 is white, -3.01 pink, -6.02 brown.
    """

    snr: float
    slope: float = 0.0

    def __post_init__(self) -> None:
        check_finite(snr=self.snr, slope=self.slope)

    def apply(self, wave: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw noise and add it."""
        extra = _NUM_TAPS - 1 if self.slope else 0
        noise = torch.randn(len(wave) + extra, dtype=torch.float32, device="cpu", generator=generator)
        if self.slope:
            noise = _filter(noise, _draw_taps(self.slope, generator))
        return mix(wave, noise.to(wave.device), self.snr)


@dataclass(frozen=True)
class BitCrush(Perturbation):
    """Rounds amplitudes to multiples of 1 / q, where q = 2^(bits - 1) + 1.

    Args:
        bits: At least 1; may be fractional.
    """

    bits: float

    def __post_init__(self) -> None:
        check_finite(bits=self.bits)
        if not 1 <= self.bits <= 24:  # beyond, the steps are finer than those of float32
            raise ConfigError(f"bits must lie between 1 and 24, got {self.bits!r}.")

    def apply(self, wave: Tensor, generator: torch.Generator | None) -> Tensor:
        """Round; nothing is random."""
        steps = 2 ** (self.bits - 1) + 1
        return (wave * steps).round() / steps


class NoiseBank:
    """Recordings of noise, read when they are drawn from. Can be pickled for the workers of a loader.

    Args:
        clips: Files that libsndfile reads, mono, or stretches of them, or waves (samples,).
        sample_rate: What the files must have, in Hz.

    Raises:
        InputError: There are no clips, or a wave among them is unusable.
    """

    def __init__(self, clips: Sequence[str | Path | Stretch | Tensor], sample_rate: int = 16000) -> None:
        if len(clips) == 0:
            raise InputError("a noise bank needs at least one clip.")
        for number, clip in enumerate(clips):
            if isinstance(clip, Tensor) and (clip.ndim != 1 or not clip.is_floating_point() or len(clip) == 0):
                raise InputError(
                    f"clip {number} must be (samples,), floating point and not empty, got {clip.dtype} "
                    f"{tuple(clip.shape)}."
                )
        self.clips = tuple(
            clip.float() if isinstance(clip, Tensor) else clip if isinstance(clip, Stretch) else Stretch(Path(clip))
            for clip in clips
        )
        self.sample_rate = sample_rate

    @classmethod
    def from_manifest(cls, path: str | Path, sample_rate: int = 16000) -> NoiseBank:
        """Make a bank of the clips of a manifest.

        Args:
            path: JSON lines, each with an `audio_filepath` relative to the manifest, and perhaps `offset` and
                `duration`, which select a stretch of it.
            sample_rate: What the files must have, in Hz.

        Raises:
            InputError: It cannot be read, or has no clips.
        """
        path = Path(path)
        clips = [Stretch.of(values, where, path.parent) for where, values in read_json_lines(path)]
        if not clips:
            raise InputError(f"{path} lists no clips.")
        return cls(clips, sample_rate)

    def __len__(self) -> int:
        return len(self.clips)

    def draw(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Return a random clip (num_samples,): a random part of it, or repeated from a random place if it is too short.

        Where the part is silent, as many recordings are padded with zeros, it starts at the clip's first sound instead.

        Raises:
            InputError: The clip is missing, unreadable, of another rate or number of channels, not finite, or silent.
        """
        clip = self.clips[int(torch.randint(len(self.clips), (), device="cpu", generator=generator))]
        name = f"a wave of {len(clip)} samples" if isinstance(clip, Tensor) else str(clip.path)
        place = float(torch.rand((), generator=generator, dtype=torch.float64))
        if isinstance(clip, Tensor):
            noise = _part(clip, num_samples, place)
        else:
            noise = self._read(clip, num_samples, place)
        if not bool(noise.any()):
            clip = clip if isinstance(clip, Tensor) else self._read(clip, 0, 0.0)
            first = clip.nonzero()
            if len(first) == 0:
                raise InputError(f"the noise clip ({name}) is silent: take it out of the bank.")
            noise = _repeat(clip.roll(-int(first[0])), num_samples)
        if not bool(noise.isfinite().all()):
            raise InputError(f"the noise clip ({name}) holds NaN or infinity: take it out of the bank.")
        return noise

    def _read(self, clip: Stretch, num_samples: int, place: float) -> Tensor:
        """Return part of a file, or all of it if num_samples is 0. Only the part is read: a clip may be long."""
        import soundfile

        name = f"{clip.where}: {clip.path}" if clip.where else str(clip.path)
        try:
            with soundfile.SoundFile(clip.path) as file:
                if file.samplerate != self.sample_rate or file.channels != 1:
                    raise InputError(
                        f"{name} has {file.channels} channel(s) at {file.samplerate} Hz: noise must be mono at "
                        f"{self.sample_rate} Hz. Convert it first."
                    )
                try:
                    first, last = clip.samples(self.sample_rate, file.frames)
                except InputError as error:
                    raise InputError(f"{name}: {error}") from error
                is_part = 0 < num_samples < last - first
                if is_part:
                    first += _start(last - first, num_samples, place)
                if first:
                    file.seek(first)
                wanted = num_samples if is_part else last - first
                noise = torch.from_numpy(file.read(wanted, dtype="float32"))
        except (OSError, soundfile.SoundFileError) as error:
            raise InputError(f"cannot read the noise clip {name}: {error}") from error
        if len(noise) < max(1, wanted):
            raise InputError(f"the noise clip {name} is {'truncated: get it again' if len(noise) else 'empty'}.")
        return noise if is_part or not num_samples else _part(noise, num_samples, place)


@dataclass(frozen=True)
class RealNoise(Perturbation):
    """Adds a recording of noise.

    Args:
        snr: In dB.
        bank: Where recordings are drawn from.
    """

    snr: float
    bank: NoiseBank

    def __post_init__(self) -> None:
        check_finite(snr=self.snr)

    def apply(self, wave: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw a clip and a part of it, and add it."""
        return mix(wave, self.bank.draw(len(wave), generator).to(wave.device), self.snr)


def perturbation(kind: str, intensity: float, noise_bank: NoiseBank | None = None) -> Perturbation:
    """Return a perturbation by its name.

    Args:
        kind: One of `KINDS`.
        intensity: Bits of `bit_crush`, else SNR in dB.
        noise_bank: What `real` draws from.

    Raises:
        ConfigError: The kind is unknown, the intensity unusable, or `real` has no bank.

    Example:
        >>> perturbation("pink", 22)
        ColourNoise(snr=22, slope=-3.01)
    """
    if kind in _SLOPES:
        return ColourNoise(intensity, _SLOPES[kind])
    if kind == "bit_crush":
        return BitCrush(intensity)
    if kind != "real":
        raise ConfigError(f"there is no perturbation {shown(kind)}: {near_matches(str(kind), KINDS)}")
    if noise_bank is None:
        raise ConfigError("the perturbation 'real' needs recordings of noise: give a noise_bank.")
    return RealNoise(intensity, noise_bank)


class RandomPerturbation(Perturbation):
    """Draws a kind uniformly, then its intensity uniformly in a range, for each wave.

    Args:
        kinds: Among `KINDS`.
        ranges: Least and greatest intensity by kind; the paper's by default.
        noise_bank: What `real` draws from; None will do without `real`.

    Raises:
        ConfigError: There are no kinds, one is unknown, or its range is missing or unusable.
    """

    def __init__(
        self,
        kinds: Sequence[str] = KINDS,
        ranges: Mapping[str, tuple[float, float]] = TRAINING_RANGES,
        noise_bank: NoiseBank | None = None,
    ) -> None:
        if not kinds:
            raise ConfigError("random perturbation needs at least one kind.")
        for kind in kinds:
            if kind in KINDS and kind not in ranges:
                raise ConfigError(f"ranges says nothing of {kind!r}: give its least and greatest intensity.")
            low, high = ranges.get(kind, (0.0, 0.0))
            perturbation(kind, low, noise_bank)
            perturbation(kind, high, noise_bank)
            if low > high:
                raise ConfigError(f"the range of {kind!r} is upside down: {low} > {high}.")
        self.kinds = tuple(kinds)
        self.ranges = {kind: ranges[kind] for kind in kinds}  # a plain dictionary, which can be pickled
        self.noise_bank = noise_bank

    def draw(self, generator: torch.Generator | None = None) -> Perturbation:
        """Return the perturbation of one wave."""
        kind = self.kinds[int(torch.randint(len(self.kinds), (), device="cpu", generator=generator))]
        low, high = self.ranges[kind]
        share = float(torch.rand((), generator=generator, dtype=torch.float64))
        return perturbation(kind, low + (high - low) * share, self.noise_bank)

    def apply(self, wave: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw a perturbation and apply it."""
        return self.draw(generator).apply(wave, generator)


def check_finite(**values: float) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise ConfigError(f"{name} must be a finite number, got {value!r}.")


def mix(wave: Tensor, noise: Tensor, snr: float) -> Tensor:
    """Return the sum at an SNR in dB."""
    return wave + noise * (rms(wave) / rms(noise) * 10 ** (-snr / 20))


def rms(wave: Tensor) -> float:
    return math.sqrt(float(wave.double().square().mean()))


def _draw_taps(slope: float, generator: torch.Generator | None) -> Tensor:
    """Return the taps (128,) of a filter with a slope in dB an octave, at random phases."""
    frequencies = torch.arange(_NUM_TAPS // 2 + 1, dtype=torch.float32)  # in steps of 1/128 of the sample rate
    frequencies[0] = _NUM_TAPS / 16000  # 1 Hz at 16 kHz
    gains = frequencies ** (slope / (20 * math.log10(2)))
    phases = 2 * math.pi * torch.rand(len(gains), dtype=torch.float32, device="cpu", generator=generator)
    spectrum = torch.polar(gains, phases)
    # Taps are real, so that of these two the phase is a factor. Not every FFT ignores an imaginary part there.
    spectrum.imag[0], spectrum.imag[-1] = 0.0, 0.0
    taps: Tensor = torch.fft.irfft(spectrum)
    return taps


def _filter(signal: Tensor, taps: Tensor) -> Tensor:
    """Return the convolution of signal (n + 127,) with taps (128,) where they overlap in full, (n,)."""
    # By blocks: a transform of the whole takes ten times as long, and far longer at unlucky lengths.
    extra = len(taps) - 1
    step, wanted = _BLOCK - extra, len(signal) - extra
    blocks = pad(signal, (0, -wanted % step)).unfold(0, _BLOCK, step)
    filtered: Tensor = torch.fft.irfft(torch.fft.rfft(blocks) * torch.fft.rfft(taps, _BLOCK), _BLOCK)
    return filtered[:, extra:].flatten()[:wanted]


def _start(available: int, wanted: int, place: float) -> int:
    return int(place * (available - wanted + 1))


def _part(clip: Tensor, num_samples: int, place: float) -> Tensor:
    if len(clip) >= num_samples:
        start = _start(len(clip), num_samples, place)
        return clip[start : start + num_samples]
    return _repeat(clip.roll(-int(place * len(clip))), num_samples)


def _repeat(clip: Tensor, num_samples: int) -> Tensor:
    return clip.repeat(-(-num_samples // len(clip)))[:num_samples]
