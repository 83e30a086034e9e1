"""Statistics of a data set gathered in one pass, in parts, or on several machines."""

from __future__ import annotations

import zlib
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
        seed: Of the random keys. None derives it from the first vectors, so that the same data gives the same sample,
            and shards of different data get different keys.
    """

    def __init__(self, capacity: int = 2**17, seed: int | None = None) -> None:
        self.capacity = capacity
        self.count = 0
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)
        self._low: Tensor | None = None
        self._high: Tensor | None = None
        # Keys and vectors as they came; joined, and cut to capacity, only now and then.
        self._parts: list[tuple[Tensor, Tensor]] = []
        self._held = 0
        self._ordered: Tensor | None = None

    def update(self, rows: Tensor) -> Self:
        """Add vectors (n, ...) of one shape, kept in float64."""
        rows = rows.detach().to("cpu", torch.float64, copy=True)
        if not len(rows):
            return self
        if self._generator is None:
            self._generator = torch.Generator().manual_seed(zlib.crc32(rows.numpy().tobytes()))
        keys = torch.rand(len(rows), generator=self._generator, dtype=torch.float64, device="cpu")
        return self._absorb(len(rows), rows.amin(0), rows.amax(0), [(keys, rows)])

    def merge(self, other: RunningRange) -> Self:
        """Add everything that `other` has seen."""
        if other._low is None or other._high is None:
            return self
        return self._absorb(other.count, other._low, other._high, other._parts)

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
        if self._ordered is None:
            self._compact()
            # torch.quantile refuses more than 16 M values at once; sorting has no such limit.
            self._ordered = self._seen(self._parts[0][1] if self._parts else None).sort(0).values
        ordered = self._ordered
        place = q * (len(ordered) - 1)
        below = min(int(place), max(len(ordered) - 2, 0))
        above = min(below + 1, len(ordered) - 1)
        return torch.lerp(ordered[below], ordered[above], place - below)

    def _absorb(self, count: int, low: Tensor, high: Tensor, parts: list[tuple[Tensor, Tensor]]) -> Self:
        self._low = low if self._low is None else torch.minimum(self._low, low)
        self._high = high if self._high is None else torch.maximum(self._high, high)
        self.count += count
        self._held += sum(len(keys) for keys, _ in parts)
        self._parts.extend(parts)
        self._ordered = None
        if self._held > 2 * self.capacity:
            self._compact()
        return self

    def _compact(self) -> None:
        if not self._parts:
            return
        keys, rows = (torch.cat(parts) for parts in zip(*self._parts, strict=True))
        if len(keys) > self.capacity:
            kept = keys.argsort()[: self.capacity]
            keys, rows = keys[kept], rows[kept]
        self._parts, self._held = [(keys, rows)], len(keys)

    @staticmethod
    def _seen(value: Tensor | None) -> Tensor:
        if value is None:
            raise ValueError("no data has been seen yet.")
        return value
