"""How far one stream of tokens changes when clips are disturbed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zoo.evaluation.figures import Sheet, interval, row_interval
from zoo.evaluation.report import Figure
from zoo.evaluation.suites.stab.config import DIMENSIONS, StabSuite
from zoo.metrics.rows import Columns, Row, Statistic, mean_of, ratio
from zoo.metrics.tokens.robustness import curve_mean, excess, overall_robustness

__all__ = ["robustness"]

_CORE = ("pitch", "speed", "noise")
_LOGARITHMIC = ("speed", "tempo")

Condition = tuple[str, float, str]


def robustness(
    rows: Sequence[Sequence[Row]], conditions: Sequence[Condition], missing: Mapping[str, str], suite: StabSuite
) -> Sheet:
    """Return distances under each condition, curves over each kind's strengths, and what is left of the tokens.

    Args:
        rows: Of each clip, of each condition, that of `robustness_rows`.
        conditions: Kind, strength and name of each.
        missing: Why kinds could not be done.
        suite: What is measured.
    """
    kinds = list(dict.fromkeys(kind for kind, _, _ in conditions))
    none = "there is no clip to disturb"
    sheet: Sheet = {}

    def measured(chosen: Sequence[Row], statistic: Statistic, reason: str = none) -> Figure:
        return row_interval(chosen, statistic, suite.bootstrap, reason)

    for place, (kind, _, name) in enumerate(conditions):
        here = [clip[place] for clip in rows]
        sheet[f"ued@{name}"] = measured(here, ratio("edits", "tokens", 100), "no clip has a token")
        sheet[f"ued_collapsed@{name}"] = measured(here, ratio("edits_collapsed", "tokens_collapsed", 100), "no tokens")
        sheet[f"ned@{name}"] = measured(here, mean_of("distance"))
        sheet[f"ned_collapsed@{name}"] = measured(here, mean_of("distance_collapsed"))
        if kind in _LOGARITHMIC:
            sheet[f"excess@{name}"] = measured(here, excess)
    names = [name for _, _, name in conditions]
    distances = [dict(zip(names, (row["distance_collapsed"] for row in clip), strict=True)) for clip in rows]
    for kind in kinds:
        curves = [
            curve_mean(
                [strength for one, strength, _ in conditions if one == kind],
                [clip[name] for one, _, name in conditions if one == kind],
                "log" if kind in _LOGARITHMIC else "linear",
            )
            for clip in distances
        ]
        sheet[f"curve@{kind}"] = interval(curves, suite.bootstrap, none)
    for name, members in DIMENSIONS.items():
        chosen = [condition for kind, _, condition in conditions if kind in members]
        lacking = [f"{kind}: {missing[kind]}" for kind in members if kind in missing]
        key = f"robustness_{name}"
        if lacking or not chosen:
            sheet[key] = Figure.missing("; ".join(lacking) or f"the suite has no strengths of {' or '.join(members)}")
        else:
            sheet[key] = measured(distances, _kept({name: chosen}))
    lacking = [name for name in _CORE if sheet[f"robustness_{name}"].reason]
    by_type = {name: [one for kind, _, one in conditions if kind in DIMENSIONS[name]] for name in _CORE}
    if lacking:
        sheet["robustness"] = Figure.missing(f"nothing is known of {', '.join(lacking)}")
    else:
        sheet["robustness"] = measured(distances, _kept(by_type))
    sheet["robustness_clips"] = Figure(len(rows))
    return sheet


def _kept(conditions: Mapping[str, list[str]]) -> Statistic:
    """Return the statistic that is one less the mean distance, each type of conditions weighing alike."""

    def statistic(rows: Columns) -> float:
        return overall_robustness(
            {name: [float(rows[one].mean()) for one in chosen] for name, chosen in conditions.items()}
        )

    return statistic
