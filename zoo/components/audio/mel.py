"""Mel bands of sound: the filters, spectra in them, and the way back. Everything that speaks of mel takes it from here.

The scale is Slaney's (Auditory Toolbox, 1998), as Whisper, HiFi-GAN and librosa have it. Filters are computed in
float64, whatever torch's default dtype is, so that they are the same on every machine.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ConfigError

__all__ = ["MelSpectrum", "griffin_lim", "mel_filters", "mel_magnitudes"]

_N_FFT = 1024
_HIGHEST = 8000.0
_FLOOR = 1e-5

# Linear up to 1 kHz, 15 mel; then a factor of 6.4 every 27 mel.
_LINEAR = 200 / 3
_KNEE, _KNEE_MEL = 1000.0, 15.0
_STEP = np.log(6.4) / 27


def mel_filters(
    num_mel: int, n_fft: int, sample_rate: int, *, highest: float | None = None, equal_area: bool = True
) -> Tensor:
    """Return triangular filters from 0 Hz up, (M, 1 + n_fft / 2) float64 on the CPU.

    Args:
        num_mel: Bands, M.
        n_fft: Samples in a window.
        sample_rate: Hz.
        highest: Hz where the last band ends; half the rate if None.
        equal_area: Whether all bands have the area 1, in Hz, instead of the height 1.
    """
    return torch.from_numpy(_table(num_mel, n_fft, sample_rate, highest, equal_area).copy())


def mel_magnitudes(
    wave: Tensor,
    sample_rate: int,
    *,
    num_mel: int,
    n_fft: int,
    hop_length: int,
    highest: float | None = None,
    equal_area: bool = True,
    power: int = 1,
    is_centred: bool = False,
) -> Tensor:
    """Return magnitudes of mel bands in Hann windows of a wave (samples,), (M, frames) float32.

    Args:
        wave: (samples,) on the CPU.
        sample_rate: Hz.
        num_mel: As of `mel_filters`, as are `n_fft`, `highest` and `equal_area`.
        n_fft: Samples in a window.
        hop_length: Samples from one to the next.
        highest: See `mel_filters`.
        equal_area: See `mel_filters`.
        power: Of the magnitudes that bands sum: 1, or 2 for energies.
        is_centred: Whether windows are centred on multiples of the hop, the wave mirrored at its ends, instead of
            starting there.
    """
    spectrum = _spectrum(wave, n_fft, hop_length, is_centred).abs() ** power
    filters = mel_filters(num_mel, n_fft, sample_rate, highest=highest, equal_area=equal_area)
    return filters.to(spectrum.dtype) @ spectrum


def griffin_lim(wave: Tensor, sample_rate: int) -> Tensor:
    """Make a wave of a recording's 80 mel bands without any network: what a vocoder has to beat.

    The pseudo-inverse spreads the bands' magnitudes over frequencies, iteration finds their phases (Griffin and Lim
    1984), starting from zero, so that nothing is random.

    Args:
        wave: (samples,).
        sample_rate: Hz.

    Returns:
        (samples,).
    """
    from torchaudio.functional import griffinlim

    size, hop = round(0.064 * sample_rate), round(0.016 * sample_rate)
    padded = F.pad(wave, (0, max(0, size - len(wave))))
    bands = mel_filters(80, size, sample_rate, highest=min(_HIGHEST, sample_rate / 2)).to(wave.dtype)
    heard = bands @ _spectrum(padded, size, hop, is_centred=True).abs()
    magnitudes = (torch.linalg.pinv(bands) @ heard).clamp(min=0)
    made: Tensor = griffinlim(
        magnitudes,
        torch.hann_window(size, dtype=torch.float32, device="cpu"),
        size,
        hop,
        size,
        power=1.0,
        n_iter=32,
        momentum=0.99,
        length=len(padded),
        rand_init=False,
    )
    return made[: len(wave)]


class MelSpectrum(nn.Module):
    """Waves (B, samples) → natural logarithms of mel magnitudes (B, M, samples // hop), 0 to 8000 Hz.

    Those that stand between tokens and waves (HiFi-GAN's: Kong et al., arXiv 2010.05646). Frames lie in the middle of
    their samples, so that they end where the samples do; the ends are mirrored.

    Args:
        num_mel: Bands, M.
        sample_rate: Hz of the waves.
        hop_length: Samples in a frame.

    Raises:
        ConfigError: Its frames are longer than the window, or its waves do not reach the highest band.
    """

    bands: Tensor
    window: Tensor

    def __init__(self, num_mel: int, sample_rate: int, hop_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length
        if self.hop_length > _N_FFT or (_N_FFT - self.hop_length) % 2:
            raise ConfigError(f"a mel frame must have an even number of samples, at most {_N_FFT}: {self.hop_length}.")
        if sample_rate < 2 * _HIGHEST:
            raise ConfigError(f"mel spectra to {_HIGHEST:g} Hz need waves at {2 * _HIGHEST:g} Hz or more.")
        window = torch.hann_window(_N_FFT, dtype=torch.float32)
        bands = mel_filters(num_mel, _N_FFT, sample_rate, highest=_HIGHEST).float()
        self.register_buffer("bands", bands.to(window.device), persistent=False)
        self.register_buffer("window", window, persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Compute the spectra of waves of at least 385 samples."""
        margin = (_N_FFT - self.hop_length) // 2
        wave = F.pad(wave.float()[:, None], (margin, margin), mode="reflect")[:, 0]
        spectrum = torch.stft(wave, _N_FFT, self.hop_length, window=self.window, center=False, return_complex=True)
        # Not abs(), whose gradient at zero is not a number.
        magnitudes = torch.view_as_real(spectrum).square().sum(-1).add(1e-9).sqrt()
        return (self.bands @ magnitudes).clamp(min=_FLOOR).log()


@lru_cache(16)
def _table(num_mel: int, n_fft: int, sample_rate: int, highest: float | None, equal_area: bool) -> np.ndarray:
    bins = np.linspace(0, sample_rate // 2, 1 + n_fft // 2)
    corners = _hertz(np.linspace(0, _mel(sample_rate / 2 if highest is None else highest), num_mel + 2))
    widths = np.diff(corners)
    slopes = corners[:, None] - bins
    rising = -slopes[:-2] / widths[:-1, None]
    falling = slopes[2:] / widths[1:, None]
    filters: np.ndarray = np.maximum(0, np.minimum(rising, falling))
    if equal_area:
        filters = filters * (2 / (corners[2:] - corners[:-2]))[:, None]
    return filters


def _spectrum(wave: Tensor, n_fft: int, hop_length: int, is_centred: bool) -> Tensor:
    window = torch.hann_window(n_fft, dtype=wave.dtype, device=wave.device)
    return torch.stft(wave, n_fft, hop_length, window=window, center=is_centred, return_complex=True)


def _mel(hertz: float) -> float:
    return hertz / _LINEAR if hertz < _KNEE else _KNEE_MEL + float(np.log(hertz / _KNEE)) / _STEP


def _hertz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < _KNEE_MEL, mel * _LINEAR, _KNEE * np.exp(_STEP * (mel - _KNEE_MEL)))
