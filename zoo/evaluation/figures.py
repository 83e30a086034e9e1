"""Figures with their intervals, and what stands for those that cannot be measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.evaluation.items import Bootstrap
from zoo.evaluation.report import Figure
from zoo.metrics.bootstrap import bootstrap_interval
from zoo.metrics.tokens.similarity import chance_corrected

__all__ = ["Columns", "Row", "Sheet", "figure", "index", "interval", "mean_of", "ratio", "row_interval"]

Sheet = dict[str, Figure]
"""Figures of one stream of tokens, by name."""

Row = Mapping[str, float]
"""What was counted of one item, by name."""

Columns = Mapping[str, NDArray[np.float64]]
"""The same of several items, (items,) each."""

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


def row_interval(
    rows: Sequence[Row], statistic: Callable[[Columns], float], bootstrap: Bootstrap, reason: str
) -> Figure:
    """Return a statistic of items, and its interval from resampling them; or why there is none.

    Args:
        rows: One an item, all with the same names.
        statistic: Takes what was counted of several items, such as `ratio("tokens", "seconds")`.
        bootstrap: How the interval is made.
        reason: Why there is no figure, if the statistic is not finite.
    """
    names = list(rows[0]) if rows else []
    values = [[row[name] for name in names] for row in rows]
    return interval(values, bootstrap, reason, lambda drawn: statistic(dict(zip(names, drawn.T, strict=True))))


def ratio(above: str, below: str, scale: float = 1.0) -> Callable[[Columns], float]:
    """Return the statistic Σ above / Σ below; NaN if the latter is 0."""

    def of(columns: Columns) -> float:
        total = columns[below].sum()
        return scale * float(columns[above].sum() / total) if total else math.nan

    return of


def mean_of(name: str) -> Callable[[Columns], float]:
    """Return the statistic that is the mean over items."""
    return lambda columns: float(columns[name].mean())


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
