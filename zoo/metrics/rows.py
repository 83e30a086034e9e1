"""Rows and statistics of rows: what any figure over a data set is made of, and what the bootstrap resamples.

A *row* is what was counted of one item, by name; a *statistic* takes the columns of several rows and gives a figure:

    rows = [{"squared_error": 2.0, "values": 8}, {"squared_error": 1.0, "values": 4}]
    ratio("squared_error", "values")(columns(rows))                             # 0.25, the mean squared error
    bootstrap_rows(rows, ratio("squared_error", "values")).low                  # … and how sure it is
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from zoo.errors import InputError
from zoo.metrics.bootstrap import Interval, bootstrap_interval

__all__ = ["Columns", "Row", "Statistic", "bootstrap_rows", "columns", "mean_of", "ratio"]

Row = Mapping[str, float]
"""What was counted of one item, by name."""

Columns = Mapping[str, NDArray[np.float64]]
"""The same of several items, (items,) each."""

Statistic = Callable[[Columns], float]
"""A figure of several items; NaN if they have nothing to tell."""


def columns(rows: Sequence[Row]) -> Columns:
    """Return what was counted of several items, by name.

    Raises:
        InputError: The rows have not all the same names.
    """
    names = list(rows[0]) if rows else []
    for row in rows:
        if row.keys() != set(names):
            raise InputError(f"rows must have the same names, got {sorted(row.keys() ^ set(names))} in some only.")
    table = np.array([[row[name] for name in names] for row in rows], dtype=np.float64).reshape(len(rows), len(names))
    return dict(zip(names, table.T, strict=True))


def bootstrap_rows(
    rows: Sequence[Row],
    statistic: Statistic,
    confidence: float = 0.95,
    seed: int = 0,
    num_resamples: int = 2000,
) -> Interval:
    """Return a statistic of rows and its interval from resampling them; see `bootstrap_interval`."""
    found = columns(rows)
    names, table = list(found), np.column_stack(list(found.values())) if found else np.zeros((0, 0))
    return bootstrap_interval(
        table, lambda drawn: statistic(dict(zip(names, drawn.T, strict=True))), confidence, seed, num_resamples
    )


def ratio(above: str, below: str, scale: float = 1.0) -> Statistic:
    """Return the statistic Σ above / Σ below, times a scale; NaN if the latter is 0."""

    def of(rows: Columns) -> float:
        total = rows[below].sum()
        return scale * float(rows[above].sum() / total) if total else math.nan

    return of


def mean_of(name: str) -> Statistic:
    """Return the statistic that is the mean over items; NaN without any."""
    return lambda rows: float(rows[name].mean()) if len(rows[name]) else math.nan
