"""How far tokens change when the sound is disturbed.

STAB-style robustness: specification of STAB (arXiv 2409.02384), section 4. The paper's distances and summary are
unknown. Chosen here: the unit edit distance as StableToken's paper has it, the same with runs collapsed as NAST has it,
and the mean normalised distance; a curve over strengths is summed up by the area below it, divided by its width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.metrics.rows import Columns, Statistic, columns, mean_of, ratio
from zoo.metrics.tokens.edits import edit_distance
from zoo.metrics.tokens.similarity import normalized_edit_distance
from zoo.metrics.tokens.streams import Units, check_pairs, collapse_runs, one_stream

__all__ = [
    "curve_mean",
    "excess",
    "excess_distance",
    "length_bound",
    "overall_robustness",
    "robustness",
    "robustness_rows",
]


def robustness_rows(noisy: Units, clean: Units) -> list[dict[str, float]]:
    """Return what `robustness` is made of for each utterance.

    Args:
        noisy: Tokens of N disturbed utterances, one codebook.
        clean: Tokens of the same utterances undisturbed.

    Returns:
        N rows: `edits`, clean `tokens` and normalised `distance` of ids as they are; the same with `_collapsed` at the
        end with runs collapsed; and `bound`, the distance that the numbers of tokens alone make, `length_bound`.

    Raises:
        InputError: The numbers of utterances differ.
        TokenError: There are several codebooks, or ids are not integers.
    """
    disturbed, whole = one_stream(noisy), one_stream(clean)
    check_pairs(disturbed, whole)
    rows = []
    for hypothesis, reference in zip(disturbed, whole, strict=True):
        row = {"bound": length_bound(len(hypothesis), len(reference))}
        pairs = {"": (hypothesis, reference), "_collapsed": (collapse_runs(hypothesis), collapse_runs(reference))}
        for ending, (a, b) in pairs.items():
            row |= {f"edits{ending}": edit_distance(a, b), f"tokens{ending}": len(b)}
            row[f"distance{ending}"] = normalized_edit_distance(a, b)
        rows.append(row)
    return rows


def robustness(noisy: Units, clean: Units) -> dict[str, Tensor]:
    """Measure how far tokens change.

    Args:
        noisy: Tokens of N disturbed utterances, one codebook.
        clean: Tokens of the same utterances undisturbed.

    Returns:
        `ued`, edits over clean tokens of all utterances in percent, as `unit_edit_distance`; `ned`, the mean
        normalised distance of utterances, 0..1; both with `_collapsed` at the end with runs of one id collapsed, of
        which `ned_collapsed` is the one to quote; and `excess`, `ned` above what the change of length alone makes. NaN
        without utterances, the former two also without clean tokens.

    Raises:
        InputError: The numbers of utterances differ.
        TokenError: There are several codebooks, or ids are not integers.
    """
    rows = robustness_rows(noisy, clean)
    found = columns(rows)
    statistics: dict[str, Statistic] = {"excess": excess}
    for ending in ("", "_collapsed"):
        # The edits of nothing are no rate, however many they are.
        statistics[f"ued{ending}"] = ratio(f"edits{ending}", f"tokens{ending}", 100)
        statistics[f"ned{ending}"] = mean_of(f"distance{ending}")
    return {
        name: torch.tensor(statistic(found) if rows else math.nan, dtype=torch.float64)
        for name, statistic in statistics.items()
    }


def excess(rows: Columns) -> float:
    """Return the statistic of `robustness_rows` that is the mean distance above what the change of length makes."""
    return excess_distance(float(rows["distance"].mean()), float(rows["bound"].mean()))


def length_bound(first: int, second: int) -> float:
    """Return the least normalised edit distance of sequences of these lengths; 0 if both are empty.

    Example:
        >>> length_bound(100, 80)
        0.2
    """
    longer = max(first, second)
    return abs(first - second) / longer if longer else 0.0


def excess_distance(distance: float, bound: float) -> float:
    """Return (NED - bound) / (1 - bound): how far tokens change beyond what their number does.

    A tokenizer of fixed rate cannot but change without collapsing runs when speech gets faster.

    Returns:
        0..1; NaN where the bound is 1.
    """
    return (distance - bound) / (1 - bound) if bound < 1 else math.nan


def curve_mean(
    strengths: Sequence[float], values: Sequence[float], scale: Literal["linear", "log"] = "linear"
) -> float:
    """Return the area under a curve over strengths, by trapezoids, divided by its width.

    Divided, so that it stays a distance: grids of other width can be compared.

    Args:
        strengths: dB or semitones; rates with the scale "log".
        values: What was measured at each.
        scale: "log" if equal ratios of strengths are equal steps.

    Returns:
        The value itself if there is one only.

    Raises:
        InputError: There are none, not as many of both, or strengths repeat or have no logarithm.

    Example:
        >>> curve_mean([0, 10, 30], [1.0, 0.5, 0.5])
        0.5833333333333334
    """
    if not strengths or len(strengths) != len(values) or len(set(strengths)) < len(strengths):
        raise InputError(f"a curve needs one value for each of its strengths, got {strengths!r} and {values!r}.")
    if scale == "log" and min(strengths) <= 0:
        raise InputError(f"strengths must be above 0 for their logarithms, got {strengths!r}.")
    points = sorted(zip(strengths, values, strict=True))
    if len(points) == 1:
        return points[0][1]
    places = torch.tensor([math.log(x) if scale == "log" else x for x, _ in points], dtype=torch.float64)
    heights = torch.tensor([y for _, y in points], dtype=torch.float64)
    return float(torch.trapezoid(heights, places) / (places[-1] - places[0]))


def overall_robustness(distances: Mapping[str, Sequence[float]]) -> float:
    """Return one less the mean normalised distance, each kind of disturbance weighing alike.

    Args:
        distances: `ned_collapsed` at each strength, by kind.

    Returns:
        0..1, 1 if nothing ever changes; NaN without kinds, or if one has no strength.

    Example:
        >>> overall_robustness({"pitch": [0.5, 0.5], "noise": [0.0]})
        0.75
    """
    means = [math.fsum(values) / len(values) if len(values) else math.nan for values in distances.values()]
    return 1 - math.fsum(means) / len(means) if means else math.nan
