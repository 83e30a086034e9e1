"""`Latents`: what stands before the quantizer, and of a continuous tokenizer all there is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zoo.errors import TokenError
from zoo.tokens.conditions import Conditions
from zoo.tokens.ids import as_rows

__all__ = ["Latents"]


@dataclass(frozen=True, eq=False)
class Latents:
    """A batch of sequences of vectors.

    Args:
        values: (B, T, D) floating, zeros past an item's length.
        lengths: (B,) int64, the valid positions of each item.
        model: Name of the tokenizer that made them, "" if unknown. `decode_latents` refuses another tokenizer's.
        grid: Arrangement of the T positions, such as (rows, columns), or None. Row-major.
        signal_lengths: (B,) int64, the length of each input in samples, frames or commands, or None if unknown.
        conditions: What the items were encoded and are decoded with beside their values, such as captions, or None.
    """

    values: Tensor
    lengths: Tensor
    model: str = ""
    grid: tuple[int, ...] | None = None
    signal_lengths: Tensor | None = None
    conditions: Conditions | None = None

    @classmethod
    def of(cls, values: Any, lengths: Any = None, *, model: str = "", grid: tuple[int, ...] | None = None) -> Latents:
        """Check vectors from anywhere and wrap them.

        Args:
            values: (B, T, D), or maps (B, D, *grid) if `grid` is given.
            lengths: (B,) valid positions; all if None.
            model: Name of the tokenizer they belong to.
            grid: Arrangement of the positions.

        Raises:
            TokenError: Values that are not floating or finite, or of another rank, or lengths that do not fit.
        """
        if not isinstance(values, Tensor) or not values.is_floating_point():
            raise TokenError(f"latents are a floating tensor (B, T, D), got {_kind(values)}.")
        if grid is not None and tuple(values.shape[2:]) == grid:
            values = values.flatten(2).transpose(1, 2)
        if values.ndim != 3:
            expected = "(B, T, D)" if grid is None else f"(B, T, D) or maps (B, D, {', '.join(map(str, grid))})"
            raise TokenError(f"latents have the shape {expected}, got {tuple(values.shape)}.")
        if not bool(values.isfinite().all()):
            raise TokenError("latents must be finite, and there are NaN or infinite values among them.")
        batch, positions, _ = values.shape
        if grid is not None and math.prod(grid) != positions:
            raise TokenError(f"a grid of {grid} has {math.prod(grid)} positions, the latents have {positions}.")
        full = torch.full((batch,), positions, dtype=torch.int64, device=values.device)
        checked = full if lengths is None else torch.as_tensor(lengths, device=values.device)
        if checked.shape != (batch,) or checked.dtype != torch.int64 or bool(((checked < 0) | (checked > full)).any()):
            raise TokenError(f"lengths are {batch} integers from 0 to {positions}, got {checked.tolist()}.")
        return cls(values, checked, model, grid)._cleared()

    @property
    def mask(self) -> Tensor:
        """(B, T) bool, True at valid positions."""
        return torch.arange(self.values.shape[1], device=self.values.device) < self.lengths[:, None]

    @property
    def maps(self) -> Tensor:
        """The values as maps (B, D, *grid).

        Raises:
            TokenError: They have no grid.
        """
        if self.grid is None:
            raise TokenError("these latents are a sequence without a grid: use `values`, (B, T, D).")
        return self.values.transpose(1, 2).reshape(len(self), -1, *self.grid)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"Latents({tuple(self.values.shape)}, model={self.model!r})"

    def __getitem__(self, items: Any) -> Latents:
        """Select items: an integer (which keeps the batch dimension and drops padding), a slice, integers or a mask.

        Raises:
            IndexError: Anything else, or an item that there is not.
        """
        rows = as_rows(items, len(self), self.values.device)
        signal = None if self.signal_lengths is None else self.signal_lengths[rows]
        conditions = None if self.conditions is None else self.conditions[rows]
        chosen = replace(
            self, values=self.values[rows], lengths=self.lengths[rows], signal_lengths=signal, conditions=conditions
        )
        if isinstance(items, (slice, list)) or getattr(items, "ndim", 0) != 0:
            return chosen
        end, size = int(chosen.lengths), self.values.shape[1]
        return replace(chosen, values=chosen.values[:, :end], grid=self.grid if end == size else None)

    def to(self, device: torch.device | str) -> Latents:
        """Move to a device."""
        signal = None if self.signal_lengths is None else self.signal_lengths.to(device)
        conditions = None if self.conditions is None else self.conditions.to(device)
        values, lengths = self.values.to(device), self.lengths.to(device)
        return replace(self, values=values, lengths=lengths, signal_lengths=signal, conditions=conditions)

    @staticmethod
    def cat(parts: Iterable[Latents]) -> Latents:
        """Join the items of several batches, padded to the longest.

        Raises:
            TokenError: Nothing to join, or parts of different width, model or kind of conditions.
        """
        parts = list(parts)
        if not parts:
            raise TokenError("there is nothing to concatenate: give at least one Latents.")
        kinds = {(part.model, part.values.shape[2]) for part in parts}
        if len(kinds) > 1:
            raise TokenError(f"only latents of one model and width can be concatenated, got {sorted(kinds)}.")
        longest = max(part.values.shape[1] for part in parts)
        signals = [part.signal_lengths for part in parts]
        known = [signal for signal in signals if signal is not None]
        return Latents(
            torch.cat(
                [torch.nn.functional.pad(part.values, (0, 0, 0, longest - part.values.shape[1])) for part in parts]
            ),
            torch.cat([part.lengths for part in parts]),
            parts[0].model,
            parts[0].grid if all(part.grid == parts[0].grid for part in parts) else None,
            torch.cat(known) if len(known) == len(parts) else None,
            Conditions.cat([part.conditions for part in parts]),
        )

    def _cleared(self) -> Latents:
        return replace(self, values=torch.where(self.mask[:, :, None], self.values, 0))


def _kind(values: Any) -> str:
    return str(values.dtype) if isinstance(values, Tensor) else type(values).__name__
