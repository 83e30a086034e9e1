"""The curves of the run that made a model: a small JSON file beside its weights, and lines of text on its card."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import ConfigError
from zoo.strict import parse_json, read_text

__all__ = ["CURVES", "FORMAT", "curves_table", "encode_curves", "read_curves"]

CURVES = "curves.json"
FORMAT = "tokenizer-zoo-curves"
"""What such a file says it is."""

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 24


def encode_curves(curves: Mapping[str, tuple[Sequence[int], Sequence[float]]], steps: int) -> str:
    """Return the content of `curves.json`.

    Args:
        curves: Steps and values of each scalar, by name. Values that are not finite are left out.
        steps: Optimiser steps of the run.
    """
    compact = {}
    for name, (at, values) in curves.items():
        kept = [(step, float(f"{value:.4g}")) for step, value in zip(at, values, strict=True) if math.isfinite(value)]
        compact[name] = {"steps": [step for step, _ in kept], "values": [value for _, value in kept]}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(curve)}" for name, curve in sorted(compact.items()))
    return f'{{\n "format": "{FORMAT}",\n "steps": {steps},\n "curves": {{\n{lines}\n }}\n}}\n'


def read_curves(path: Path) -> dict[str, Any]:
    """Read such a file.

    Raises:
        ConfigError: It is another, or damaged.
    """
    found = parse_json(read_text(path), str(path))
    is_one = found.get("format") == FORMAT and isinstance(found.get("curves"), dict)
    if (
        not is_one
        or type(found.get("steps")) is not int
        or not all(_is_curve(curve) for curve in found["curves"].values())
    ):
        raise ConfigError(f"{path} does not hold the curves of a run, as `zoo export` writes them.")
    return found


def curves_table(found: Mapping[str, Any]) -> str:
    """Return curves as a Markdown table: what each began and ended with, and its course.

    Of a loss that has ended before the others, it says when.
    """
    rows = ["| | first | last | course |", "|---|---:|---:|---|"]
    ends: dict[str, int] = {}  # of training, and of validation, which is not at the last step
    for name, curve in found["curves"].items():
        stage = name.partition("/")[0]
        ends[stage] = max(ends.get(stage, 0), *curve["steps"][-1:], 0)
    for name, curve in found["curves"].items():
        values, steps = curve["values"], curve["steps"]
        if values:
            until = f" (to step {steps[-1]:,})" if steps[-1] < ends[name.partition("/")[0]] else ""
            rows.append(f"| {name}{until} | {values[0]:.4g} | {values[-1]:.4g} | `{_course(values)}` |")
    return "\n".join([*rows, "", f"Over {found['steps']:,} steps; from the lowest value of each to its highest."])


def _course(values: Sequence[float]) -> str:
    """Return values as a row of bars, each the mean of as many."""
    count = min(_WIDTH, len(values))
    edges = [number * len(values) // count for number in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)


def _is_curve(curve: Any) -> bool:
    if not (isinstance(curve, dict) and isinstance(curve.get("steps"), list) and isinstance(curve.get("values"), list)):
        return False
    numbers = [*curve["steps"], *curve["values"]]
    return len(curve["steps"]) == len(curve["values"]) and all(type(number) in (int, float) for number in numbers)
