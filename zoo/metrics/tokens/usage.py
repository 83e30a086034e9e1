"""What tokens cost and how much of their vocabulary is at work."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from zoo.errors import InputError, TokenError

__all__ = ["TokenStatistics", "token_statistics"]

_MOST = torch.iinfo(torch.int64).max


def token_statistics(
    ids: Tensor, lengths: Tensor | None = None, *, vocab_size: int, num_values: int, duration: float
) -> dict[str, Tensor]:
    """Count tokens and the information in them.

    Args:
        ids: [B, J] token ids of B chunks. Several codebooks of one size are flattened by the caller.
        lengths: [B] tokens that count, all J by default; what follows them is padding and may hold anything.
        vocab_size: V; ids lie in 0..V - 1.
        num_values: Numbers a chunk holds before tokenization: T * D for actions.
        duration: Seconds of signal a chunk holds: T * dt.

    Returns:
        `tokens_per_chunk` and its extremes `_min` and `_max`; `bits_per_chunk`, tokens times log2 V; `compression`,
        num_values a token; `tokens_per_second` of signal; `vocabulary_used`, the share of ids seen at all;
        `entropy_per_slot` [J] in bits, of the ids at each position over the chunks that have it (NaN if none has), and
        `entropy_per_chunk`, the sum of these weighted by how many chunks have the position. The entropies are of
        observed frequencies and come out too low when there are few chunks for the vocabulary.

    Raises:
        TokenError: An id that counts lies outside the vocabulary, or ids are not integers [B, J].
        InputError: The lengths do not fit, or a size is not positive.
    """
    counts, tokens = _count(ids, lengths, vocab_size)
    extremes = (tokens.min(), tokens.max()) if len(tokens) else (tokens.new_tensor(_MOST), tokens.new_tensor(0))
    return _result(counts, tokens.new_tensor(len(tokens)), *extremes, num_values, duration)


class TokenStatistics(Metric):
    """`token_statistics` over a data set.

    Args:
        vocab_size: V.
        num_slots: The most tokens a chunk can have. Memory: 8 * num_slots * vocab_size bytes.
        num_values: Numbers a chunk holds before tokenization.
        duration: Seconds of signal a chunk holds.
    """

    is_differentiable = False
    full_state_update = False
    counts: Tensor
    num_chunks: Tensor
    fewest: Tensor
    most: Tensor

    def __init__(self, *, vocab_size: int, num_slots: int, num_values: int, duration: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check_sizes(vocab_size, num_values, duration)
        self.vocab_size, self.num_slots = vocab_size, num_slots
        self.num_values, self.duration = num_values, duration
        self.add_state("counts", torch.zeros(num_slots, vocab_size, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("num_chunks", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("fewest", torch.tensor(_MOST), dist_reduce_fx="min")
        self.add_state("most", torch.tensor(0), dist_reduce_fx="max")

    def update(self, ids: Tensor, lengths: Tensor | None = None) -> None:
        """Add the tokens of chunks: ids [B, J] with J up to `num_slots`, and the tokens of each that count."""
        counts, tokens = _count(ids, lengths, self.vocab_size)
        if len(tokens) and int(tokens.max()) > self.num_slots:
            raise InputError(f"A chunk has {int(tokens.max())} tokens, the metric was made for {self.num_slots}.")
        width = min(len(counts), self.num_slots)
        self.counts[:width] += counts[:width]
        self.num_chunks += len(tokens)
        if len(tokens):
            self.fewest = torch.minimum(self.fewest, tokens.min())
            self.most = torch.maximum(self.most, tokens.max())

    def compute(self) -> dict[str, Tensor]:
        """Return the result of `token_statistics` for all chunks so far."""
        return _result(self.counts, self.num_chunks, self.fewest, self.most, self.num_values, self.duration)


def _check_sizes(vocab_size: int, num_values: int, duration: float) -> None:
    if vocab_size < 1 or num_values < 1 or not (math.isfinite(duration) and duration > 0):
        raise InputError(
            f"vocab_size, num_values and duration must be positive, got {vocab_size}, {num_values}, {duration}."
        )


def _count(ids: Tensor, lengths: Tensor | None, vocab_size: int) -> tuple[Tensor, Tensor]:
    """Return how often each id stands at each position, [J, V], and the tokens of each chunk, [B]."""
    if ids.ndim != 2 or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TokenError(f"ids must be integers [chunks, tokens], got {ids.dtype} {list(ids.shape)}.")
    chunks, slots = ids.shape
    if lengths is None:
        lengths = torch.full((chunks,), slots, device=ids.device)
    if lengths.shape != (chunks,) or lengths.is_floating_point():
        raise InputError(f"lengths must be {chunks} integers, got {lengths.dtype} {list(lengths.shape)}.")
    if chunks and (int(lengths.min()) < 0 or int(lengths.max()) > slots):
        raise InputError(f"lengths must lie in 0..{slots} (the tokens), they span {lengths.min()}..{lengths.max()}.")
    tokens = lengths.to(ids.device, torch.int64)
    slot = torch.arange(slots, device=ids.device).expand(chunks, slots)
    valid = slot < tokens[:, None]
    seen = ids[valid].to(torch.int64)
    if len(seen) and (int(seen.min()) < 0 or int(seen.max()) >= vocab_size):
        raise TokenError(f"ids must lie in 0..{vocab_size - 1}, they span {int(seen.min())}..{int(seen.max())}.")
    counts = torch.bincount(slot[valid] * vocab_size + seen, minlength=slots * vocab_size)
    return counts.reshape(slots, vocab_size), tokens


def _result(
    counts: Tensor, num_chunks: Tensor, fewest: Tensor, most: Tensor, num_values: int, duration: float
) -> dict[str, Tensor]:
    vocab_size = counts.shape[1]
    _check_sizes(vocab_size, num_values, duration)
    at_slot = counts.sum(1).double()
    share = counts.double() / at_slot[:, None]
    entropy = -torch.xlogy(share, share).sum(1) / math.log(2)
    tokens = at_slot.sum() / num_chunks
    none = num_chunks == 0
    return {
        "tokens_per_chunk": tokens,
        "tokens_per_chunk_min": fewest.double().masked_fill(none, math.nan),
        "tokens_per_chunk_max": most.double().masked_fill(none, math.nan),
        "bits_per_chunk": tokens * math.log2(vocab_size),
        "compression": num_values / tokens,
        "tokens_per_second": tokens / duration,
        "vocabulary_used": (counts.sum(0) > 0).double().mean(),
        "entropy_per_slot": entropy,
        "entropy_per_chunk": (entropy.nan_to_num() * at_slot).sum() / num_chunks,
    }
