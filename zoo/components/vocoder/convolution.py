"""Convolutions whose weights are a length times a direction (Salimans and Kingma, arXiv 1602.07868).

The two are kept apart, as the released files have them, so that weights are read and written without rounding and
training can go on. `torch.nn.utils.parametrizations.weight_norm` computes the same, but its modules cannot be pickled.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Conv", "Upsampling"]


class _WeightNormed(nn.Module):
    """The parameters: weight = gain · direction / |direction|, the norm over all axes but the first.

    Args:
        shape: Of the weight.
        num_out: Width of the bias.
        fan_in: Numbers that one output is made from.
    """

    def __init__(self, shape: tuple[int, int, int], num_out: int, fan_in: int) -> None:
        super().__init__()
        bound = fan_in**-0.5
        direction = torch.empty(shape).uniform_(-bound, bound)
        # Of an outline only the shape matters, and torch would import its compiler to compute it.
        self.gain = nn.Parameter(direction.new_empty(shape[0], 1, 1) if direction.is_meta else _norm(direction))
        self.direction = nn.Parameter(direction)
        self.bias = nn.Parameter(torch.empty(num_out).uniform_(-bound, bound))

    @property
    def weight(self) -> Tensor:
        """The weight that is applied."""
        return self.direction * (self.gain / _norm(self.direction))


class Conv(_WeightNormed):
    """x (B, before, L) → (B, after, L), L kept by zeros at both ends.

    Args:
        before: Channels.
        after: Channels.
        kernel: Odd.
        dilation: Samples between the kernel's values.
    """

    def __init__(self, before: int, after: int, kernel: int, dilation: int = 1) -> None:
        super().__init__((after, before, kernel), after, before * kernel)
        self.dilation = dilation
        self.padding = dilation * (kernel - 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return F.conv1d(x, self.weight, self.bias, padding=self.padding, dilation=self.dilation)


class Upsampling(_WeightNormed):
    """x (B, before, L) → (B, after, rate · L), a transposed convolution.

    Args:
        before: Channels.
        after: Channels.
        kernel: As long as the rate or longer by an even number.
        rate: Factor.
    """

    def __init__(self, before: int, after: int, kernel: int, rate: int) -> None:
        super().__init__((before, after, kernel), after, before * kernel // rate)
        self.rate = rate
        self.padding = (kernel - rate) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        return F.conv_transpose1d(x, self.weight, self.bias, stride=self.rate, padding=self.padding)


def _norm(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)
    return norm
