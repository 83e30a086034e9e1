"""The cosine transform along time, exact enough to be rounded and the same for any batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.components.exact.precision import ExactTimeMap, KeepsPrecision

__all__ = ["CosineTransform", "cosine_basis", "windows"]

# What the parts that rounding took off are multiplied by, so that they fill the fixed point of a pass of their own.
_OF_WEIGHTS = 2.0**18
_OF_INPUTS = 2.0**20


def cosine_basis(steps: int) -> Tensor:
    """Return the orthonormal DCT-II as a matrix (frequency, step), float64; its transpose is its inverse."""
    k = torch.arange(steps)[:, None]
    t = torch.arange(steps)
    # The angle's multiple of π / 2T is reduced in integers: the cosine of a small angle is the more accurate one.
    angle = (k * (2 * t + 1)) % (4 * steps)
    basis: Tensor = torch.cos(angle.double() * (torch.pi / (2 * steps))) * (2.0 / steps) ** 0.5
    basis[0] = (1.0 / steps) ** 0.5
    return basis


class CosineTransform(KeepsPrecision):
    """y[b, k, d] = Σ_t basis[k, t] · x[b, t, d], nearly as precise as float64 and bit-equal for any batch.

    `ExactTimeMap` gives sums that do not depend on their order, but of factors rounded to about 20 bits, which moves
    one coefficient in some ten thousand across a rounding boundary. So the map is applied three times: to the inputs,
    to what rounding took off the inputs, and with what rounding took off the weights. What is lost in the end is below
    1e-9 of an input, and coefficients round as they do in float64.

    Args:
        steps: T.
        num_channels: D.
        is_inverse: Rounded coefficients, which are integers, to actions, instead of actions to coefficients.
    """

    coarse: ExactTimeMap
    fine: ExactTimeMap

    def __init__(self, steps: int, num_channels: int, *, is_inverse: bool = False) -> None:
        super().__init__()
        self.is_inverse = is_inverse
        basis = cosine_basis(steps)
        weight = basis.T.contiguous() if is_inverse else basis
        self.coarse = ExactTimeMap(weight, num_channels)
        self.fine = ExactTimeMap((weight - self.coarse.exact_weight) * _OF_WEIGHTS, num_channels)

    def set_units(self, units: Tensor) -> None:
        """State the magnitude that inputs usually have, (D,). Some 10^4 times as much is accepted."""
        zeros, ones = torch.zeros_like(units), torch.ones_like(units)
        for part in (self.coarse, self.fine):
            # Three passes have precision enough to leave some of their range to outliers.
            part.set_scale(units * 256, zeros, ones)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, D) float32 to (B, T, D) float64.

        Raises:
            InputError: x is not finite, or far too large.
        """
        main: Tensor = self.coarse(x)
        main += self.fine(x) / _OF_WEIGHTS
        if not self.is_inverse:  # whose inputs are integers, of which rounding takes nothing off
            scale = self.coarse.input_scale
            steps = x * scale
            # Exact: a float32 and its nearest integer differ by a float32, and the scale is a power of two.
            rest = (steps - steps.round()) / scale
            main += self.coarse(rest * _OF_INPUTS) / _OF_INPUTS
        return main


def windows(episodes: Sequence[Tensor], horizon: int, stride: int) -> Tensor:
    """Return the chunks (n, T, D) that start at every `stride`-th step of sequences (L_i, D).

    Past the end of its sequence, a chunk holds the last action.
    """
    lengths = torch.tensor([len(episode) for episode in episodes], device="cpu")
    counts = -(-lengths // stride)
    owner = torch.arange(len(episodes)).repeat_interleave(counts)
    first, before = lengths.cumsum(0) - lengths, counts.cumsum(0) - counts
    start = first[owner] + (torch.arange(len(owner)) - before[owner]) * stride
    last = first[owner] + lengths[owner] - 1
    index = torch.minimum(start[:, None] + torch.arange(horizon), last[:, None])
    return torch.cat(list(episodes))[index]
