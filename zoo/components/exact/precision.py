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
_INPUT_BITS = 23
_HEADROOM_BITS = 6
_BLOCK = 2**17
_WIDE = 16


class KeepsPrecision(nn.Module):
    """A module whose tensors move between devices but keep their dtype, whatever `.half()` its parents receive."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        moved: Self = super()._apply(move, recurse)  # type: ignore[no-untyped-call]
        return moved


class ExactTimeMap(KeepsPrecision):
    """y[b, n, d] = Σ_t weight[n, t] · (x[b, t, d] - centre[d]) / scale[d], bit-equal whatever the batch or device.

    Inputs are rounded to 2^-23 of the largest usual magnitude, which is about what float32 resolves, weights to the
    bits that are left: 2^-19 for rows of absolute sum up to 16.

    Args:
        weight: (N, T) float64.
        num_channels: D.
    """

    LIMIT = 2**_HEADROOM_BITS
    """How many times the largest usual magnitude an input may have for sums to be exact."""

    weight: Tensor
    input_scale: Tensor
    gain: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, num_channels: int) -> None:
        super().__init__()
        weight = weight.double()
        shape = (len(weight), num_channels)
        # Σ|w||x| < 2^53 must hold for inputs of up to 2^29 steps.
        largest = 1.0 if weight.is_meta else float(weight.abs().sum(1).max())
        bits = _MANTISSA - 1 - _INPUT_BITS - _HEADROOM_BITS - max(0, math.ceil(math.log2(largest + 1e-9)))
        self._weight_step = 2.0**-bits
        self.register_buffer("weight", (weight * 2.0**bits).round(), persistent=False)
        # Expanded over time and over rows, because broadcasting along a short last axis is slow.
        steps = torch.full((weight.shape[1], num_channels), 2.0**_INPUT_BITS, dtype=torch.float32)
        gain = torch.full(shape, self._weight_step * 2.0**-_INPUT_BITS, dtype=torch.float64)
        self.register_buffer("input_scale", steps, persistent=False)
        self.register_buffer("gain", gain, persistent=False)
        self.register_buffer("bias", torch.zeros_like(gain), persistent=False)

    def set_scale(self, largest: Tensor, centre: Tensor, scale: Tensor) -> None:
        """State what the inputs of each channel look like, (D,) each.

        Args:
            largest: Their usual largest magnitude; rounded up to a power of two.
            centre: What to subtract from them.
            scale: What to divide them by then.
        """
        device = self.weight.device
        # frexp, because a logarithm may round a power of two to the next, differently on different machines.
        exact = [math.frexp(max(value, 2.0**-60)) for value in largest.tolist()]
        powers = [math.ldexp(1.0, _INPUT_BITS - exponent + (mantissa == 0.5)) for mantissa, exponent in exact]
        steps = torch.tensor(powers, dtype=torch.float64, device=device)
        centre, scale = centre.double().to(device), scale.double().to(device)
        self.input_scale = steps.float().expand_as(self.input_scale).contiguous()
        self.gain = (self._weight_step / steps / scale).expand_as(self.gain).contiguous()
        # The map is linear, so the centre can be taken off afterwards, from few outputs instead of many inputs.
        self.bias = -self.weight.sum(1, keepdim=True) * self._weight_step * centre / scale

    @property
    def exact_weight(self) -> Tensor:
        """The weight as it is applied, (N, T) float64."""
        return self.weight * self._weight_step

    def covers(self, low: Tensor, high: Tensor) -> bool:
        """Whether sums are exact for all inputs from low to high, (D,) each, so that they need no check."""
        largest = torch.maximum(low.abs(), high.abs()).double()
        return bool((largest * self.input_scale[0].to(largest) <= self.LIMIT * 2.0**_INPUT_BITS).all())

    def forward(self, x: Tensor, *, is_covered: bool = False) -> Tensor:
        """Map x (B, T, D) float32 to (B, N, D) float64.

        Args:
            x: Inputs.
            is_covered: Whether they are known to lie in a range that `covers` was asked about: spares a pass over them.

        Raises:
            InputError: x is not finite, or so large that sums would not be exact.
        """
        per_item = self.input_scale.numel()
        if x.numel() <= _BLOCK or x.is_cuda:
            sums = self._sums(x, is_covered).contiguous()
        else:
            # Blocks that stay in the cache; their results are the same, since sums are exact.
            sums = x.new_empty((len(x), *self.gain.shape), dtype=torch.float64)
            rows = max(1, _BLOCK // per_item)
            for part, target in zip(torch.split(x, rows), torch.split(sums, rows), strict=True):
                target.copy_(self._sums(part, is_covered))
        # Elementwise operations, each rounded on its own: a fused one would depend on how it is vectorised.
        return sums.mul_(self.gain).add_(self.bias)

    def _sums(self, x: Tensor, is_covered: bool) -> Tensor:
        steps = (x * self.input_scale).round_()
        if not is_covered:
            low, high = steps.aminmax()
            if not max(high.item(), -low.item()) <= self.LIMIT * 2.0**_INPUT_BITS or math.isnan(low.item()):
                raise InputError(self._complaint(x))
        batch, length, channels = x.shape
        if batch < _WIDE:
            return torch.bmm(self.weight.expand(batch, -1, -1), steps.double())
        # One wide product for the batch, (N, T) · (T, B·D), is faster than a narrow one an item.
        wide = self.weight @ steps.transpose(0, 1).reshape(length, -1).double()
        return wide.view(-1, batch, channels).transpose(0, 1)

    def _complaint(self, x: Tensor) -> str:
        finite = x.isfinite()
        if not finite.all():
            where = [int(i) for i in (~finite).nonzero()[0]]
            return (
                f"item {where[0]}, step {where[1]}, DoF {where[2]} is {float(x[tuple(where)])}: remove or repair "
                "such steps first."
            )
        excess = (x.abs() * self.input_scale / 2.0**_INPUT_BITS).amax((0, 1))
        channel = int(excess.argmax())
        return (
            f"DoF {channel} reaches {float(x[..., channel].abs().max()):.4g}, some {float(excess[channel]):.3g} times "
            "the largest value that the statistics were fitted on: check its unit, or fit on data like it."
        )

    def extra_repr(self) -> str:
        """Return the shape, for `repr`."""
        return f"{self.weight.shape[1]} → {self.weight.shape[0]}, {self.gain.shape[1]} channels"
