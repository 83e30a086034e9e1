"""A linear map along time whose result does not depend on how it is computed.

A float sum depends on its order, and the order a matrix product uses depends on the batch size, the number of threads
and the device; a token that lies near a rounding boundary then changes with them. Here both factors are rounded to
fixed point first, so that every product and every partial sum is an integer below 2^53. Such sums are exact in float64
in any order, hence bit-equal everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from zoo.errors import InputError

__all__ = ["ExactTimeMap", "KeepsPrecision"]

_MANTISSA = 53
_INPUT_BITS = 20
_HEADROOM_BITS = 9


class KeepsPrecision(nn.Module):
    """A module whose tensors move between devices but keep their dtype, whatever `.half()` its parents receive."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # An empty tensor finds out where `fn` moves things; float64 statistics must not pass through float16.
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(fn(tensor.new_empty(0)).device)

        moved: Self = super()._apply(move, recurse)  # type: ignore[no-untyped-call]
        return moved


class ExactTimeMap(KeepsPrecision):
    """y[b, n, d] = Σ_t weight[n, t] · (x[b, t, d] - centre[d]), bit-equal for any batch, thread count and device.

    Inputs are rounded to 2^-20 of a unit per channel, weights to as many bits as are left, which is 2^-18 or finer
    for rows of absolute sum up to 64.

    Args:
        weight: (N, T) float64.
        num_channels: D.
    """

    LIMIT = float(2**_HEADROOM_BITS)
    """Largest magnitude of an input, in units, for which sums are exact."""

    weight: Tensor
    centre: Tensor
    input_scale: Tensor
    resolution: Tensor

    def __init__(self, weight: Tensor, num_channels: int) -> None:
        super().__init__()
        weight = weight.double()
        # Σ|w||x| < 2^53 must hold with |x| ≤ 2^(20+9) steps.
        largest = float(weight.abs().sum(1).max()) if weight.device.type != "meta" else 1.0
        self._weight_bits = _MANTISSA - _INPUT_BITS - _HEADROOM_BITS - max(0, math.ceil(math.log2(largest + 1e-9)) + 1)
        self.register_buffer("weight", (weight * 2.0**self._weight_bits).round(), persistent=False)
        self.register_buffer("centre", torch.zeros(num_channels), persistent=False)
        self.register_buffer("input_scale", torch.ones(num_channels), persistent=False)
        self.register_buffer("resolution", torch.ones(num_channels, dtype=torch.float64), persistent=False)
        self.set_units(torch.ones(num_channels))

    def set_units(self, units: Tensor, centre: Tensor | None = None) -> None:
        """State where inputs usually lie in each channel: about `centre`, with a magnitude of `units`, (D,) each.

        Units are rounded up to powers of two.
        """
        powers = torch.exp2(torch.ceil(torch.log2(units.double()))).to(self.weight.device)
        self.centre = (torch.zeros_like(powers) if centre is None else centre.to(self.weight.device)).float()
        self.input_scale = (2.0**_INPUT_BITS / powers).float()
        self.resolution = powers * 2.0 ** -(_INPUT_BITS + self._weight_bits)

    @property
    def exact_weight(self) -> Tensor:
        """The weight as it is applied, (N, T) float64."""
        return self.weight * 2.0**-self._weight_bits

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, D) float32 to (B, N, D) float64.

        Raises:
            InputError: x is not finite, or so large that sums would not be exact.
        """
        # Elementwise operations, each rounded on its own, so that nothing depends on how they are vectorised.
        steps = (x - self.centre).mul_(self.input_scale).round_()
        worst = torch.linalg.vector_norm(steps, torch.inf).item()
        if not worst <= self.LIMIT * 2.0**_INPUT_BITS:  # also false for NaN
            raise InputError(self._complaint(x))
        return (self.weight @ steps.double()).mul_(self.resolution)

    def _complaint(self, x: Tensor) -> str:
        finite = x.isfinite()
        if not finite.all():
            where = [int(i) for i in (~finite).nonzero()[0]]
            return (
                f"item {where[0]}, step {where[1]}, DoF {where[2]} is {float(x[tuple(where)])}: remove or repair "
                "such steps first."
            )
        excess = ((x - self.centre).abs() * self.input_scale / 2.0**_INPUT_BITS).amax((0, 1))
        channel = int(excess.argmax())
        worst = x[..., channel].flatten()[(x[..., channel] - self.centre[channel]).abs().argmax()]
        return (
            f"DoF {channel} reaches {float(worst):.4g}, which is {float(excess[channel]):.4g} times the range of "
            "the data that the statistics were fitted on: check its unit, or fit on data like it."
        )

    def extra_repr(self) -> str:
        """Return the shape, for `repr`."""
        return f"{self.weight.shape[1]} → {self.weight.shape[0]}, {self.input_scale.shape[0]} channels"
