"""Noise that is made for one tokenizer: of all noise of one strength, some that moves its vectors far.

An extension to the disturbances of recordings, after the robustness axis of ROSETok (NeurIPS 2026): a few steps of
gradient ascent at a fixed SNR, projected back after each (PGD: Madry et al., arXiv 1706.06083), through the tokenizer's
own encoder. Random noise of the same SNR is what to compare it with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.data.perturbations.noise import Perturbation, check_finite
from zoo.errors import ConfigError

__all__ = ["AdversarialNoise"]

# Of a step, in radii over the number of steps: enough to cross what is searched, and to turn back.
_STRIDE = 2.5


@dataclass(frozen=True)
class AdversarialNoise(Perturbation):
    """Adds noise that moves what an encoder makes of the wave.

    It starts as white noise. Each step goes along the gradient of Σ|f(wave + noise) - f(wave)|² and back to the SNR.

    Args:
        snr: In dB, of the RMS of the whole wave to that of the whole noise, exact but for rounding.
        vectors: f, wave (samples,) → vectors, differentiable.
        steps: Of ascent; with 0 the noise stays white.
    """

    snr: float
    vectors: Callable[[Tensor], Tensor]
    steps: int = 5

    def __post_init__(self) -> None:
        check_finite(snr=self.snr)
        if self.steps < 0:
            raise ConfigError(f"steps must be 0 or more, got {self.steps!r}.")

    def apply(self, wave: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw noise, and turn it to where the vectors move."""
        radius = wave.norm() * 10 ** (-self.snr / 20)
        noise = torch.randn(len(wave), dtype=torch.float32, device="cpu", generator=generator).to(wave.device)
        noise *= radius / noise.norm()
        with torch.enable_grad():
            expected = self.vectors(wave).detach()
            for _ in range(self.steps):
                noise.requires_grad_()
                moved = (self.vectors(wave + noise) - expected).square().sum()
                (uphill,) = torch.autograd.grad(moved, noise)
                noise = noise.detach()
                if not bool(uphill.any()):
                    break
                noise = noise + _STRIDE / self.steps * radius * uphill / uphill.norm()
                noise *= radius / noise.norm()
        return wave + noise
