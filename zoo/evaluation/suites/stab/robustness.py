"""How far one stream of tokens changes when clips are disturbed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from zoo.evaluation.figures import Sheet, interval
from zoo.evaluation.report import Figure
from zoo.evaluation.suites.stab.config import DIMENSIONS, StabSuite
from zoo.metrics.tokens.robustness import curve_mean, excess_distance, overall_robustness

__all__ = ["robustness"]

# Columns of `robustness_rows`.
_EDITS, _TOKENS, _NED, _EDITS_COLLAPSED, _TOKENS_COLLAPSED, _NED_COLLAPSED, _BOUND = range(7)
_CORE = ("pitch", "speed", "noise")
_LOGARITHMIC = ("speed", "tempo")

Condition = tuple[str, float, str]
Statistic = Callable[[NDArray[np.float64]], float]


def robustness(
    rows: NDArray[np.float64], conditions: Sequence[Condition], missing: Mapping[str, str], suite: StabSuite
) -> Sheet:
    """Return distances under each condition, curves over each kind's strengths, and what is left of the tokens.

    Args:
        rows: [clips, conditions, 7] of `robustness_rows`.
        conditions: Kind, strength and name of each.
        missing: Why kinds could not be done.
        suite: What is measured.
    """
    kinds = list(dict.fromkeys(kind for kind, _, _ in conditions))
    none = "there is no clip to disturb"
    sheet: Sheet = {}

    def measured(chosen: NDArray[np.float64], statistic: Statistic, reason: str = none) -> Figure:
        # Resamples may hold only clips without tokens.
        with np.errstate(invalid="ignore", divide="ignore"):
            return interval(chosen, suite.bootstrap, reason, lambda drawn: statistic(drawn) if len(drawn) else math.nan)

    for place, (kind, _, name) in enumerate(conditions):
        here = rows[:, place]
        sheet[f"ued@{name}"] = measured(here, _ratio(_EDITS, _TOKENS), "no clip has a token")
        sheet[f"ued_collapsed@{name}"] = measured(here, _ratio(_EDITS_COLLAPSED, _TOKENS_COLLAPSED), "no tokens")
        sheet[f"ned@{name}"] = measured(here, _mean(_NED))
        sheet[f"ned_collapsed@{name}"] = measured(here, _mean(_NED_COLLAPSED))
        if kind in _LOGARITHMIC:
            sheet[f"excess@{name}"] = measured(here, _excess)
    distances = rows[:, :, _NED_COLLAPSED]
    for kind in kinds:
        places = [place for place, (name, _, _) in enumerate(conditions) if name == kind]
        curves = [
            curve_mean(
                [conditions[place][1] for place in places],
                clip[places].tolist(),
                "log" if kind in _LOGARITHMIC else "linear",
            )
            for clip in distances
        ]
        sheet[f"curve@{kind}"] = interval(curves, suite.bootstrap, none)
    for name, members in DIMENSIONS.items():
        places = [place for place, (kind, _, _) in enumerate(conditions) if kind in members]
        lacking = [f"{kind}: {missing[kind]}" for kind in members if kind in missing]
        key = f"robustness_{name}"
        if lacking or not places:
            sheet[key] = Figure.missing("; ".join(lacking) or f"the suite has no strengths of {' or '.join(members)}")
        else:
            sheet[key] = measured(distances, _kept({name: places}))
    lacking = [name for name in _CORE if sheet[f"robustness_{name}"].reason]
    by_type = {
        name: [place for place, (kind, _, _) in enumerate(conditions) if kind in DIMENSIONS[name]] for name in _CORE
    }
    if lacking:
        sheet["robustness"] = Figure.missing(f"nothing is known of {', '.join(lacking)}")
    else:
        sheet["robustness"] = measured(distances, _kept(by_type))
    sheet["robustness_clips"] = Figure(len(rows))
    return sheet


def _ratio(over: int, under: int) -> Statistic:
    return lambda drawn: 100 * float(drawn[:, over].sum() / drawn[:, under].sum())


def _mean(column: int) -> Statistic:
    return lambda drawn: float(drawn[:, column].mean())


def _excess(drawn: NDArray[np.float64]) -> float:
    return excess_distance(float(drawn[:, _NED].mean()), float(drawn[:, _BOUND].mean()))


def _kept(places: Mapping[str, list[int]]) -> Statistic:
    """Return the statistic that is one less the mean distance, each type weighing alike."""

    def statistic(drawn: NDArray[np.float64]) -> float:
        means = drawn.mean(0)
        return overall_robustness({name: means[chosen].tolist() for name, chosen in places.items()})

    return statistic
