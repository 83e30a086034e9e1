"""How far tokens can be compressed by joining frequent pairs: byte-pair encoding of integers.

STAB-style compressibility by byte pairs (BPE): specification of STAB (arXiv 2409.02384), section 5.2. The paper names
"byte-pair encoding efficiency" without a formula that could be read. Chosen here: merges are learned on a training
split and the ratio of tokens before and after is measured on a test split; merges never cross utterances, learning ends
when no pair occurs twice, the smaller of equally frequent pairs goes first, and of a run of one id pairs are counted
without overlap (three of it have one pair).
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.metrics.tokens.streams import Units, one_stream

__all__ = [
    "apply_merges",
    "byte_pair_costs",
    "byte_pair_efficiency",
    "learn_merges",
]

Pair = tuple[int, int]


def learn_merges(units: Units, vocab_size: int, max_merges: int) -> list[Pair]:
    """Return the merges that byte-pair encoding learns, first the most frequent pair.

    Each costs a pass over the utterances that have the pair.

    Args:
        units: Tokens of utterances, one codebook.
        vocab_size: V. Merge m makes the new id V + m of a pair of ids below it.
        max_merges: At most so many.

    Returns:
        Fewer than `max_merges` if no pair occurs twice any more.

    Raises:
        TokenError: An id is outside the vocabulary.
        InputError: max_merges is negative.
    """
    if max_merges < 0:
        raise InputError(f"max_merges must be at least 0, got {max_merges!r}.")
    streams = one_stream(units, vocab_size)
    counts: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)  # where a pair is, or was
    for number, stream in enumerate(streams):
        for pair, count in _pairs(stream).items():
            counts[pair] += count
            places[pair].add(number)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < max_merges:
        negative, pair = heapq.heappop(heap)
        if -negative != counts[pair]:
            continue  # the count has changed since; the pair is in the heap again with the new one
        if -negative < 2:
            break
        changed: Counter[Pair] = Counter()
        for number in places.pop(pair):
            before = _pairs(streams[number])
            streams[number] = _merge(streams[number], pair, vocab_size + len(merges))
            after = _pairs(streams[number])
            changed.update(after)
            changed.subtract(before)
            for other in after.keys() - before.keys():
                places[other].add(number)
        merges.append(pair)
        for other, change in changed.items():
            if change:
                counts[other] += change
                heapq.heappush(heap, (-counts[other], other))
    return merges


def apply_merges(ids: Sequence[int], vocab_size: int, merges: Sequence[Pair]) -> list[int]:
    """Return an utterance's ids after all merges, in the order they were learned.

    Args:
        ids: Of one utterance.
        vocab_size: V, as when the merges were learned.
        merges: From `learn_merges`.
    """
    ids = list(ids)
    ranks = {pair: number for number, pair in enumerate(merges)}
    while True:
        rank = min((ranks.get(pair, len(merges)) for pair in pairwise(ids)), default=len(merges))
        if rank == len(merges):
            return ids
        ids = _merge(ids, merges[rank], vocab_size + rank)


def byte_pair_efficiency(
    train: Units, test: Units, *, vocab_size: int, token_rate: float, max_merges: int | None = None
) -> dict[str, Tensor]:
    """Measure how many tokens byte-pair encoding learned on one split leaves of another.

    Args:
        train: Tokens of utterances that merges are learned on, one codebook.
        test: Tokens of utterances that they are measured on.
        vocab_size: V.
        token_rate: Tokens a second of signal, Hz.
        max_merges: M; V if None. Give 4096, too, for a figure that does not depend on V.

    Returns:
        `ratio`, tokens before over tokens after, the figure to quote; `tokens_per_second` after; `num_merges` learned;
        `bits_per_second`, the tokens after times log2 of V and the merges; `gain`, bits of the tokens before over those
        after, below 1 where longer codes cost more than fewer of them save. All but `num_merges` are NaN if `test` is
        empty, `gain` also where V is 1 and nothing was merged.

    Raises:
        TokenError: An id is outside the vocabulary.
        InputError: An argument is out of range.
    """
    if not (math.isfinite(token_rate) and token_rate > 0) or vocab_size < 1:
        raise InputError(f"token_rate must be above 0 and vocab_size at least 1, got {token_rate!r}, {vocab_size!r}.")
    streams = one_stream(test, vocab_size)
    merges = learn_merges(train, vocab_size, vocab_size if max_merges is None else max_merges)
    before = sum(map(len, streams))
    after = sum(len(apply_merges(stream, vocab_size, merges)) for stream in streams)
    costs = byte_pair_costs(before, after, num_merges=len(merges), vocab_size=vocab_size, token_rate=token_rate)
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in costs.items()}


def byte_pair_costs(
    before: int, after: int, *, num_merges: int, vocab_size: int, token_rate: float
) -> dict[str, float]:
    """Return what `byte_pair_efficiency` does, of merges and of tokens that were counted before and after them."""
    ratio = before / after if after else math.nan
    bits = token_rate / ratio * math.log2(vocab_size + num_merges)
    return {
        "ratio": ratio,
        "tokens_per_second": token_rate / ratio,
        "num_merges": float(num_merges),
        "bits_per_second": bits,
        "gain": token_rate * math.log2(vocab_size) / bits if bits else math.nan,
    }


def _pairs(ids: Sequence[int]) -> Counter[Pair]:
    """Return how often each pair can be merged."""
    counts: Counter[Pair] = Counter()
    last_overlaps = False
    for pair in pairwise(ids):
        # Of a run only every other pair can be merged, beginning with its first.
        if pair[0] == pair[1]:
            counts[pair] += not last_overlaps
            last_overlaps = not last_overlaps
        else:
            counts[pair] += 1
            last_overlaps = False
    return counts


def _merge(ids: Sequence[int], pair: Pair, new: int) -> list[int]:
    merged: list[int] = []
    place = 0
    while place < len(ids):
        if ids[place] == pair[0] and tuple(ids[place : place + 2]) == pair:
            merged.append(new)
            place += 2
        else:
            merged.append(ids[place])
            place += 1
    return merged
