"""Batches of tokens put together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch

from zoo.errors import TokenError
from zoo.tokens.conditions import Conditions

if TYPE_CHECKING:
    from zoo.tokens.tokens import Tokens

__all__ = ["cat"]


def cat(parts: Iterable[Tokens], dim: Literal["batch", "time"]) -> Tokens:
    """Do what `Tokens.cat` says."""
    parts = list(parts)
    if not parts:
        raise TokenError("there is nothing to concatenate: give at least one Tokens.")
    if dim not in ("batch", "time"):
        raise TokenError(f"tokens are joined along 'batch' or 'time', got dim={dim!r}.")
    first = parts[0]
    for other in parts[1:]:
        for fact in ("codebook_size", "num_codebooks", "model", "base", "pad_id"):
            if getattr(other, fact) != getattr(first, fact):
                raise TokenError(
                    f"only tokens of one kind can be concatenated, but {fact} is {getattr(first, fact)!r} in one "
                    f"part and {getattr(other, fact)!r} in another."
                )
        if other.ids.ndim != first.ids.ndim:
            raise TokenError(
                f"ids (B, T) and (B, T, 1) cannot be joined: got {first.ids.ndim} and {other.ids.ndim} axes."
            )
        if dim == "time" and len(other) != len(first):
            raise TokenError(f"in time, parts need equal batch sizes, got {len(first)} and {len(other)}.")
    signals = [part.signal_lengths for part in parts]
    known = [signal for signal in signals if signal is not None]
    if dim == "batch":
        sequences = [item for part in parts for item in part._sequences()]
        grid = first.grid if all(part.grid == first.grid for part in parts) else None
        signal_lengths = torch.cat(known) if len(known) == len(parts) else None
        conditions = Conditions.cat([part.conditions for part in parts])
    else:
        sequences = [torch.cat(items) for items in zip(*(part._sequences() for part in parts), strict=True)]
        grid = None
        # A sum is the joined signal's length only where no part but the last was padded; decoders of segmented
        # signals know their own segment length, and others give back everything.
        signal_lengths = None
        conditions = first.conditions
        for other in parts[1:]:
            if conditions is not other.conditions and not (conditions and conditions.equal(other.conditions)):
                raise TokenError("in time, parts need the same conditions: one caption is of the whole item.")
    lengths = torch.tensor([len(s) for s in sequences], dtype=torch.int64, device=first.ids.device)
    longest = max((len(s) for s in sequences), default=0)
    ids = first.ids.new_full((len(sequences), longest, *first.ids.shape[2:]), 0)
    for row, sequence in zip(ids, sequences, strict=True):
        row[: len(sequence)] = sequence
    joined = replace(first, ids=ids, lengths=lengths, grid=grid, signal_lengths=signal_lengths, conditions=conditions)
    return joined._cleared()
