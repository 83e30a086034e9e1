"""Token sequences as the STAB-style metrics see them: one stream of ids an utterance.

Source: section 2 of the library's specification of the Speech Tokenizer Assessment Benchmark
(arXiv 2409.02384). The paper's own formulas were not available, so that its metrics are reconstructed here; figures are
"STAB-style", not the paper's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from zoo.errors import InputError, TokenError
from zoo.tokens import Tokens

__all__ = ["Units", "collapse_runs", "joint_stream", "key", "labelled", "one_stream"]

Units = Tokens | Sequence[Tensor] | Sequence[Sequence[int]]
"""Tokens of N utterances: `Tokens`, or N sequences of ids [T] (tensors or lists of integers)."""


def one_stream(units: Units, vocab_size: int | None = None) -> list[list[int]]:
    """Return the ids of each utterance as a list, without the padding of `Tokens`.

    Args:
        units: Tokens of N utterances with one codebook.
        vocab_size: V; if given, ids must lie in 0..V - 1.

    Raises:
        TokenError: There are several codebooks, ids are not integers, or one lies outside the vocabulary.
    """
    streams = []
    for number, row in enumerate(_rows(units)):
        if row.ndim != 1 or row.is_floating_point() or row.is_complex() or row.dtype == torch.bool:
            raise TokenError(
                f"utterance {number}: ids of one stream are integers [T], got {row.dtype} {list(row.shape)}. "
                "Of several codebooks measure one, ids[..., 0], or `joint_stream`."
            )
        ids = row.tolist()
        if vocab_size is not None and ids and not 0 <= min(ids) <= max(ids) < vocab_size:
            raise TokenError(
                f"utterance {number}: ids must lie in 0..{vocab_size - 1}, they span {min(ids)}..{max(ids)}."
            )
        streams.append(ids)
    return streams


def joint_stream(units: Units, codebook_sizes: Sequence[int]) -> list[Tensor]:
    """Return one stream in place of K codebooks: each position's tuple of ids as one id below the sizes' product.

    Args:
        units: Tokens of N utterances, ids [T, K].
        codebook_sizes: K sizes; the first codebook is the most significant digit.

    Returns:
        N tensors [T], int64.

    Raises:
        TokenError: Ids are not integers [T, K], lie outside their codebook, or the product exceeds 63 bits.

    Example:
        >>> joint_stream([torch.tensor([[1, 2], [0, 3]])], [2, 4])
        [tensor([6, 3])]
    """
    if not codebook_sizes or min(codebook_sizes) < 1 or math.prod(codebook_sizes) >= 2**63:
        raise TokenError(f"the product of codebook sizes must be below 2^63, each at least 1, got {codebook_sizes!r}.")
    sizes = torch.tensor(codebook_sizes, dtype=torch.int64)
    weights = torch.tensor([math.prod(codebook_sizes[k + 1 :]) for k in range(len(sizes))], dtype=torch.int64)
    streams = []
    for number, row in enumerate(_rows(units)):
        if row.shape[1:] != sizes.shape or row.is_floating_point():
            raise TokenError(
                f"utterance {number}: ids must be integers [T, {len(sizes)}], got {row.dtype} {list(row.shape)}."
            )
        row = row.to("cpu", torch.int64)
        if bool(((row < 0) | (row >= sizes)).any()):
            raise TokenError(f"utterance {number} has ids outside its codebooks of {list(codebook_sizes)}.")
        streams.append((row * weights).sum(1))
    return streams


def collapse_runs(ids: Sequence[int]) -> list[int]:
    """Return ids with every run of equal ones as one.

    Example:
        >>> collapse_runs([1, 1, 2, 2, 2, 3])
        [1, 2, 3]
    """
    return [token for token, _ in groupby(ids)]


def check_pairs(first: Sequence[object], second: Sequence[object]) -> None:
    """Raise InputError unless both have as many items."""
    if len(first) != len(second):
        raise InputError(f"there are {len(first)} items to compare with {len(second)}.")


def key(name: str) -> int:
    """Return a number for a name, the same in every process: 63 bits of its SHA-256."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1


def labelled(units: Units, vocab_size: int | None = None, **columns: Sequence[Any]) -> list[list[int]]:
    """Return the streams of utterances after a check that there are as many of everything.

    Raises:
        InputError: A column has another number of entries than there are utterances.
        TokenError: As `one_stream`.
    """
    streams = one_stream(units, vocab_size)
    for name, column in columns.items():
        if isinstance(column, str) or len(column) != len(streams):
            raise InputError(f"there are {len(streams)} utterances: give as many {name}, got {column!r:.80}.")
    return streams


def _rows(units: Units) -> list[Tensor]:
    if isinstance(units, Tokens):
        return [ids[:length] for ids, length in zip(units.ids, units.lengths.tolist(), strict=True)]
    return [row if isinstance(row, Tensor) else _row(row, number) for number, row in enumerate(units)]


def _row(row: Collection[int], number: int) -> Tensor:
    try:
        return torch.tensor(row, dtype=torch.int64) if len(row) == 0 else torch.tensor(row)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TokenError(f"utterance {number}: ids of one stream are integers [T]: {error}.") from error
