"""How sure a measured number is: percentile bootstrap over the independent units of a test set."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from zoo.errors import InputError

__all__ = ["Interval", "bootstrap_interval"]


class Interval(NamedTuple):
    """An estimate and the interval it lies in with some confidence."""

    estimate: float
    low: float
    high: float


def bootstrap_interval(
    values: Tensor | NDArray[Any] | Sequence[float],
    statistic: Callable[[NDArray[np.float64]], Any] = np.mean,
    confidence: float = 0.95,
    seed: int = 0,
    num_resamples: int = 2000,
) -> Interval:
    """Estimate a statistic and its confidence interval by resampling whole units.

    Resample what is independent: episodes, clips or pictures, not the steps or tokens inside them, which resemble each
    other and make the interval far too narrow. Where units differ in size and the statistic is a ratio of sums, give
    one row of sums per unit:

        rows = [(squared_error.sum(), squared_error.size), ...]                     # one row an episode
        bootstrap_interval(rows, lambda r: r[:, 0].sum() / r[:, 1].sum())

    Args:
        values: One row per unit, [n] or [n, ...].
        statistic: Takes n rows, gives one number.
        confidence: Share of the resamples between the two bounds.
        seed: Of the resampling: equal arguments give equal bounds.
        num_resamples: How often to resample; the bounds themselves vary by a few percent of their distance at 2000.

    Returns:
        The statistic of `values`, and the (1 - confidence) / 2 quantiles from below and above of its resamples (Efron
        1979). With a single unit nothing is known about the spread, and both bounds are NaN.

    Raises:
        InputError: There is no unit, or an argument is out of range.

    Example:
        >>> bootstrap_interval([1.0, 2.0, 3.0, 4.0]).estimate
        2.5
    """
    rows = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)
    if rows.ndim == 0 or len(rows) == 0:
        raise InputError(f"The bootstrap needs at least one row of values, got shape {list(rows.shape)}.")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, got {confidence!r}.")
    if num_resamples < 1:
        raise InputError(f"num_resamples must be at least 1, got {num_resamples!r}.")
    estimate = float(statistic(rows))
    if len(rows) == 1:
        return Interval(estimate, math.nan, math.nan)
    generator = np.random.default_rng(seed)
    drawn = [float(statistic(rows[generator.integers(0, len(rows), len(rows))])) for _ in range(num_resamples)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(estimate, float(low), float(high))
