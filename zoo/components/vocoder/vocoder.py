"""Mel spectrum → wave: HiFTNet (Li et al., arXiv 2309.09493).

Transposed convolutions raise the mel's rate only so far; the last step is an inverse Fourier transform of a predicted
spectrum. The source signal, sines at the predicted pitch, goes the other way, through a Fourier transform, and is added
at every rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.components.vocoder.config import VocoderConfig
from zoo.components.vocoder.convolution import Conv, Upsampling
from zoo.components.vocoder.source import HarmonicSource, PitchPredictor

__all__ = ["Vocoder"]

_LAST_SLOPE = 0.01
_LARGEST_MAGNITUDE = 100.0
_EPSILON = 1e-9
_PIECE_FRAMES = 3000


class Vocoder(nn.Module):
    """Mel spectra (B, M, F) of items of one length → their waves (B, 256·F), as many samples a frame as published.

    Long spectra are taken piece by piece: a sample depends on the frames within `reach` alone, and on how far the
    source had turned before, which is carried on, so that a wave is what it would be in one piece, but for rounding.

    Attributes:
        reach: Frames on either side that a sample depends on, at most.
        piece_frames: Frames of a piece.
        pitch: Spectrum → fundamental frequency.
        source: Fundamental frequency → source signal.
        pre: Spectrum → channels.
        ups: Raise the rate.
        source_downs: Bring the source's spectrum to each of these rates.
        source_blocks: What it passes there.
        blocks: Residual blocks; at each rate, the mean of several.
        post: Channels → log-magnitudes and phases.
    """

    window: Tensor

    def __init__(self, num_mel: int, sample_rate: int, config: VocoderConfig) -> None:
        super().__init__()
        self.config = config
        self.pitch = PitchPredictor(num_mel, config.pitch_channels)
        self.source = HarmonicSource(config, sample_rate)
        self.pre = Conv(num_mel, config.channels, 7)
        self.ups, self.source_downs = nn.ModuleList(), nn.ModuleList()
        self.source_blocks, self.blocks = nn.ModuleList(), nn.ModuleList()
        bins = config.n_fft + 2  # real and imaginary parts, or magnitudes and phases
        width = config.channels
        for stage, (rate, kernel) in enumerate(zip(config.upsample_rates, config.upsample_kernels, strict=True)):
            self.ups.append(Upsampling(width, width // 2, kernel, rate))
            width //= 2
            self.source_downs.append(_downsampling(bins, width, math.prod(config.upsample_rates[stage + 1 :])))
            own = config.source_kernels[stage], config.source_dilations[stage]
            self.source_blocks.append(_ResidualBlock(width, *own))
            for each in zip(config.kernels, config.dilations, strict=True):
                self.blocks.append(_ResidualBlock(width, *each))
        self.post = Conv(width, bins, 7)
        self.register_buffer("window", torch.hann_window(config.n_fft, dtype=torch.float32), persistent=False)
        self.reach = _reach(config)
        self.piece_frames = max(_PIECE_FRAMES, 2 * self.reach)

    def forward(self, mel: Tensor, generator: torch.Generator | None) -> Tensor:
        """Make the waves, of which phases and noise are drawn from the generator, or the default one."""
        return torch.cat(list(self.pieces(mel, generator)), 1)

    def pieces(self, mel: Tensor, generator: torch.Generator | None) -> Iterator[Tensor]:
        """Yield the waves of the forward pass piece by piece, (B, samples) each, in memory that is that of a piece."""
        length, hop = mel.shape[2], self.config.frame_samples
        bounds = [(start, min(start + self.piece_frames, length)) for start in range(0, length, self.piece_frames)]
        sources = self.source.stretches((self._pitch(mel, *each) for each in bounds), generator)
        held, begin = next(sources), 0  # what is known of the source, and the frame it begins at
        for start, stop in bounds:
            held = torch.cat([held, *islice(sources, 1)], 1)
            first, last = max(0, start - self.reach), min(length, stop + self.reach)
            wave = self.filter(mel[:, :, first:last], held[:, (first - begin) * hop : (last - begin) * hop])
            yield wave[:, (start - first) * hop : (stop - first) * hop]
            kept = max(0, stop - self.reach)
            held, begin = held[:, (kept - begin) * hop :].clone(), kept

    def _pitch(self, mel: Tensor, start: int, stop: int) -> Tensor:
        """Return the pitch of some of the frames."""
        first = max(0, start - self.pitch.reach)
        pitch: Tensor = self.pitch(mel[:, :, first : stop + self.pitch.reach])
        return pitch[:, start - first :][:, : stop - start]

    def filter(self, mel: Tensor, source: Tensor) -> Tensor:
        """Return the waves (B, samples) of spectra (B, M, F) and source signals (B, samples)."""
        config = self.config
        spectrum = torch.view_as_real(self._transform(source))
        spectrum = torch.cat([spectrum[..., 0], spectrum[..., 1]], 1)
        x = self.pre(mel)
        each = len(config.kernels)
        for stage, (up, down, block) in enumerate(zip(self.ups, self.source_downs, self.source_blocks, strict=True)):
            x = up(F.leaky_relu(x, config.slope))
            if stage == len(self.ups) - 1:
                # A transform of n hops has n + 1 frames.
                x = F.pad(x, (1, 0), mode="reflect")
            x = x + block(down(spectrum))
            x = sum(layer(x) for layer in self.blocks[stage * each : (stage + 1) * each]) / each
        magnitude, phase = self.post(F.leaky_relu(x, _LAST_SLOPE)).float().chunk(2, 1)
        magnitude = magnitude.exp().clamp(max=_LARGEST_MAGNITUDE)
        # The network gives the phase's sine, of all things, where one would expect the phase; so it was trained.
        wave = self._inverse(torch.polar(magnitude, phase.sin()))
        return wave.clamp(-config.limit, config.limit)

    def _transform(self, wave: Tensor) -> Tensor:
        """Return the spectra (B, 1 + n_fft / 2, frames) of (B, samples), complex."""
        config = self.config
        return torch.stft(wave, config.n_fft, config.hop_length, window=self.window, return_complex=True)

    def _inverse(self, spectrum: Tensor) -> Tensor:
        """Undo `_transform`."""
        return torch.istft(spectrum, self.config.n_fft, self.config.hop_length, window=self.window)


class _ResidualBlock(nn.Module):
    """Pairs of convolutions behind snakes, the first of each pair dilated, each pair beside a direct way."""

    def __init__(self, width: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.first = nn.ModuleList(Conv(width, width, kernel, dilation) for dilation in dilations)
        self.second = nn.ModuleList(Conv(width, width, kernel) for _ in dilations)
        self.first_snake = nn.ModuleList(_Snake(width) for _ in dilations)
        self.second_snake = nn.ModuleList(_Snake(width) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for parts in zip(self.first_snake, self.first, self.second_snake, self.second, strict=True):
            inner = x
            for part in parts:
                inner = part(inner)
            x = x + inner
        return x


class _Snake(nn.Module):
    """x + sin²(αx) / α, α a channel's own: it lets periods through (Ziyin et al., arXiv 2006.08195)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.alpha[:, None]
        return x + (alpha * x).sin().square() / (alpha + _EPSILON)


def _downsampling(before: int, after: int, rate: int) -> nn.Conv1d:
    """Return a convolution from n · rate + 1 frames to n, or to as many if the rate is 1; other rates are even."""
    if rate == 1:
        return nn.Conv1d(before, after, 1)
    return nn.Conv1d(before, after, 2 * rate, stride=rate, padding=rate // 2)


def _reach(config: VocoderConfig) -> int:
    """Return how many frames on either side of its own a sample depends on, at most."""
    frames, rate = 3.0, 1
    for stage, (up, kernel) in enumerate(zip(config.upsample_rates, config.upsample_kernels, strict=True)):
        frames += kernel / (up * rate)
        rate *= up
        own = (config.source_kernels[stage], config.source_dilations[stage])
        blocks = [own, *zip(config.kernels, config.dilations, strict=True)]
        # Whatever comes from the source has passed both kinds of blocks, and was made of a stretch of it before.
        frames += 2 * max(sum((size - 1) // 2 * (step + 1) for step in steps) for size, steps in blocks) / rate
    # The last convolution, both transforms, and the longest convolution that brings the source's spectrum down.
    frames += 3 / rate + (2 * config.n_fft + 2 * config.hop_length * rate) / config.frame_samples
    return math.ceil(frames) + 1
