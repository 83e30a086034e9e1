"""Noise that suites make for each speech tokenizer, where gradients go back through its encoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from zoo.data.audio import change_rate
from zoo.data.perturbations.adversarial import AdversarialNoise
from zoo.errors import ConfigError
from zoo.tokenizer import Tokenizer

__all__ = ["LOUDEST", "NO_GRADIENTS", "Adversarial", "Vectors", "vectors_of"]

LOUDEST = 1.5
"""Amplitude that disturbed waves are clamped to. `Tokenizer.encode` refuses louder samples, which are integers that
were not scaled more often than they are sound."""

NO_GRADIENTS = "it gives no gradients"
"""Why there is no such noise for a tokenizer."""

Vectors = Callable[[Tensor], Tensor]
"""Wave (samples,) → what is quantized (T, D), differentiable."""


@dataclass(frozen=True)
class Adversarial:
    """Noise that is made for each tokenizer, through its own encoder; `zoo.data.perturbations.adversarial` says how.

    Args:
        snr: In dB.
        steps: Of gradient ascent, for each clip and SNR.
    """

    snr: tuple[float, ...]
    steps: int = 5

    def __post_init__(self) -> None:
        if any(not math.isfinite(snr) for snr in self.snr) or self.steps < 0:
            raise ConfigError(
                f"adversarial: snr must be finite and steps 0 or more, got {list(self.snr)} and {self.steps}."
            )

    @property
    def names(self) -> list[str]:
        """What figures call the noise of each SNR."""
        return [f"adversarial {snr:g}" for snr in self.snr]

    @property
    def protocol(self) -> str:
        """What is measured, for people."""
        return (
            f"Adversarial noise, an extension: {self.steps} steps of gradient ascent through each tokenizer's own "
            "encoder, at a fixed SNR. "
        )

    def disturbed(self, wave: Tensor, vectors: Vectors, seed: int) -> list[Tensor]:
        """Return a wave (samples,) in the noise of each SNR, whose ascent starts from the same white noise."""
        return [
            AdversarialNoise(snr, vectors, self.steps)(wave, torch.Generator().manual_seed(seed)).clamp(
                -LOUDEST, LOUDEST
            )
            for snr in self.snr
        ]


@runtime_checkable
class _Differentiable(Protocol):
    """A tokenizer through which gradients go back to the wave."""

    def vectors(self, wave: Tensor) -> Tensor:
        """Return what is quantized of a wave (samples,), (T, D)."""


def vectors_of(tokenizer: Tokenizer, sample_rate: int) -> Vectors | None:
    """Return what is quantized as a function of waves at a suite's rate in Hz; None if it gives no gradients."""
    if not isinstance(tokenizer, _Differentiable):
        return None
    through, rate = tokenizer.vectors, int(tokenizer.spec.sample_rate or sample_rate)
    if rate == sample_rate:
        return through
    return lambda wave: through(change_rate(wave, sample_rate, rate))
