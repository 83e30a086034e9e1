"""Figures of a whole evaluation, the same whichever batches and processes its items were in.

A mean of batches' means weighs an item by how few others are in its batch, or in it with a transcript, and what is no
mean at all, such as the share of a codebook that was used, is another in a larger batch. So batches give sums, which
add up, and figures are made of the sums of all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, distributed

__all__ = ["MOST_COUNTED", "Figures", "Finish", "code_counts", "perplexity", "ratio", "usage"]

MOST_COUNTED = 2**22
"""Most ids, of all codebooks together, that are worth counting one by one."""

Finish = Callable[..., Tensor]
"""Makes a figure of its sums."""


class Figures:
    """The sums of an evaluation so far."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor, ...]] = {}
        self._finish: dict[str, Finish] = {}
        self._totals: dict[str, dict[str, float]] = {}

    def add(self, name: str, finish: Finish, sums: tuple[Tensor, ...]) -> None:
        """Add a batch's sums of a figure."""
        # On the CPU and in float64, so that the order of batches does not show.
        mine = tuple(each.detach().cpu().double() for each in sums)
        before = self._sums.get(name)
        self._sums[name] = mine if before is None else tuple(a + b for a, b in zip(before, mine, strict=True))
        self._finish[name] = finish

    def add_total(self, name: str, weights: Mapping[str, float]) -> None:
        """Have a figure be the weighted sum of others."""
        self._totals.setdefault(name, {}).update(weights)

    def finished(self, world_size: int = 1) -> dict[str, Tensor]:
        """Return the figures of all processes' sums, those of nothing left out, and start again."""
        gathered = [(self._sums, self._finish)] * world_size
        if world_size > 1:
            # As objects, because a process whose items lack something lacks its figure, too.
            distributed.all_gather_object(gathered, (self._sums, self._finish))
        finish = {name: each for _, part in gathered for name, each in part.items()}
        found = {}
        for name in finish:
            each = [part[name] for part, _ in gathered if name in part]
            value = finish[name](*(sum(column[1:], column[0]) for column in zip(*each, strict=True)))
            if not bool(value.isnan()):
                found[name] = value.float()
        for name, weights in self._totals.items():
            terms = [weight * found[part] for part, weight in weights.items() if part in found]
            if terms:
                found[name] = torch.stack(terms).sum()
        self._sums, self._finish, self._totals = {}, {}, {}
        return found


def ratio(total: Tensor, count: Tensor) -> Tensor:
    """Return a mean: what was added up over how much of it there was; NaN of nothing."""
    return total / count


def code_counts(ids: Tensor, codebook_size: int) -> Tensor:
    """Return how often each id was there, (K, codebook_size).

    Args:
        ids: (N,) or (N, K), without padding.
        codebook_size: Ids there are in a codebook.
    """
    columns = (ids[:, None] if ids.ndim == 1 else ids).T
    return torch.stack([torch.bincount(column, minlength=codebook_size) for column in columns])


def usage(counts: Tensor) -> Tensor:
    """Return the share of the ids in `code_counts` that are used, the mean over codebooks."""
    return (counts > 0).double().mean()


def perplexity(counts: Tensor) -> Tensor:
    """Return the exponential of the entropy in nats of the ids in `code_counts`, the mean over codebooks."""
    entropy: Tensor = torch.special.entr(counts / counts.sum(1, keepdim=True)).sum(1)
    return entropy.exp().mean()
