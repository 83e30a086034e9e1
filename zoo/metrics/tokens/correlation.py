"""Whether a metric of tokens orders tokenizers as a downstream task does.

STAB-style correlation: specification of STAB (arXiv 2409.02384), section 7. That the paper correlates is known, its
tasks and values are not. Chosen here: Spearman's coefficient with the exact permutation test, since tokenizers are few:
of four even a perfect order has p = 0.083. Turn every measure so that more is better before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice, permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError

__all__ = ["Correlation", "correlate", "holm", "pearson", "spearman"]

_EXACT = 9  # 362 880 orders; for more tokenizers random ones are drawn
_DRAWN = 100_000
_BLOCK = 20_000

Numbers = Sequence[float] | NDArray[np.float64]


class Correlation(NamedTuple):
    """How a metric and a score go together over tokenizers.

    Attributes:
        rho: Spearman's coefficient.
        p_value: Share of orders with a coefficient as far from 0, two-sided.
        pearson: Pearson's coefficient.
        low: Lower end of the 95 % percentile interval of `rho` from resampling tokenizers.
        high: Its upper end.
        rho_least: The least `rho` with one tokenizer left out.
        rho_most: The greatest.
        num_tokenizers: n.
    """

    rho: float
    p_value: float
    pearson: float
    low: float
    high: float
    rho_least: float
    rho_most: float
    num_tokenizers: int


def pearson(x: Numbers, y: Numbers) -> float:
    """Return Pearson's coefficient; NaN if one of both is constant, or for fewer than two pairs.

    Raises:
        InputError: There are not as many of both, or one is not finite.
    """
    return float(_coefficients(*_pair(x, y)))


def spearman(x: Numbers, y: Numbers) -> float:
    """Return Spearman's coefficient: Pearson's of ranks, ties having their mean rank.

    Raises:
        InputError: There are not as many of both, or one is not finite.

    Example:
        >>> round(spearman([1, 2, 3, 4, 5], [10, 20, 30, 50, 40]), 6)
        0.9
    """
    a, b = _pair(x, y)
    return float(_coefficients(_ranks(a), _ranks(b)))


def correlate(metric: Numbers, score: Numbers, *, seed: int = 0, num_resamples: int = 1000) -> Correlation:
    """Correlate a metric with a downstream score over tokenizers.

    Args:
        metric: One number a tokenizer, n.
        score: One number a tokenizer, n.
        seed: Of the resampling, and of the orders drawn for more than nine tokenizers.
        num_resamples: How often tokenizers are resampled; resamples with a constant are left out.

    Returns:
        See `Correlation`. All coefficients are NaN if a side is constant or n is below 2, the interval and the
        extremes if they are of every resample.

    Raises:
        InputError: There are not as many of both, one is not finite, or num_resamples is below 1.
    """
    x, y = _pair(metric, score)
    if num_resamples < 1:
        raise InputError(f"num_resamples must be at least 1, got {num_resamples!r}.")
    count = len(x)
    rho = spearman(x, y)
    generator = np.random.default_rng(seed)
    p_value = math.nan if math.isnan(rho) else _p_value(_ranks(x), _ranks(y), generator)
    drawn = (generator.integers(0, count, count) for _ in range(num_resamples))
    resampled = _known([spearman(x[chosen], y[chosen]) for chosen in drawn] if count else [])
    left_out = _known([spearman(np.delete(x, i), np.delete(y, i)) for i in range(count)])
    low, high = np.quantile(resampled, [0.025, 0.975]).tolist() if resampled else (math.nan, math.nan)
    return Correlation(
        rho,
        p_value,
        pearson(x, y),
        low,
        high,
        min(left_out, default=math.nan),
        max(left_out, default=math.nan),
        count,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for how many there are (Holm 1979), in their order; NaN ones do not count and stay.

    Raises:
        InputError: One lies outside 0..1.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    for value in p_values:
        if not math.isnan(value) and not 0 <= value <= 1:
            raise InputError(f"p-values must lie in 0..1, got {value!r}.")
    order = sorted((value, place) for place, value in enumerate(p_values) if not math.isnan(value))
    corrected, most = list(p_values), 0.0
    for rank, (value, place) in enumerate(order):
        most = max(most, min(1.0, (len(order) - rank) * value))
        corrected[place] = most
    return corrected


def _pair(x: Numbers, y: Numbers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError(f"a correlation is of as many finite numbers on both sides, got {x!r:.80} and {y!r:.80}.")
    return a, b


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean: NDArray[np.float64] = np.cumsum(counts) - (counts - 1) / 2
    return mean[places]


def _coefficients(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Pearson's coefficient of x [n] with y [..., n]; NaN where one is constant."""
    if len(x) < 2:
        return np.full(y.shape[:-1], math.nan)
    a, b = x - x.mean(), y - y.mean(-1, keepdims=True)
    # A constant's rounded mean may differ from it.
    constant = (np.ptp(x) == 0) | (np.ptp(y, axis=-1) == 0)
    norms = np.where(constant, math.nan, np.sqrt((a**2).sum() * (b**2).sum(-1)))
    return np.asarray(np.clip(b @ a / norms, -1, 1))


def _p_value(x: NDArray[np.float64], y: NDArray[np.float64], generator: np.random.Generator) -> float:
    """Return the share of orders of the ranks y that go with x as far from 0 as the one there is."""
    least = abs(float(_coefficients(x, y))) - 1e-9  # rounding must not part what is equal
    exact = len(x) <= _EXACT
    orders = permutations(range(len(x)))
    extreme, total = (0, 0) if exact else (1, 1)  # of a sample, the order there is counts as one
    while exact or total < _DRAWN:
        if exact:
            block = np.array(list(islice(orders, _BLOCK)), dtype=np.int64)
            if len(block) == 0:
                break
        else:
            block = generator.permuted(np.tile(np.arange(len(x)), (min(_BLOCK, _DRAWN - total), 1)), axis=1)
        extreme += int((np.abs(_coefficients(x, y[block])) >= least).sum())
        total += len(block)
    return extreme / total


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]
