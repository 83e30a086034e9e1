"""Figures with their intervals, and what stands for those that cannot be measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.evaluation.items import Bootstrap
from zoo.evaluation.report import Figure
from zoo.metrics.bootstrap import bootstrap_interval
from zoo.metrics.rows import Row, Statistic, bootstrap_rows, columns
from zoo.metrics.tokens.similarity import chance_corrected

__all__ = ["Sheet", "figure", "index", "interval", "row_interval"]

Sheet = dict[str, Figure]
"""Figures of one stream of tokens, by name."""

_ALIKE = "unrelated recordings have equal tokens, too, so that nothing can be told"


def figure(value: float, reason: str) -> Figure:
    """Return a number without an interval, or why there is none."""
    return Figure(value) if math.isfinite(value) else Figure.missing(reason)


def interval(
    rows: Any, bootstrap: Bootstrap, reason: str, statistic: Callable[[NDArray[np.float64]], Any] = np.mean
) -> Figure:
    """Return a statistic of rows, one for each group, and its interval; or why there is none."""
    rows = np.asarray(rows, dtype=np.float64)
    if not len(rows) or not math.isfinite(statistic(rows)):
        return Figure.missing(reason)
    found = bootstrap_interval(
        rows, statistic, bootstrap.confidence, bootstrap.seed, 1 if len(rows) == 1 else bootstrap.num_resamples
    )
    return Figure(*found) if math.isfinite(found.low) else Figure(found.estimate)


def row_interval(rows: Sequence[Row], statistic: Statistic, bootstrap: Bootstrap, reason: str) -> Figure:
    """Return a statistic of items, and its interval from resampling them; or why there is none.

    Args:
        rows: One an item, all with the same names.
        statistic: Takes what was counted of several items, such as `ratio("tokens", "seconds")`.
        bootstrap: How the interval is made.
        reason: Why there is no figure, if the statistic is not finite.
    """
    if not rows or not math.isfinite(statistic(columns(rows))):
        return Figure.missing(reason)
    num_resamples = 1 if len(rows) == 1 else bootstrap.num_resamples
    found = bootstrap_rows(rows, statistic, bootstrap.confidence, bootstrap.seed, num_resamples)
    return Figure(*found) if math.isfinite(found.low) else Figure(found.estimate)


def index(similarity: Figure, floor: float) -> Figure:
    """Return a similarity corrected for chance, with its interval; the floor, of far more pairs, counts as known."""
    if similarity.reason:
        return similarity
    if not math.isfinite(floor):
        return Figure.missing("there are no unrelated recordings to compare with")
    if floor == 1:
        return Figure.missing(_ALIKE)
    low, high = (
        None if bound is None else chance_corrected(bound, floor) for bound in (similarity.low, similarity.high)
    )
    return Figure(chance_corrected(similarity.estimate, floor), low, high)
