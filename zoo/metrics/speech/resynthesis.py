"""How far decoded speech is from the recording: distances of mel spectra.

Both distances compare spectra frame by frame, without aligning them: a decoder of tokens keeps the recording's timing.
They know nothing of what matters to a listener: another voice that says the same is far away. So read them beside the
same distances of a reference, such as the recording through the vocoder alone.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from zoo.components.audio.mel import mel_magnitudes
from zoo.errors import InputError, shown

__all__ = [
    "log_mel_distance",
    "log_mel_spectrum",
    "mel_cepstral_distortion",
]

_WINDOW, _HOP = 0.064, 0.016  # seconds: 1024 samples every 256 at 16 kHz, as vocoders have them
_NUM_MEL = 80
_HIGHEST = 8000.0  # Hz, or half the sample rate if that is lower
_RANGE = 80.0  # dB
_NUM_CEPSTRA = 13


def log_mel_spectrum(wave: Tensor, sample_rate: int) -> Tensor:
    """Return magnitudes of 80 mel bands (Slaney's, 0 to 8 kHz) in dB, (80, frames), of 64 ms every 16 ms.

    Args:
        wave: (samples,) in -1…1, at least one.
        sample_rate: Hz.

    Raises:
        InputError: The wave has another rank, no samples, or values that are not finite; or there is no such rate.
    """
    _check(wave, sample_rate)
    size, hop = round(_WINDOW * sample_rate), round(_HOP * sample_rate)
    wave = wave.detach().to("cpu", torch.float32)
    # Zeros, not the mirrored sound: short clips have nothing to mirror.
    wave = pad(wave, (size // 2, size - size // 2 + (hop - len(wave) % hop) % hop))
    highest = min(_HIGHEST, sample_rate / 2)
    bands = mel_magnitudes(wave, sample_rate, num_mel=_NUM_MEL, n_fft=size, hop_length=hop, highest=highest)
    return 20 * bands.clamp(min=1e-10).log10()


def log_mel_distance(decoded: Tensor, recording: Tensor, sample_rate: int) -> float:
    """Return the mean absolute difference of two log-mel spectra in dB, over all frames and bands.

    Everything softer than 80 dB below the recording's loudest band counts as that soft, so that digital silence is not
    infinitely far from a quiet room. Level counts: half the amplitude is 6 dB away.

    Args:
        decoded: (samples,).
        recording: (samples,), as many.
        sample_rate: Hz.

    Raises:
        InputError: See `log_mel_spectrum`; or the waves differ in length.

    Example:
        >>> tone = torch.sin(torch.arange(16000) * 0.1)
        >>> log_mel_distance(tone, tone, 16000)
        0.0
    """
    ours, theirs = _both(decoded, recording, sample_rate)
    return float((ours - theirs).abs().mean())


def mel_cepstral_distortion(decoded: Tensor, recording: Tensor, sample_rate: int) -> float:
    """Return how far the shapes of two spectra are apart in dB (MCD): 10 √2 / ln 10 · mean over frames of ‖Δc‖.

    c are mel cepstra 1 to 13: the cosine transform (2 / M) Σ_k ln S_k cos(π m (k + ½) / M) of the M = 80 natural log
    magnitudes S. With this factor it is the RMS difference in dB of spectra smoothed to 13 cosines. Cepstrum 0, the
    level, is left out, so that louder speech is not farther away. Soft bands as in `log_mel_distance`. Source: Kubichek
    1993, without its cepstra of linear prediction; figures of other implementations are not comparable.

    Args:
        decoded: (samples,).
        recording: (samples,), as many.
        sample_rate: Hz.

    Raises:
        InputError: As `log_mel_distance`.
    """
    ours, theirs = _both(decoded, recording, sample_rate)
    difference = _cosines() @ (ours - theirs) * (math.log(10) / 20)
    return float(10 * math.sqrt(2) / math.log(10) * difference.norm(dim=0).mean())


def check_pair(decoded: Tensor, recording: Tensor, sample_rate: int) -> None:
    """Refuse what is not two clips of one length."""
    for wave in (decoded, recording):
        _check(wave, sample_rate)
    if len(decoded) != len(recording):
        raise InputError(
            f"a clip is compared with its recording sample by sample, got {len(decoded)} and {len(recording)} samples."
        )


def _check(wave: Tensor, sample_rate: int) -> None:
    if wave.ndim != 1 or len(wave) == 0 or not wave.is_floating_point():
        raise InputError(
            f"a clip is a wave of floating-point samples (samples,), not empty, got {wave.dtype} {tuple(wave.shape)}."
        )
    if not bool(wave.isfinite().all()):
        raise InputError("a clip must have finite samples only, got NaN or infinity.")
    if type(sample_rate) is not int or sample_rate < 1000:
        raise InputError(f"sample_rate must be a whole number of Hz, at least 1000, got {shown(sample_rate)}.")


def _both(decoded: Tensor, recording: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Return the spectra of both, soft bands raised to the floor."""
    check_pair(decoded, recording, sample_rate)
    ours, theirs = log_mel_spectrum(decoded, sample_rate), log_mel_spectrum(recording, sample_rate)
    floor = float(theirs.max()) - _RANGE
    return ours.clamp(min=floor), theirs.clamp(min=floor)


@lru_cache(1)
def _cosines() -> Tensor:
    """Return the cosine transform to the cepstra, (13, 80)."""
    # Kept for all callers, whatever their defaults.
    bands = torch.arange(_NUM_MEL, dtype=torch.float32, device="cpu")
    numbers = torch.arange(1, _NUM_CEPSTRA + 1, dtype=torch.float32, device="cpu")
    places = (bands + 0.5) * (math.pi / _NUM_MEL)
    return 2 / _NUM_MEL * torch.cos(numbers[:, None] * places)
