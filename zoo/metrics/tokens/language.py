"""Whether tokens of a sentence stay the same in another language.

STAB-style language invariance: specification of STAB (arXiv 2409.02384), section 3.3. The paper compares equivalent
phrases in other words unknown to us. Chosen here are three figures, of which none may be read alone: `bag`, the overlap
of a sentence's token counts with its translation's; `retrieval`, whether a sentence's n-grams find its translation
among all; and `distribution`, one less the Jensen-Shannon divergence of the languages' token counts. The last can be
high with the others low: the languages then share an inventory, but no meaning.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.errors import InputError
from zoo.metrics.tokens.similarity import chance_corrected
from zoo.metrics.tokens.streams import Units, check_pairs, collapse_runs, one_stream
from zoo.metrics.tokens.vocabulary import jensen_shannon, kl_divergence, token_counts

__all__ = ["bag_similarity", "language_invariance", "retrieval", "retrieval_rows"]


def bag_similarity(a: Sequence[int], b: Sequence[int]) -> float:
    """Return the overlap of two sequences' counts whatever their order: Σ min / Σ max; 1 if both are empty.

    Example:
        >>> bag_similarity([1, 1, 2], [2, 1, 3])
        0.5
    """
    common = (Counter(a) & Counter(b)).total()
    either = len(a) + len(b) - common
    return common / either if either else 1.0


def retrieval(queries: Units, answers: Units, max_order: int = 3) -> dict[str, Tensor]:
    """Find each sentence's translation by what n-grams they share.

    Sentences are compared by the cosine of their counts of n-grams of orders 1 to `max_order`, each weighted by
    ln((1 + N) / (1 + n)) + 1, if n of the N answers have it. Of equally good answers the order is taken as random.

    Args:
        queries: Tokens of N sentences, one codebook.
        answers: Tokens of the same sentences in another language.
        max_order: The longest n-grams.

    Returns:
        `top1`, the expected share of sentences whose translation comes first, and `reciprocal_rank`, the mean of
        1 / its rank; the first is 1 / N by chance. NaN without sentences.

    Raises:
        InputError: There are not as many answers as queries, or max_order is below 1.
    """
    top1, reciprocal_rank = retrieval_rows(queries, answers, max_order).mean(0)
    return {"top1": top1, "reciprocal_rank": reciprocal_rank}


def retrieval_rows(queries: Units, answers: Units, max_order: int = 3) -> Tensor:
    """Return what `retrieval` is the mean of for each sentence, for `bootstrap_interval`; arguments are the same.

    Returns:
        float64 [N, 2], the chance that the translation comes first, and the expected reciprocal of its rank.
    """
    asked, given = one_stream(queries), one_stream(answers)
    check_pairs(asked, given)
    if max_order < 1:
        raise InputError(f"max_order must be at least 1, got {max_order!r}.")
    bags = [_ngrams(ids, max_order) for ids in given]
    found: Counter[tuple[int, ...]] = Counter(ngram for bag in bags for ngram in bag)
    where: defaultdict[tuple[int, ...], list[tuple[int, float]]] = defaultdict(list)
    for number, bag in enumerate(bags):
        for ngram, weight in _weighted(bag, found, len(given)).items():
            where[ngram].append((number, weight))
    rows = []
    for number, ids in enumerate(asked):
        scores = np.zeros(len(given))
        for ngram, weight in _weighted(_ngrams(ids, max_order), found, len(given)).items():
            for other, theirs in where[ngram]:
                scores[other] += weight * theirs
        # What is alike but for rounding is a tie, of which any order is as likely.
        better = int((scores > scores[number] + 1e-9).sum())
        alike = int((np.abs(scores - scores[number]) <= 1e-9).sum())
        reciprocal = math.fsum(1 / rank for rank in range(better + 1, better + alike + 1)) / alike
        rows.append([0.0 if better else 1 / alike, reciprocal])
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 2)


def language_invariance(
    first: Units, second: Units, *, vocab_size: int, max_pairs: int = 10_000, seed: int = 0
) -> dict[str, Tensor]:
    """Measure how alike the tokens of sentences are in two languages.

    Args:
        first: Tokens of N sentences, one codebook.
        second: Tokens of the same sentences in another language.
        vocab_size: V.
        max_pairs: Of the pairs of different sentences, which make the floor, at most so many are drawn.
        seed: Of the draw.

    Returns:
        `bag`, the mean `bag_similarity` of translations, `bag_floor`, that of different sentences, and `bag_index`,
        the former corrected for chance by the latter, of sequences with runs collapsed, and with `_raw` at their ends
        of sequences as they are; `top1` and `reciprocal_rank` of `retrieval` as they are, the mean of both directions,
        and `chance`, 1 / N; `distribution`, 1 - Jensen-Shannon divergence of all tokens; `kl` and `kl_back`, the
        divergences in bits with 0.5 added to each count, of the first from the second and the other way round. NaN
        where there is nothing to measure, and an index where the floor is 1.

    Raises:
        TokenError: An id is outside the vocabulary.
        InputError: There are not as many sentences in both languages, or max_pairs is below 1.
    """
    ours, theirs = one_stream(first, vocab_size), one_stream(second, vocab_size)
    check_pairs(ours, theirs)
    if max_pairs < 1:
        raise InputError(f"max_pairs must be at least 1, got {max_pairs!r}.")
    count = len(ours)
    mismatched = _mismatched(count, max_pairs, seed)
    figures: dict[str, float] = {"chance": 1 / count if count else math.nan}
    for ending in ("", "_raw"):
        a, b = (side if ending else [collapse_runs(ids) for ids in side] for side in (ours, theirs))
        matched = [bag_similarity(x, y) for x, y in zip(a, b, strict=True)]
        similarity = math.fsum(matched) / count if count else math.nan
        others = [bag_similarity(a[i], b[j]) for i, j in mismatched.tolist()]
        floor = math.fsum(others) / len(others) if others else math.nan
        figures |= {f"bag{ending}": similarity, f"bag_floor{ending}": floor}
        figures[f"bag_index{ending}"] = chance_corrected(similarity, floor)
    there, back = retrieval(ours, theirs), retrieval(theirs, ours)
    p, q = token_counts(ours, vocab_size), token_counts(theirs, vocab_size)
    has_tokens = bool(p.any()) and bool(q.any())
    return {
        **{name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()},
        **{name: (there[name] + back[name]) / 2 for name in there},
        "distribution": 1 - jensen_shannon(p, q),
        "kl": kl_divergence(p, q) if has_tokens else torch.tensor(math.nan, dtype=torch.float64),
        "kl_back": kl_divergence(q, p) if has_tokens else torch.tensor(math.nan, dtype=torch.float64),
    }


def _ngrams(ids: Sequence[int], max_order: int) -> Counter[tuple[int, ...]]:
    return Counter(
        tuple(ids[start : start + order]) for order in range(1, max_order + 1) for start in range(len(ids) - order + 1)
    )


def _weighted(
    bag: Counter[tuple[int, ...]], found: Counter[tuple[int, ...]], count: int
) -> dict[tuple[int, ...], float]:
    """Return a bag's weights, of length 1."""
    weights = {ngram: n * (math.log((1 + count) / (1 + found[ngram])) + 1) for ngram, n in bag.items()}
    norm = math.sqrt(math.fsum(weight**2 for weight in weights.values()))
    return {ngram: weight / norm for ngram, weight in weights.items()}


def _mismatched(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """Return pairs (i, j), i ≠ j, all or so many drawn without replacement, [P, 2]."""
    total = count * (count - 1)
    chosen = np.arange(total)
    if total > most:
        chosen = np.random.default_rng(seed).choice(total, most, replace=False)
    i, j = np.divmod(chosen, max(1, count - 1))
    return np.stack([i, j + (j >= i)], axis=1)
