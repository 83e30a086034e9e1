"""How alike two token sequences are: the distances and similarities that the STAB-style metrics are made of.

Source: specification of STAB (arXiv 2409.02384), section 2. The paper's normalisation is unknown; chosen are the edit
distance over the longer length, and an F-score of n-grams (chrF, Popović 2015, on ids).
All are fractions in 0..1. Raw values depend on vocabulary and token rate; `chance_corrected` makes them comparable.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from zoo.errors import InputError
from zoo.metrics.tokens.edits import edit_distance
from zoo.metrics.tokens.streams import collapse_runs

__all__ = [
    "MEASURES",
    "chance_corrected",
    "ngram_f_score",
    "normalized_edit_distance",
    "similarities",
]

MEASURES = ("collapsed", "raw", "ngram")
"""What `similarities` returns, in its order; the first is the one to quote."""


def normalized_edit_distance(a: Sequence[int], b: Sequence[int]) -> float:
    """Return the edit distance (NED) over the longer length, in 0..1; that of two empty sequences is 0.

    Symmetric, but no metric: the triangle inequality can fail.

    Example:
        >>> normalized_edit_distance([1], [1, 2, 3, 4])
        0.75
    """
    longer = max(len(a), len(b))
    return edit_distance(a, b) / longer if longer else 0.0


def ngram_f_score(hypothesis: Sequence[int], reference: Sequence[int], max_order: int = 4, beta: float = 1.0) -> float:
    """Return the F-score of n-grams, less sensitive to order and length than an edit distance.

    Precision and recall count an n-gram no more often than the other side has it. Each is averaged over the orders that
    both sides are long enough for, and the F-score is that of the averages, as in chrF.

    Args:
        hypothesis: Ids.
        reference: Ids.
        max_order: N, orders 1..N are averaged.
        beta: How much more recall weighs than precision.

    Returns:
        0..1. Two empty sequences are alike (1), an empty one and another are not (0).

    Raises:
        InputError: max_order is below 1, or beta is not above 0.
    """
    if max_order < 1 or not (math.isfinite(beta) and beta > 0):
        raise InputError(f"max_order must be at least 1 and beta above 0, got {max_order!r} and {beta!r}.")
    orders = min(max_order, len(hypothesis), len(reference))
    if orders == 0:
        return float(len(hypothesis) == len(reference))
    precision = recall = 0.0
    for order in range(1, orders + 1):
        ours, theirs = _ngrams(hypothesis, order), _ngrams(reference, order)
        matches = (ours & theirs).total()
        precision += matches / ours.total() / orders
        recall += matches / theirs.total() / orders
    if precision + recall == 0:
        return 0.0
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def similarities(a: Sequence[int], b: Sequence[int]) -> tuple[float, float, float]:
    """Return how alike two sequences are, once for each of `MEASURES`.

    Returns:
        1 - NED of the sequences with runs collapsed, the same of the sequences as they are, and their n-gram F-score.
    """
    collapsed = 1 - normalized_edit_distance(collapse_runs(a), collapse_runs(b))
    return collapsed, 1 - normalized_edit_distance(a, b), ngram_f_score(a, b)


def chance_corrected(similarity: float, floor: float) -> float:
    """Return (S - S0) / (1 - S0): 0 where unrelated pairs are as alike, 1 where related ones are equal.

    Args:
        similarity: S, the mean over pairs that should be alike.
        floor: S0, the mean over pairs that should not.

    Returns:
        At most 1; negative below the floor. NaN where S0 is 1, as that of a tokenizer with one token only: it is not
        invariant to anything, it says nothing.

    Example:
        >>> chance_corrected(0.75, 0.5)
        0.5
    """
    return (similarity - floor) / (1 - floor) if floor != 1 else math.nan


def _ngrams(ids: Sequence[int], order: int) -> Counter[tuple[int, ...]]:
    return Counter(zip(*(ids[start:] for start in range(order)), strict=False))
