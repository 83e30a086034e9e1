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
    """y[b, n, d] = Σ_t weight[n, t] · x[b, t, d], bit-equal for any batch, thread count and device.

    Inputs are rounded to 2^-20 of a unit per channel, weights to as many bits as are left, which is 2^-18 or finer
    for rows of absolute sum up to 64.

    Args:
        weight: (N, T) float64.
        num_channels: D.
    """

    LIMIT = float(2**_HEADROOM_BITS)
    """Largest magnitude of an input, in units, for which sums are exact."""

    weight: Tensor
    input_scale: Tensor
    resolution: Tensor

    def __init__(self, weight: Tensor, num_channels: int) -> None:
        super().__init__()
        weight = weight.double()
        # Σ|w||x| < 2^53 must hold with |x| ≤ 2^(20+9) steps.
        largest = float(weight.abs().sum(1).max()) if weight.device.type != "meta" else 1.0
        self._weight_bits = _MANTISSA - _INPUT_BITS - _HEADROOM_BITS - max(0, math.ceil(math.log2(largest + 1e-9)) + 1)
        self.register_buffer("weight", (weight * 2.0**self._weight_bits).round(), persistent=False)
        self.register_buffer("input_scale", torch.ones(num_channels), persistent=False)
        self.register_buffer("resolution", torch.ones(num_channels, dtype=torch.float64), persistent=False)
        self.set_units(torch.ones(num_channels))

    def set_units(self, units: Tensor) -> None:
        """State the magnitude that inputs usually have in each channel, (D,), rounded up to powers of two."""
        powers = torch.exp2(torch.ceil(torch.log2(units.double()))).to(self.weight.device)
        self.input_scale = (2.0**_INPUT_BITS / powers).float()
        self.resolution = powers * 2.0 ** -(_INPUT_BITS + self._weight_bits)

    def integers(self, x: Tensor) -> Tensor:
        """Return the map of x (B, T, D) float32 in multiples of `resolution`: integers in float64, (B, N, D).

        Exact as long as `in_range(x)` holds.
        """
        # A power of two times a float32 is exact, so the one rounding here is that to fixed point.
        return self.weight @ (x * self.input_scale).round_().double()

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, D) float32 to (B, N, D) float64."""
        return self.integers(x) * self.resolution

    def in_range(self, x: Tensor) -> bool:
        """Whether x is finite and small enough for exact sums. One reduction and one synchronisation."""
        worst = torch.linalg.vector_norm(x * self.input_scale, float("inf")).item()
        return bool(worst <= self.LIMIT * 2.0**_INPUT_BITS)  # false for NaN

    def describe_range(self, x: Tensor) -> str:
        """Say what is wrong with an x that is not `in_range`, for an error message."""
        finite = x.isfinite()
        if not finite.all():
            where = [int(i) for i in (~finite).nonzero()[0]]
            return (
                f"item {where[0]}, step {where[1]}, channel {where[2]} is {float(x[tuple(where)])}: remove or repair "
                "such steps first."
            )
        units = (x.abs() * self.input_scale / 2.0**_INPUT_BITS).amax((0, 1))
        channel = int(units.argmax())
        return (
            f"channel {channel} reaches {float(x[..., channel].abs().max()):.4g}, more than {self.LIMIT:.0f} times "
            "what the statistics were fitted on: check its unit, or fit on data like it."
        )

    def extra_repr(self) -> str:
        """Return the shape for `repr`."""
        return f"{self.weight.shape[1]} → {self.weight.shape[0]}, {self.input_scale.shape[0]} channels"
