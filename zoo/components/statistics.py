"""Statistics of a data set gathered in one pass, in parts, or on several machines."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

__all__ = ["RunningRange"]


class RunningRange:
    """Minimum, maximum and quantiles of vectors, mergeable over shards.

    Minimum and maximum are exact. Quantiles are exact while there are at most `capacity` vectors, and those of a
    uniform random sample of `capacity` vectors from then on (each vector gets a random key; the smallest keys stay).

    Args:
        capacity: Vectors kept for the quantiles.
        seed: Of the random keys. Shards that will be merged need different seeds.
    """

    def __init__(self, capacity: int = 2**17, seed: int = 0) -> None:
        self.capacity = capacity
        self.count = 0
        self._generator = torch.Generator().manual_seed(seed)
        self._low: Tensor | None = None
        self._high: Tensor | None = None
        self._sample: Tensor | None = None
        self._keys: Tensor | None = None

    def update(self, rows: Tensor) -> Self:
        """Add vectors (n, ...) of one shape, kept in float64."""
        rows = rows.detach().double().cpu()
        if not len(rows):
            return self
        keys = torch.rand(len(rows), generator=self._generator, dtype=torch.float64)
        return self._absorb(len(rows), rows.amin(0), rows.amax(0), rows, keys)

    def merge(self, other: RunningRange) -> Self:
        """Add everything that `other` has seen."""
        if other._low is None or other._high is None or other._sample is None or other._keys is None:
            return self
        return self._absorb(other.count, other._low, other._high, other._sample, other._keys)

    @property
    def low(self) -> Tensor:
        """The smallest value of each component. Needs at least one vector."""
        return self._seen(self._low)

    @property
    def high(self) -> Tensor:
        """The largest value of each component."""
        return self._seen(self._high)

    def quantile(self, q: float) -> Tensor:
        """Return the quantile q of each component, linearly interpolated."""
        # torch.quantile refuses more than 16 M values at once; sorting has no such limit.
        ordered = self._seen(self._sample).sort(0).values
        place = q * (len(ordered) - 1)
        below = min(int(place), max(len(ordered) - 2, 0))
        above = min(below + 1, len(ordered) - 1)
        return torch.lerp(ordered[below], ordered[above], place - below)

    def _absorb(self, count: int, low: Tensor, high: Tensor, sample: Tensor, keys: Tensor) -> Self:
        if self._low is None or self._high is None or self._sample is None or self._keys is None:
            self._low, self._high, self._sample, self._keys = low, high, sample, keys
        else:
            self._low = torch.minimum(self._low, low)
            self._high = torch.maximum(self._high, high)
            self._sample = torch.cat([self._sample, sample])
            self._keys = torch.cat([self._keys, keys])
        self.count += count
        if len(self._keys) > self.capacity:
            kept = self._keys.argsort()[: self.capacity]
            self._sample, self._keys = self._sample[kept], self._keys[kept]
        return self

    @staticmethod
    def _seen(value: Tensor | None) -> Tensor:
        if value is None:
            raise ValueError("no data has been seen yet.")
        return value
