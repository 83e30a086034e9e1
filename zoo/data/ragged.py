"""Items of different lengths without padding, so that one long item among short ones costs no more than it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

__all__ = ["Ragged"]


@dataclass(frozen=True)
class Ragged:
    """Items whose first axis differs in length, one after the other.

    Args:
        values: (S, …), S being the sum of the lengths; contiguous.
        counts: The lengths.
    """

    values: Tensor
    counts: list[int]

    @classmethod
    def of(cls, items: Tensor | list[Tensor]) -> Self:
        """Take a batch (B, L, …) of equally long items, without a copy if it is contiguous, or a list of items."""
        if isinstance(items, Tensor):
            ragged = cls(items.flatten(0, 1).contiguous(), [items.shape[1]] * len(items))
            if len(items):
                ragged.__dict__["even_length"] = items.shape[1]  # known: spares looking at every count
            return ragged
        values = items[0].contiguous() if len(items) == 1 else torch.cat(items)
        return cls(values, [len(item) for item in items])

    def __len__(self) -> int:
        return len(self.counts)

    @cached_property
    def lengths(self) -> Tensor:
        """The lengths, (B,) int64, where the values are."""
        return torch.tensor(self.counts, dtype=torch.int64, device=self.values.device)

    @cached_property
    def even_length(self) -> int | None:
        """Length of all items if they are equally long, else None."""
        first = self.counts[0]
        return first if self.counts.count(first) == len(self.counts) else None

    def items(self) -> list[Tensor]:
        """Return each item (L, …), as a view."""
        return list(torch.split(self.values, self.counts))

    def batch(self) -> Tensor:
        """Return equally long items as a view (B, L, …)."""
        return self.values.view(len(self), -1, *self.values.shape[1:])
