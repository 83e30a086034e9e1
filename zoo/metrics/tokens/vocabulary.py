"""How much of a vocabulary tokens use, how evenly, and how alike two uses of it are.

STAB-style vocabulary use: specification of STAB (arXiv 2409.02384), section 6, an extension, since it is unknown
whether the paper measures it; the divergences are those of section 3.3. Chosen here: entropies in bits of observed
frequencies ("plug-in", too low when there are few tokens for the vocabulary) beside Miller's and Madow's correction,
and always the number of tokens. Compare tokenizers at equal numbers, with `subsample_counts`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from zoo.errors import InputError, near_matches
from zoo.metrics.tokens.streams import Units, labelled, one_stream

__all__ = [
    "VocabularyUse",
    "expected_coverage",
    "jensen_shannon",
    "kl_divergence",
    "subsample_counts",
    "token_counts",
    "vocabulary_overlap",
    "vocabulary_use",
]

_RENYI_ORDER = 2.5


def token_counts(units: Units, vocab_size: int) -> Tensor:
    """Return how often each id occurs, int64 [V].

    Args:
        units: Tokens of utterances, one codebook.
        vocab_size: V.

    Raises:
        TokenError: An id is outside the vocabulary.
        InputError: V is below 1.
    """
    _check_vocab(vocab_size)
    ids = [token for stream in one_stream(units, vocab_size) for token in stream]
    return torch.bincount(torch.tensor(ids, dtype=torch.int64), minlength=vocab_size)


def vocabulary_use(counts: Tensor) -> dict[str, Tensor]:
    """Measure how much of a vocabulary is used and how evenly.

    Args:
        counts: [V], how often each id occurs.

    Returns:
        `num_tokens`, `num_used`, `coverage`, the share of V used; `entropy` in bits; `entropy_corrected`, with Miller's
        and Madow's (used - 1) / (2 N ln 2); `entropy_share`, entropy over log2 V; `perplexity`, 2 to the entropy;
        `renyi_efficiency`, Rényi's entropy of order 2.5 over log2 V, which weighs what is frequent. Shares of log2 V
        are NaN where V is 1. Without tokens all but the numbers and the coverage, which are 0, are NaN.

    Raises:
        InputError: Counts are not [V], or negative.
    """
    counts = _checked(counts)
    total = counts.sum()
    share = counts / total
    used = (counts > 0).sum().double()
    entropy = torch.special.entr(share).sum() / math.log(2)
    renyi = (share**_RENYI_ORDER).sum().log2() / (1 - _RENYI_ORDER)
    most = counts.new_tensor(math.log2(len(counts)))
    return {
        "num_tokens": total,
        "num_used": used,
        "coverage": used / len(counts),
        "entropy": entropy,
        "entropy_corrected": entropy + (used - 1) / (2 * total * math.log(2)),
        "entropy_share": entropy / most,
        "perplexity": 2**entropy,
        "renyi_efficiency": renyi / most,
    }


def expected_coverage(vocab_size: int, num_tokens: int) -> float:
    """Return the share of V ids that N uniform draws use on average, 1 - (1 - 1/V)^N: what a coverage is to be held to.

    Raises:
        InputError: V is below 1, or N below 0.
    """
    _check_vocab(vocab_size)
    if num_tokens < 0:
        raise InputError(f"num_tokens must be at least 0, got {num_tokens!r}.")
    return 1 - (1 - 1 / vocab_size) ** num_tokens


def subsample_counts(counts: Tensor, num_tokens: int, seed: int = 0) -> Tensor:
    """Return the counts of so many of the tokens, drawn without replacement, to compare tokenizers at equal numbers.

    Args:
        counts: [V] integers.
        num_tokens: At most the sum of the counts.
        seed: Equal arguments give equal counts.

    Raises:
        InputError: There are not so many tokens.
    """
    have = int(_checked(counts).sum())
    if not 0 <= num_tokens <= have:
        raise InputError(f"num_tokens must lie in 0..{have}, the tokens there are, got {num_tokens!r}.")
    # "count" works for any number of tokens, the other method only below 10^9.
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(
        counts.to("cpu", torch.int64).numpy(), num_tokens, method="count" if have < 10**8 else "marginals"
    )
    return torch.from_numpy(drawn)


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of two distributions given as counts or shares [V], in bits: 0..1.

    Returns:
        0 for equal ones, 1 for such without a common id; NaN where one is empty.

    Raises:
        InputError: They are not of one vocabulary.
    """
    p, q = _pair(p, q)
    p, q = p / p.sum(), q / q.sum()
    entropies = torch.special.entr(torch.stack([(p + q) / 2, p, q])).sum(1) / math.log(2)
    # Rounding would make it a little negative for equal distributions.
    divergence: Tensor = (entropies[0] - (entropies[1] + entropies[2]) / 2).clamp(0, 1)
    return divergence


def kl_divergence(p: Tensor, q: Tensor, smoothing: float = 0.5) -> Tensor:
    """Return the Kullback-Leibler divergence of p from q in bits.

    Args:
        p: [V] counts.
        q: [V] counts.
        smoothing: Added to every count of both. Without any, the divergence is infinite where p has an id that q lacks.

    Returns:
        At least 0; NaN where one is empty and not smoothed.

    Raises:
        InputError: They are not of one vocabulary, or smoothing is negative.
    """
    if not (math.isfinite(smoothing) and smoothing >= 0):
        raise InputError(f"smoothing must be at least 0, got {smoothing!r}.")
    p, q = (counts + smoothing for counts in _pair(p, q))
    p, q = p / p.sum(), q / q.sum()
    divergence: Tensor = (torch.xlogy(p, p) - torch.xlogy(p, q)).sum().clamp(min=0) / math.log(2)
    return divergence


def vocabulary_overlap(p: Tensor, q: Tensor) -> Tensor:
    """Return the share of the ids used by either [V] that both use; NaN where neither uses any.

    Raises:
        InputError: They are not of one vocabulary.
    """
    p, q = _pair(p, q)
    return ((p > 0) & (q > 0)).sum().double() / ((p > 0) | (q > 0)).sum()


class VocabularyUse(Metric):
    """`vocabulary_use` over a data set, and of each language in it.

    Args:
        vocab_size: V.
        languages: All that will be seen. Without any, languages make no difference.
    """

    is_differentiable = False
    full_state_update = False
    counts: Tensor

    def __init__(self, vocab_size: int, languages: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check_vocab(vocab_size)
        self.vocab_size, self.languages = vocab_size, tuple(languages)
        rows = max(1, len(self.languages))
        self.add_state("counts", torch.zeros(rows, vocab_size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, units: Units, languages: Sequence[str] | None = None) -> None:
        """Add utterances, one codebook, and the language of each if the metric has any.

        Raises:
            TokenError: An id is outside the vocabulary.
            InputError: Languages are missing, not declared, or not as many as utterances.
        """
        if not self.languages:
            self.counts[0] += token_counts(units, self.vocab_size).to(self.counts.device)
            return
        if languages is None:
            raise InputError(f"this metric is of {', '.join(self.languages)}: give the utterances' languages.")
        for stream, language in zip(labelled(units, languages=languages), languages, strict=True):
            if language not in self.languages:
                raise InputError(f"the language {language!r} is not declared: {near_matches(language, self.languages)}")
            row = self.languages.index(language)
            self.counts[row] += token_counts([stream], self.vocab_size).to(self.counts.device)

    def compute(self) -> dict[str, Tensor]:
        """Return `vocabulary_use` of all, and by language and pair of languages, in the order they were declared.

        Returns:
            As `vocabulary_use`; with languages also `coverage_by_language` [L] (NaN for one never seen) and
            `overlap` and `jensen_shannon` [L, L].
        """
        result = vocabulary_use(self.counts.sum(0))
        if self.languages:
            seen = self.counts.sum(1) > 0
            coverage = (self.counts > 0).double().mean(1)
            result["coverage_by_language"] = coverage.masked_fill(~seen, math.nan)
            for name, measure in (("overlap", vocabulary_overlap), ("jensen_shannon", jensen_shannon)):
                result[name] = torch.stack([torch.stack([measure(p, q) for q in self.counts]) for p in self.counts])
        return result


def _check_vocab(vocab_size: int) -> None:
    if vocab_size < 1:
        raise InputError(f"vocab_size must be at least 1, got {vocab_size!r}.")


def _checked(counts: Tensor) -> Tensor:
    if counts.ndim != 1 or len(counts) == 0 or bool((counts < 0).any()) or not bool(counts.isfinite().all()):
        raise InputError(f"counts must be [V] and not negative, got {counts.dtype} {list(counts.shape)}.")
    return counts.double()


def _pair(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    if p.shape != q.shape:
        raise InputError(f"two distributions must have one vocabulary, got {list(p.shape)} and {list(q.shape)}.")
    return _checked(p), _checked(q)
