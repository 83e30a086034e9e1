"""Action sequences as chunks of one horizon, and what was made of the chunks as sequences again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.data.ragged import Ragged
from zoo.tokens import PAD_ID

__all__ = ["Chunks", "cut_at", "split"]


@dataclass(frozen=True)
class Chunks:
    """Action sequences cut into consecutive chunks of one horizon, those of an item after those of the item before.

    There are none past an item's end, so that one long item among short ones costs no more than it would alone.

    Args:
        values: (C, T, D); past an item's end its last action is repeated.
        valid: (C,) int64, the steps of each chunk that are data: T, or fewer in an item's last chunk.
        per_item: (B,) int64, chunks of each item.
        signal: (B,) int64, steps of each item.
        is_even: Whether all items have equally many chunks.
    """

    values: Tensor
    valid: Tensor
    per_item: Tensor
    signal: Tensor
    is_even: bool

    @property
    def is_first(self) -> Tensor:
        """Which chunks begin an item, (C,) bool."""
        first = torch.zeros(len(self.valid), dtype=torch.bool, device=self.valid.device)
        first[self.per_item.cumsum(0) - self.per_item] = True
        return first

    def padded(self, ids: Tensor) -> Tensor:
        """Return the ids (C, J) of the chunks one after the other, (B, n·J), padded to the most chunks of an item."""
        batch, size = len(self.per_item), ids.shape[1]
        if self.is_even:
            return ids.reshape(batch, -1)
        most = int(self.per_item.max())
        rows = ids.new_full((batch, most, size), PAD_ID)
        rows[torch.arange(most, device=ids.device) < self.per_item[:, None]] = ids
        return rows.view(batch, -1)


def split(actions: Ragged, horizon: int) -> Chunks:
    """Cut sequences (L, D) into consecutive chunks of `horizon` steps; nothing is dropped."""
    lengths, device = actions.lengths, actions.values.device
    per_item = -(-lengths // horizon)
    if actions.even_length is not None:
        x = actions.batch()
        batch, steps, dofs = x.shape
        count = -(-steps // horizon)
        if short := count * horizon - steps:
            x = torch.cat([x, x[:, -1:].expand(-1, short, -1)], 1)
        valid = torch.full((batch, count), horizon, device=device)
        valid[:, -1] = horizon - short
        return Chunks(x.reshape(-1, horizon, dofs), valid.view(-1), per_item, lengths, True)
    item = torch.arange(len(actions), device=device).repeat_interleave(per_item)
    number = torch.arange(len(item), device=device) - (per_item.cumsum(0) - per_item)[item]
    start, length = number * horizon, lengths[item]
    index = torch.minimum(start[:, None] + torch.arange(horizon, device=device), length[:, None] - 1)
    values = actions.values[index + (lengths.cumsum(0) - lengths)[item, None]]
    valid = (length - start).clamp(max=horizon)
    return Chunks(values, valid, per_item, lengths, bool((per_item == per_item[0]).all()))


def cut_at(actions: Tensor, ends: Tensor) -> Tensor:
    """Return actions (B, L, D) up to the latest of their `ends` (B,) in steps, 0 past each item's own."""
    first, last = (int(end) for end in ends.aminmax())
    actions = actions[:, :last]
    if first == last:  # as of a policy's chunks, whose calls are short
        return actions
    inside = torch.arange(last, device=actions.device) < ends[:, None]
    return torch.where(inside[:, :, None], actions, 0.0)
