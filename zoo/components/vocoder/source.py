"""What the voice is made from before the mouth shapes it: sines at the pitch's harmonics, and noise.

The neural source-filter model (Wang et al., arXiv 1904.12088): the pitch is predicted, and its phase is not learned but
computed, which a convolution is bad at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from zoo.components.vocoder.config import VocoderConfig
from zoo.components.vocoder.convolution import Conv

__all__ = ["HarmonicSource", "PitchPredictor", "harmonic_turns"]


class PitchPredictor(nn.Module):
    """Mel spectra (B, M, F) → fundamental frequencies (B, F) in Hz, 0 or more.

    Attributes:
        reach: Frames on either side that a pitch depends on.
    """

    def __init__(self, num_mel: int, width: int, num_layers: int = 5) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(num_layers):
            layers += [Conv(width if number else num_mel, width, 3), nn.ELU()]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(width, 1)
        self.reach = num_layers

    def forward(self, mel: Tensor) -> Tensor:
        """Predict."""
        pitch: Tensor = self.out(self.layers(mel).transpose(1, 2))
        return pitch.squeeze(2).abs()


class HarmonicSource(nn.Module):
    """Fundamental frequencies (B, F) of items of one length → their source signals (B, samples).

    Args:
        config: Sizes.
        sample_rate: Hz.
    """

    def __init__(self, config: VocoderConfig, sample_rate: int) -> None:
        super().__init__()
        self.config = config
        self.sample_rate = sample_rate
        self.merge = nn.Linear(config.num_harmonics + 1, 1)

    def forward(self, pitch: Tensor, generator: torch.Generator | None) -> Tensor:
        """Make the source.

        Args:
            pitch: (B, F) in Hz.
            generator: Source of the harmonics' phases, then of the noise; the default one if None.
        """
        return next(self.stretches([pitch], generator))

    def stretches(self, pitches: Iterable[Tensor], generator: torch.Generator | None) -> Iterator[Tensor]:
        """Make the source of consecutive stretches, each of which begins in the phase that the one before it ends in.

        Args:
            pitches: (B, F) in Hz each, of as many items.
            generator: As for the forward pass; the noise is drawn stretch by stretch.

        Yields:
            (B, samples).
        """
        config = self.config
        phases: Tensor | None = None
        turned: Tensor | float = 0.0
        for pitch in pitches:
            pitch = pitch.repeat_interleave(config.frame_samples, 1)
            count = config.num_harmonics + 1
            device = pitch.device if generator is None else generator.device
            draw: dict[str, Any] = {"generator": generator, "device": device, "dtype": pitch.dtype}
            if phases is None:
                phases = (2 * torch.rand(len(pitch), count, 1, **draw) - 1) * math.pi
                phases[:, 0] = 0  # harmonics may lie anyhow to the fundamental; its own phase means nothing
                phases = phases.to(pitch.device)
            noise = torch.randn(len(pitch), count, pitch.shape[1], **draw).to(pitch.device)
            voiced = (pitch > config.voiced_threshold).to(pitch.dtype)[:, None]
            turns = harmonic_turns(pitch, count, self.sample_rate, turned)
            turned = turns[:, :, -1:]
            tones = config.sine_amplitude * torch.sin(2 * math.pi * turns + phases)
            level = voiced * config.noise_std + (1 - voiced) * config.sine_amplitude / 3
            merged: Tensor = self.merge((voiced * tones + level * noise).transpose(1, 2))
            yield torch.tanh(merged).squeeze(2)


def harmonic_turns(pitch: Tensor, count: int, sample_rate: int, start: Tensor | float = 0.0) -> Tensor:
    """Return how far sines at 1, 2, … times the fundamental have turned, in turns less the whole ones.

    Args:
        pitch: (B, L) in Hz, one a sample.
        count: K, how many.
        sample_rate: Hz.
        start: (B, K, 1), how far they had turned before.

    Returns:
        (B, K, L), 0…1.
    """
    multiples = torch.arange(1, count + 1, device=pitch.device, dtype=pitch.dtype)
    # In float32 as published: the sums of float64 are other ones after a while.
    return ((pitch[:, None] * multiples[:, None] / sample_rate).cumsum(2) + start) % 1
