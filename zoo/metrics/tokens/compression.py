"""How far tokens can be compressed: the cost of fixed and Huffman codes, and how much an id tells of the next.

STAB-style compressibility by Huffman codes: specification of STAB (arXiv 2409.02384), section 5.1. The paper names
"Huffman encoding efficiency" without a formula that could be read, so that four are given. Chosen here: the code is
made of the counts of a training split with one added to each, so that every id has a word, and measured on a test
split. Bits a second of signal is the figure to quote, the only one that can be compared across vocabularies and rates.

Byte pairs are in `zoo.metrics.tokens.byte_pairs`.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.metrics.tokens.streams import Units, one_stream

__all__ = ["bitrate", "conditional_entropy", "huffman_efficiency", "huffman_lengths"]

_LARGEST_CODE = 2**20


def bitrate(token_rate: float, codebook_sizes: Sequence[int]) -> float:
    """Return the bits a second of tokens as they are: the rate times log2 of every codebook's size.

    Args:
        token_rate: Positions a second, Hz.
        codebook_sizes: K sizes.

    Raises:
        InputError: The rate is not above 0, or a size below 1.

    Example:
        >>> bitrate(25, [8192])
        325.0
    """
    if min(codebook_sizes, default=0) < 1:
        raise InputError(f"codebook sizes must be at least 1, got {codebook_sizes!r}.")
    _check_rate(token_rate)
    return token_rate * math.fsum(math.log2(size) for size in codebook_sizes)


def huffman_lengths(counts: Tensor) -> Tensor:
    """Return the length in bits of each id's word in a Huffman code, int64 [V].

    Args:
        counts: [V] how often each id occurs, or its probability.

    Returns:
        0 for ids that do not occur, and for an id that is the only one. Of the best codes it is one with the least
        longest word. What they all have in common is the mean length.

    Raises:
        InputError: Counts are not [V] or negative, or there are more than 2^20.

    Example:
        >>> huffman_lengths(torch.tensor([4, 2, 1, 1])).tolist()
        [1, 2, 3, 3]
    """
    if counts.ndim != 1 or bool((counts < 0).any()) or not bool(counts.isfinite().all()):
        raise InputError(f"counts must be [V] and not negative, got {counts.dtype} {list(counts.shape)}.")
    if len(counts) > _LARGEST_CODE:
        raise InputError(f"a code of {len(counts)} words is too large: 2^20 at most. Measure one codebook at a time.")
    used = counts.nonzero()[:, 0].tolist()
    # Ties are broken by age, so that subtrees are joined late and words stay short.
    heap = [(weight, number) for number, weight in enumerate(counts[used].tolist())]
    heapq.heapify(heap)
    parents = [0] * max(0, 2 * len(used) - 1)
    for number in range(len(used), len(parents)):
        (first, left), (second, right) = heapq.heappop(heap), heapq.heappop(heap)
        parents[left] = parents[right] = number
        heapq.heappush(heap, (first + second, number))
    depths = [0] * len(parents)
    for number in range(len(parents) - 2, -1, -1):
        depths[number] = depths[parents[number]] + 1
    lengths = torch.zeros(len(counts), dtype=torch.int64)
    lengths[used] = torch.tensor(depths[: len(used)], dtype=torch.int64)
    return lengths


def huffman_efficiency(train: Tensor, test: Tensor, *, token_rate: float, smoothing: int = 1) -> dict[str, Tensor]:
    """Measure what a Huffman code made on one split costs on another.

    Args:
        train: [V] counts that the code is made of.
        test: [V] counts that it is measured on.
        token_rate: Tokens a second of signal, Hz.
        smoothing: Added to the training counts. If 0, an id of `test` without a word makes everything infinite or 0.

    Returns:
        `bits_per_second`, the figure to quote; `bits_per_token`, the mean length L; `entropy` H of `test` in bits;
        `entropy_efficiency`, H / L; `fixed_ratio`, log2 V / L; `saving`, 1 - L / log2 V. If both splits have only one
        id and it is the same, L is 0 and the two ratios are NaN. All are NaN if `test` is empty.

    Raises:
        InputError: Vocabularies differ or are too large, or an argument is out of range.
    """
    _check_rate(token_rate)
    if train.shape != test.shape or smoothing < 0:
        raise InputError(
            f"both splits need counts of one vocabulary and smoothing at least 0, got {list(train.shape)}, "
            f"{list(test.shape)} and {smoothing!r}."
        )
    lengths = huffman_lengths(train + smoothing)  # checks the counts, too
    fixed = train.new_tensor(math.log2(len(train)), dtype=torch.float64)
    share = test.double() / test.sum()
    entropy = torch.special.entr(share).sum() / math.log(2)
    bits = (share * lengths.to(share.device)).sum()
    seen = (train > 0) | (test > 0)
    if int(seen.sum()) == 1 and bool(test.any()):
        bits = torch.zeros_like(bits)  # smoothing gives a word to what never comes
    elif bool(((train + smoothing == 0) & (test > 0)).any()):
        bits = torch.full_like(bits, math.inf)
    return {
        "bits_per_second": token_rate * bits,
        "bits_per_token": bits,
        "entropy": entropy,
        "entropy_efficiency": entropy / bits if bits else torch.full_like(bits, math.nan),
        "fixed_ratio": fixed / bits if bits else torch.full_like(bits, math.nan),
        "saving": 1 - bits / fixed,
    }


def conditional_entropy(units: Units) -> float:
    """Return the bits that an id adds to the one before it: the first-order entropy H(X_t | X_t-1) of observed pairs.

    Times the token rate it is what a code with one token of memory needs. It comes out too low when there are few
    tokens for the square of the vocabulary.

    Args:
        units: Tokens of utterances, one codebook; pairs do not cross from one to the next.

    Returns:
        Bits a token; NaN without a pair.
    """
    pairs: Counter[tuple[int, int]] = Counter()
    for stream in one_stream(units):
        pairs.update(pairwise(stream))
    firsts: Counter[int] = Counter()
    for (first, _), count in pairs.items():
        firsts[first] += count
    total = pairs.total()
    if not total:
        return math.nan
    return math.fsum(count / total * math.log2(firsts[pair[0]] / count) for pair, count in pairs.items())


def _check_rate(token_rate: float) -> None:
    if not (math.isfinite(token_rate) and token_rate > 0):
        raise InputError(f"token_rate must be above 0, got {token_rate!r}.")
