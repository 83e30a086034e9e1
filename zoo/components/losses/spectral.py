"""How far the spectra of two waves are apart, at several resolutions at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ConfigError

__all__ = ["MultiResolutionSTFT"]

_FLOOR = 1e-5
"""Magnitudes below this, a hundred decibels under full scale, are as good as silence."""


class MultiResolutionSTFT(nn.Module):
    """Multi-resolution STFT loss (Yamamoto et al., arXiv 1910.11480, equations 3 to 6).

    At each resolution, spectral convergence, ‖|X| - |X̂|‖ / ‖|X|‖, which the loud parts decide, and the mean difference
    of the logarithms, which the quiet ones do; the mean over the resolutions. Phases do not count, so that it does not
    matter where in its period a voice starts.

    Args:
        sizes: Samples in a frame of each resolution; a quarter of it is the hop.

    Raises:
        ConfigError: A size is not a multiple of 4.
    """

    def __init__(self, sizes: Sequence[int] = (512, 1024, 2048)) -> None:
        super().__init__()
        if not sizes or any(size < 4 or size % 4 for size in sizes):
            raise ConfigError(f"sizes of spectra must be multiples of 4, at least one, got {tuple(sizes)}.")
        self.sizes = tuple(sizes)
        for size in self.sizes:
            self.register_buffer(f"window_{size}", torch.hann_window(size, dtype=torch.float32), persistent=False)

    def forward(self, wave: Tensor, target: Tensor) -> Tensor:
        """Compare waves (B, samples), of more than half of the largest size, with what they should be."""
        total = wave.new_zeros(())
        for size in self.sizes:
            found, wanted = self._magnitudes(wave, size), self._magnitudes(target, size)
            convergence = torch.linalg.vector_norm(wanted - found) / torch.linalg.vector_norm(wanted).clamp(min=_FLOOR)
            total = total + convergence + F.l1_loss(found.log(), wanted.log())
        return total / len(self.sizes)

    def _magnitudes(self, wave: Tensor, size: int) -> Tensor:
        window = self.get_buffer(f"window_{size}")
        spectrum = torch.stft(wave.float(), size, size // 4, window=window, return_complex=True)
        # Not abs(), whose gradient at zero is not a number.
        power = torch.view_as_real(spectrum).square().sum(-1)
        return power.clamp(min=_FLOOR**2).sqrt()
