"""Sums and samples over all processes of a distributed run; over the one process otherwise."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

__all__ = ["sample_rows", "total"]


def total(x: Tensor) -> Tensor:
    """Return the sum of x over processes, the same on each; x itself may be overwritten."""
    if _world_size() > 1:
        distributed.all_reduce(x)
    return x


def sample_rows(rows: Tensor, num: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw rows at random, without replacement, from those of all processes, the same on each process.

    Which ones are drawn depends on the generator of the first process and on the number of rows, not on how they are
    spread: processes with parts of a batch draw what one process with the whole of it draws.

    Args:
        rows: (N, D), of any N.
        num: How many to draw; all of them, in random order, if there are fewer.
        generator: Of random numbers; the CPU's default one if None.
    """
    world, rank = _world_size(), distributed.get_rank() if _world_size() > 1 else 0
    sizes = torch.zeros(world, dtype=torch.int64, device=rows.device)
    sizes[rank] = len(rows)
    ends = total(sizes).cumsum(0).tolist()
    order = torch.randperm(ends[-1], generator=generator, device="cpu" if generator is None else generator.device)
    picks = order[:num].to(rows.device)
    if world > 1:
        distributed.broadcast(picks, 0)
    local = picks - (ends[rank] - len(rows))
    mine = (local >= 0) & (local < len(rows))
    drawn = rows.new_zeros(len(picks), rows.shape[1])
    drawn[mine] = rows[local[mine]]
    # Each row comes from one process and is zero on the others, so the sum is exact.
    return total(drawn)


def _world_size() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
