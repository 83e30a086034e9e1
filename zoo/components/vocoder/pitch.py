"""The fundamental frequency of recorded speech, which the vocoder learns to predict: YIN.

De Cheveigné and Kawahara, "YIN, a fundamental frequency estimator for speech and music", JASA 111 (4), 2002.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["fundamental_frequency"]

_WINDOW = 1024
_QUIET = 1e-3
"""Frames whose root mean square is below this, 60 dB under full scale, have no voice."""


def fundamental_frequency(
    wave: Tensor, sample_rate: int, hop_length: int, *, lowest: float = 60.0, highest: float = 500.0, most: float = 0.2
) -> Tensor:
    """Return the fundamental frequency of waves (B, samples) in Hz, (B, samples // hop_length), 0 where unvoiced.

    Frames lie in the middle of their `hop_length` samples, as those of `MelSpectrum`.

    Args:
        wave: -1 to 1.
        sample_rate: Hz.
        hop_length: Samples from one frame to the next.
        lowest: Hz, of the voices that are looked for.
        highest: Hz.
        most: Aperiodicity, from 0 of a pure period to about 1 of noise, from which on a frame is unvoiced; the
            threshold of step 4, higher than the paper's 0.1 since frames of real speech change.
    """
    longest, shortest = math.ceil(sample_rate / lowest), max(2, int(sample_rate / highest))
    length = _WINDOW + longest
    before = (length - hop_length) // 2
    frames = wave.shape[1] // hop_length
    padded = F.pad(wave.float(), (before, length - before))
    cut = padded.unfold(1, length, hop_length)[:, :frames]
    difference = _difference(cut, longest)
    lags = torch.arange(1, longest + 1, device=wave.device)
    # Step 3: relative to the mean over all shorter lags, so that lag 0 does not win.
    mean = difference[..., 1:].cumsum(-1) / lags
    relative = F.pad(difference[..., 1:] / mean.clamp(min=1e-12), (1, 0), value=1.0)
    searched = relative[..., shortest:longest]
    low = searched < most
    # Step 4: the first dip below the threshold, at its bottom, rather than the deepest of all, which may be twice as
    # long as the period.
    falls = F.pad(searched[..., 1:] < searched[..., :-1], (0, 1), value=False)
    bottom = (low & ~falls).float().argmax(-1) + shortest
    voiced = low.any(-1) & (cut.square().mean(-1).sqrt() > _QUIET)
    return torch.where(voiced, sample_rate / _refined(relative, bottom), 0.0)


def _difference(cut: Tensor, longest: int) -> Tensor:
    """Return Σ (x_j - x_{j+τ})² over the window for lags τ = 0 … longest, (..., 1 + longest): equation 6."""
    length = cut.shape[-1]
    size = 1 << (length + _WINDOW - 1).bit_length()
    product = torch.fft.rfft(cut, size) * torch.fft.rfft(cut[..., :_WINDOW], size).conj()
    correlation = torch.fft.irfft(product, size)[..., : longest + 1]
    energy = F.pad(cut.double().square().cumsum(-1), (1, 0))
    energies = (energy[..., _WINDOW : _WINDOW + longest + 1] - energy[..., : longest + 1]).float()
    difference: Tensor = energies[..., :1] + energies - 2 * correlation
    return difference.clamp(min=0)


def _refined(values: Tensor, index: Tensor) -> Tensor:
    """Return where the parabola through a minimum and its neighbours is lowest: step 5."""
    before, at, after = (values.gather(-1, (index + step)[..., None])[..., 0] for step in (-1, 0, 1))
    bend = before - 2 * at + after
    shift = 0.5 * (before - after) / torch.where(bend > 1e-12, bend, 1.0)
    return index + shift.clamp(-0.5, 0.5)
