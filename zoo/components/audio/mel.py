"""The mel spectra that stand between tokens and waves (HiFi-GAN's: Kong et al., arXiv 2010.05646)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from zoo.errors import ConfigError
from zoo.fresh import fresh

__all__ = ["MelSpectrum"]

_N_FFT = 1024
_HIGHEST = 8000.0
_FLOOR = 1e-5


class MelSpectrum(nn.Module):
    """Waves (B, samples) → natural logarithms of mel magnitudes (B, M, samples // hop), 0 to 8000 Hz.

    Frames lie in the middle of their samples, so that they end where the samples do; the ends are mirrored.

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
        bins = _N_FFT // 2 + 1
        window = torch.hann_window(_N_FFT, dtype=torch.float32)
        with fresh():
            bands = melscale_fbanks(bins, 0.0, _HIGHEST, num_mel, sample_rate, "slaney", "slaney")
        self.register_buffer("bands", bands.T.contiguous().to(window.device), persistent=False)
        self.register_buffer("window", window, persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Compute the spectra of waves of at least 385 samples."""
        margin = (_N_FFT - self.hop_length) // 2
        wave = F.pad(wave.float()[:, None], (margin, margin), mode="reflect")[:, 0]
        spectrum = torch.stft(wave, _N_FFT, self.hop_length, window=self.window, center=False, return_complex=True)
        magnitudes = torch.view_as_real(spectrum).square().sum(-1).add(1e-9).sqrt()
        return (self.bands @ magnitudes).clamp(min=_FLOOR).log()
