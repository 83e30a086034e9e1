"""`Conditions`: what a signal was encoded and is decoded with beside its tokens, such as a caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.errors import TokenError

__all__ = ["Conditions"]


@dataclass(frozen=True, eq=False)
class Conditions:
    """One caption an item, as text, as a text encoder's states, or both.

    Args:
        captions: B strings, "" where an item has none; None if only states are known.
        states: (B, L, D) what a text encoder made of them, or None.
        mask: (B, L) bool, True at the states that count; all if None.
    """

    captions: tuple[str, ...] | None = None
    states: Tensor | None = None
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if self.captions is None and self.states is None:
            raise TokenError("conditions need captions, states, or both.")
        if self.captions is not None and not all(isinstance(caption, str) for caption in self.captions):
            raise TokenError("captions are strings, one an item.")
        if self.states is not None and (self.states.ndim != 3 or not self.states.is_floating_point()):
            raise TokenError(f"states are floating (B, L, D), got {self.states.dtype} {tuple(self.states.shape)}.")
        if self.captions is not None and self.states is not None and len(self.captions) != len(self.states):
            raise TokenError(f"{len(self.captions)} captions and the states of {len(self.states)} items differ.")
        if self.mask is not None:
            wanted = None if self.states is None else self.states.shape[:2]
            if self.mask.dtype != torch.bool or self.mask.shape != wanted:
                raise TokenError(f"the mask is bool {tuple(wanted or ())}, not {tuple(self.mask.shape)}.")

    @classmethod
    def of(cls, caption: str | Sequence[str], batch: int) -> Conditions:
        """Return the captions of a batch: one for each item, or one for all.

        Raises:
            TokenError: Another number of captions.
        """
        captions = (caption,) * batch if isinstance(caption, str) else tuple(caption)
        if len(captions) != batch:
            raise TokenError(f"{batch} items need as many captions, or a single one for all, got {len(captions)}.")
        return cls(captions)

    def __len__(self) -> int:
        return len(self.captions) if self.captions is not None else len(self.states)  # type: ignore[arg-type]

    def __getitem__(self, items: slice | Tensor) -> Conditions:
        """Select items by a slice, or by a tensor of indices or bools (B,)."""
        numbers = torch.arange(len(self), device="cpu")[items.cpu() if isinstance(items, Tensor) else items].tolist()
        return Conditions(
            None if self.captions is None else tuple(self.captions[i] for i in numbers),
            None if self.states is None else self.states[items],
            None if self.mask is None else self.mask[items],
        )

    def to(self, device: torch.device | str) -> Conditions:
        """Move to a device."""
        states = None if self.states is None else self.states.to(device)
        return replace(self, states=states, mask=None if self.mask is None else self.mask.to(device))

    def equal(self, other: Any) -> bool:
        """Whether both hold the same captions and states, padding aside."""
        if not isinstance(other, Conditions) or self.captions != other.captions or len(self) != len(other):
            return False
        if self.states is None or other.states is None:
            return self.states is other.states
        return all(torch.equal(a, b) for a, b in zip(self.rows(), other.rows(), strict=True))

    def rows(self) -> list[Tensor]:
        """Return the states of each item that count, (L_i, D); nothing if only captions are known."""
        if self.states is None:
            return []
        if self.mask is None:
            return list(self.states)
        return [row[mask] for row, mask in zip(self.states, self.mask, strict=True)]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the states that count, one item after another, and how many each has; nothing if there are none."""
        if self.states is None:
            return {}
        rows = self.rows()
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        return {"condition_states": torch.cat(rows).float().cpu().numpy(), "condition_lengths": lengths}

    @classmethod
    def from_arrays(
        cls, captions: tuple[str, ...] | None, states: np.ndarray | None, lengths: np.ndarray | None, batch: int
    ) -> Conditions | None:
        """Undo `to_arrays` for `batch` items; None if there is nothing.

        Raises:
            TokenError: What there is contradicts itself.
        """
        if captions is not None and len(captions) != batch:
            raise TokenError(f"{batch} items need as many captions, got {len(captions)}.")
        if states is None or lengths is None:
            if states is not None or lengths is not None:
                raise TokenError("condition_states and condition_lengths come together.")
            return None if captions is None else cls(captions)
        if lengths.dtype != np.int64 or lengths.shape != (batch,) or (lengths < 0).any():
            raise TokenError(f"condition_lengths must be I64 ({batch},) and 0 or more.")
        if states.dtype != np.float32 or states.ndim != 2 or sum(lengths.tolist()) != len(states):
            raise TokenError(f"condition_states must be F32 ({sum(lengths.tolist())}, D), got {states.shape}.")
        rows = torch.split(torch.from_numpy(states), lengths.tolist())
        padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
        mask = torch.arange(padded.shape[1], device="cpu") < torch.from_numpy(lengths)[:, None]
        return cls(captions, padded, mask)

    @staticmethod
    def cat(parts: Sequence[Conditions | None]) -> Conditions | None:
        """Join the conditions of several batches; None if no batch has any.

        Raises:
            TokenError: Some have conditions and some have none, or they are of different kinds or widths.
        """
        known = [part for part in parts if part is not None]
        if not known:
            return None
        kinds = {(p.captions is None, None if p.states is None else p.states.shape[2]) for p in known}
        if len(known) != len(parts) or len(kinds) > 1:
            raise TokenError("only tokens with conditions of one kind can be joined: captions, states of one width.")
        captions = None if known[0].captions is None else tuple(c for p in known for c in p.captions or ())
        if known[0].states is None:
            return Conditions(captions)
        rows = [row for part in known for row in part.rows()]
        lengths = torch.tensor([len(row) for row in rows], device=rows[0].device)
        states = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return Conditions(captions, states, torch.arange(states.shape[1], device=states.device) < lengths[:, None])
