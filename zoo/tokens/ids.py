"""Ids and lengths from anywhere (lists, arrays, tensors) as checked tensors."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.errors import TokenError

__all__ = ["as_ids", "as_lengths", "as_rows"]


def as_ids(ids: Any) -> tuple[Tensor, list[int] | None]:
    """Return ids as int64 (B, T) or (B, T, K), and the lengths if they came as rows, None if as one tensor.

    Raises:
        TokenError: They are not integers, or not of this shape.
    """
    lengths = None
    try:
        if isinstance(ids, (list, tuple)) and all(_is_row(row) for row in ids):
            lengths = [len(row) for row in ids]
            ids = _padded([_as_integers(row) for row in ids], lengths)
        ids = _as_integers(ids)
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, TokenError):
            raise
        raise TokenError(f"ids must be integers in a tensor, an array or nested lists, got {ids!r:.80}.") from error
    if ids.ndim == 1:
        ids = ids[None]
    if ids.ndim not in (2, 3):
        raise TokenError(f"ids must be (B, T) or (B, T, K), got the shape {tuple(ids.shape)}.")
    return ids, lengths


def as_lengths(lengths: Any, batch_size: int, device: torch.device) -> Tensor:
    """Return one length an item, int64 (B,).

    Raises:
        TokenError: They are not integers, or not one an item.
    """
    try:
        ready = _as_integers(lengths, "lengths")
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, TokenError):
            raise
        raise TokenError(f"lengths must be {batch_size} integers, one an item, got {lengths!r:.80}.") from error
    if ready.shape != (batch_size,):
        raise TokenError(f"lengths must be {batch_size} integers, one an item, got the shape {tuple(ready.shape)}.")
    return ready.to(device)


def as_rows(index: Any, size: int, device: torch.device) -> slice | Tensor:
    """Return an index of items as a slice of step 1, or as their numbers (n,).

    Raises:
        IndexError: It is out of range, or not an integer, a slice, a list of integers or a mask (B,).
    """
    if isinstance(index, slice):
        start, stop, step = index.indices(size)
        # torch has no negative steps, and overflows at huge ones
        rows = range(start, stop, step)
        return slice(start, max(start, stop)) if step == 1 else torch.tensor(rows, dtype=torch.int64, device=device)
    if not isinstance(index, (bool, list)) and getattr(index, "ndim", 0) == 0:
        try:
            number = operator.index(index)
        except TypeError:
            raise IndexError(f"items take an integer, a slice, a list of integers or a mask, got {index!r}.") from None
        if not -size <= number < size:
            raise IndexError(f"item {number} of {size}.")
        return slice(number % size, number % size + 1)
    try:
        given = index if isinstance(index, Tensor) else torch.as_tensor(index, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        given = torch.empty(0, 0, dtype=torch.float32, device="cpu")
    given = given.long() if given.shape == (0,) else given
    is_mask = given.dtype == torch.bool and given.shape == (size,)
    if not is_mask and (
        given.ndim != 1 or given.dtype == torch.bool or given.is_floating_point() or given.is_complex()
    ):
        raise IndexError(f"items take an integer, a slice, a list of integers or a mask ({size},), got {index!r:.80}.")
    numbers = given.nonzero()[:, 0] if is_mask else given.long()
    if numbers.numel() and not -size <= int(numbers.min()) <= int(numbers.max()) < size:
        raise IndexError(f"items {numbers.tolist()} of {size}.")
    return numbers.to(device)


def _is_row(row: Any) -> bool:
    return isinstance(row, (list, tuple)) or (isinstance(row, (Tensor, np.ndarray)) and row.ndim > 0)


def _as_integers(values: Any, what: str = "ids") -> Tensor:
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "iu":
            raise TokenError(f"{what} must be integers, got an array of {values.dtype}.")
        values = values.astype(np.int64)  # takes what torch refuses: other byte orders, negative strides
    ready = values if isinstance(values, Tensor) else torch.as_tensor(values, device="cpu")  # not the default one
    if not isinstance(values, (Tensor, np.ndarray)) and not ready.numel():
        ready = ready.long()  # an empty list has no type of its own
    if ready.dtype == torch.bool or ready.is_floating_point() or ready.is_complex():
        remedy = "; a model's logits need an argmax first" if what == "ids" and ready.is_floating_point() else ""
        raise TokenError(f"{what} must be integers, got {ready.dtype}{remedy}.")
    return ready.to(torch.int64)


def _padded(rows: Sequence[Tensor], lengths: Sequence[int]) -> Tensor:
    """Return rows (T_i,) or (T_i, K) of unequal length as one tensor, padded with zeros."""
    filled = [row for row in rows if len(row)]
    shape = next((row.shape[1:] for row in rows if len(row) or row.ndim > 1), torch.Size())
    device = filled[0].device if filled else torch.device("cpu")
    padded = torch.zeros((len(rows), max(lengths, default=0), *shape), dtype=torch.int64, device=device)
    for target, row in zip(padded, rows, strict=True):
        if len(row):
            if row.shape[1:] != shape:
                raise TokenError(
                    f"all items must have the same number of codebooks, got the shapes {tuple(filled[0].shape)} and "
                    f"{tuple(row.shape)}."
                )
            target[: len(row)] = row
    return padded
