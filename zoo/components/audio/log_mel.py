"""Log-mel spectra as Whisper computes them (Radford et al., arXiv 2212.04356, section 2.2)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.components.audio.mel import mel_filters
from zoo.components.exact.precision import KeepsPrecision

__all__ = ["LogMel"]

_FLOOR = 1e-10
_RANGE = 8.0  # decades under the loudest value of the item


class LogMel(KeepsPrecision):
    """Waves → log-mel spectra (B, M, F) at one frame per hop.

    The power spectrum of Hann windows, centred on multiples of the hop and mirrored at both ends, in mel bands; its
    log10, at most 8 below the item's own largest value; then (x + 4) / 4. An item ends at the next whole token after
    its last sample, filled with silence, which is where it would end alone.

    Args:
        num_mel: Bands, M.
        n_fft: Samples in a window.
        hop_length: Samples from one frame to the next.
        sample_rate: Hz of the waves.
        token_samples: Samples in a token, a multiple of the hop.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, *, num_mel: int, n_fft: int, hop_length: int, sample_rate: int, token_samples: int) -> None:
        super().__init__()
        self.n_fft, self.hop_length, self.token_samples = n_fft, hop_length, token_samples
        # In float64, so that the tables are the same on every machine.
        angles = 2 * np.pi * np.arange(n_fft) / n_fft
        window = torch.from_numpy(0.5 - 0.5 * np.cos(angles))
        for name, table in (("window", window), ("filters", mel_filters(num_mel, n_fft, sample_rate))):
            # `as_tensor` on NumPy's, unlike `from_numpy`, puts it where the caller makes tensors.
            self.register_buffer(name, torch.as_tensor(table.float().numpy()), persistent=False)

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the spectra of a batch, each computed alone.

        Args:
            waves: (B, samples).
            lengths: (B,) samples of each item, at least 1.

        Returns:
            (B, M, F), 0 past the end of each item; and the frames of each that begin within its samples, (B,) int64.
        """
        spectra = [self.alone(wave[:length]) for wave, length in zip(waves, lengths.tolist(), strict=True)]
        longest = max(spectrum.shape[2] for spectrum in spectra)
        batch = torch.cat([F.pad(spectrum, (0, longest - spectrum.shape[2])) for spectrum in spectra])
        return batch, self.num_frames(lengths)

    def alone(self, wave: Tensor) -> Tensor:
        """Return the spectrum of one wave (samples,) as (1, M, F): F frames make whole tokens."""
        length = -(-len(wave) // self.token_samples) * self.token_samples
        # Memory of its own: kernels may round differently where a row of a batch happens to begin.
        padded = wave.new_zeros(length)
        padded[: len(wave)] = wave
        spectrum = torch.stft(
            padded,
            self.n_fft,
            self.hop_length,
            window=self.window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        power = spectrum[:, :-1].abs() ** 2
        decades = (self.filters @ power).clamp(min=_FLOOR).log10()
        decades = torch.maximum(decades, decades.max() - _RANGE)
        return ((decades + 4.0) / 4.0).unsqueeze(0)

    def together(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Return the spectra of a padded batch, computed at once; they agree with those of `alone` to rounding errors.

        Args:
            waves: (B, samples) float32, whole tokens, 0 past the end of each item.
            lengths: (B,) samples of each item up to the end of its last token.

        Returns:
            (B, M, F); past the end of an item it means nothing.
        """
        margin = self.n_fft // 2
        padded = F.pad(waves, (margin, margin))
        padded[:, :margin] = waves[:, 1 : margin + 1].flip(1)
        # Each item is mirrored at its own end, not at that of the batch.
        steps = torch.arange(1, margin + 1, device=waves.device)
        last = lengths[:, None] - 1
        padded.scatter_(1, last + steps + margin, waves.gather(1, last - steps))
        spectrum = torch.stft(
            padded, self.n_fft, self.hop_length, window=self.window, center=False, return_complex=True
        )
        power = spectrum[:, :, :-1].abs() ** 2
        decades = (self.filters @ power).clamp(min=_FLOOR).log10()
        inside = torch.arange(decades.shape[2], device=waves.device) < lengths[:, None, None] // self.hop_length
        loudest = decades.masked_fill(~inside, -torch.inf).amax((1, 2), keepdim=True)
        return (torch.maximum(decades, loudest - _RANGE) + 4.0) / 4.0

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Return how many frames begin within each item's samples, (B,) int64."""
        return -(-lengths // self.hop_length)
