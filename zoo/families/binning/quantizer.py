"""OpenVLA's bins: as many edges as codes, and so one bin fewer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zoo.components.exact.precision import KeepsPrecision

__all__ = ["EdgeGrid"]


class EdgeGrid(KeepsPrecision):
    """V equally spaced edges over [-1, 1]; a code is the last edge at or below its value.

    Code i < V - 1 is the bin between edges i and i + 1 and decodes to its centre. Code V - 1 is the upper end alone, of
    values of 1 and more, and decodes like the last bin. (OpenVLA, arXiv 2406.09246: `k = digitize(x)` in 1 … V, of
    which this is k - 1.)

    Args:
        codebook_size: V, at least 2.
    """

    edges: Tensor
    centres: Tensor

    def __init__(self, codebook_size: int) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        # NumPy's own edges: torch.linspace rounds some of them differently, and an edge decides ties.
        edges = np.linspace(-1.0, 1.0, codebook_size)
        # How NumPy computes all edges but the last, which it sets: for some sizes that is not what this gives.
        self._step = 2.0 / (codebook_size - 1)
        self._is_regular = bool((np.arange(codebook_size) * self._step - 1 == edges).all())
        centres = (edges[:-1] + edges[1:]) / 2
        self.register_buffer("edges", torch.from_numpy(edges), persistent=False)
        self.register_buffer("centres", torch.from_numpy(np.append(centres, centres[-1])), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Quantise x of any shape: return the bins' centres, with a straight-through gradient, and the ids."""
        ids = self.ids(x)
        codes = self.values(ids, x.dtype)
        return x + (codes - x).detach() if x.requires_grad else codes, ids

    def ids(self, x: Tensor) -> Tensor:
        """Return the code of each value, int64; values outside [-1, 1] get the nearest end's."""
        x = x.detach().double()
        # The nearest edge, which arithmetic finds within rounding, or the one before if that is above the value: what
        # `bucketize(x, edges, right=True) - 1` searches for in ten times the time.
        nearest = (x + 1).mul_(1 / self._step).round_().clamp_(0, self.codebook_size - 1)
        edge = (nearest * self._step).sub_(1) if self._is_regular else self.edges[nearest.long()]
        return nearest.sub_(edge.gt_(x)).clamp_(min=0).long()

    def values(self, ids: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the value of each code."""
        return self.centres[ids].to(dtype)

    def is_clipped(self, x: Tensor) -> Tensor:
        """Return which values lie outside [-1, 1], bool."""
        return x.abs() > 1

    def extra_repr(self) -> str:
        """Return the size, for `repr`."""
        return f"codebook_size={self.codebook_size}"
