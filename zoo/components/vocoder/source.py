"""What the voice is made from before the mouth shapes it: sines at the pitch's harmonics, and noise.

The neural source-filter model (Wang et al., arXiv 1904.12088): the pitch is predicted, and its phase is not learned but
computed, which a convolution is bad at.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from zoo.components.vocoder.config import VocoderConfig
from zoo.components.vocoder.convolution import Conv

__all__ = ["HarmonicSource", "PitchPredictor", "sines"]


class PitchPredictor(nn.Module):
    """Mel spectra (B, M, F) → fundamental frequencies (B, F) in Hz, 0 or more."""

    def __init__(self, num_mel: int, width: int, num_layers: int = 5) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(num_layers):
            layers += [Conv(width if number else num_mel, width, 3), nn.ELU()]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(width, 1)

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
        config = self.config
        pitch = pitch.repeat_interleave(config.frame_samples, 1)
        count = config.num_harmonics + 1
        device = pitch.device if generator is None else generator.device
        draw: dict[str, Any] = {"generator": generator, "device": device, "dtype": pitch.dtype}
        phases = (2 * torch.rand(len(pitch), count, 1, **draw) - 1) * math.pi
        phases[:, 0] = 0  # harmonics may lie anyhow to the fundamental; its own phase means nothing
        noise = torch.randn(len(pitch), count, pitch.shape[1], **draw).to(pitch.device)
        voiced = (pitch > config.voiced_threshold).to(pitch.dtype)[:, None]
        tones = config.sine_amplitude * sines(pitch, phases.to(pitch.device), self.sample_rate)
        level = voiced * config.noise_std + (1 - voiced) * config.sine_amplitude / 3
        merged: Tensor = self.merge((voiced * tones + level * noise).transpose(1, 2))
        return torch.tanh(merged).squeeze(2)


def sines(pitch: Tensor, phases: Tensor, sample_rate: int) -> Tensor:
    """Return sines at 1, 2, … times the fundamental.

    Args:
        pitch: (B, L) in Hz, one a sample.
        phases: (B, K, 1) in radians, where each starts.
        sample_rate: Hz.

    Returns:
        (B, K, L).
    """
    multiples = torch.arange(1, phases.shape[1] + 1, device=pitch.device, dtype=pitch.dtype)
    # In whole turns, and in float32 as published: the sums of float64 are other ones after a while.
    turns = (pitch[:, None] * multiples[:, None] / sample_rate).cumsum(2) % 1
    return torch.sin(2 * math.pi * turns + phases)
