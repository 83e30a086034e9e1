"""Charts as SVG text, for pages that need no network, no script and no picture files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from zoo.evaluation.report import Figure

__all__ = ["COLOURS", "bars", "curves", "tokens"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b5b95", "#8a8d00")
"""Of models, in their order; told apart by people who see few colours, too (Okabe and Ito 2008)."""

_LABELS, _PLOT, _VALUES = 210, 430, 170  # widths
_BAR = 13
_APART = 20  # numbers below a chart, at least
_INK, _GRID = "#333", "#ddd"
_LOOPS = 12  # hues that ids have in turn


def bars(groups: Mapping[str, Sequence[Figure | None]], form: str = "{:.2f}") -> str:
    """Return horizontal bars: one group for each measure, one bar in it for each model.

    Args:
        groups: Figures of the models, in their order, by measure; None where a model has none.
        form: How numbers are written.
    """
    known = [found for figures in groups.values() for found in figures if found is not None and not found.reason]
    ends = [x for found in known for x in (found.estimate, found.low, found.high) if x is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    high = 1.0 if low == high else high
    step = _step(high - low)
    low, high = math.floor(low / step - 1e-9) * step if low < 0 else 0.0, math.ceil(high / step - 1e-9) * step

    def x(value: float) -> float:
        return _LABELS + _PLOT * (value - low) / (high - low)

    lines: list[str] = []
    top = 6.0
    for name, figures in groups.items():
        height = _BAR * len(figures)
        lines.append(_text(_LABELS - 8, top + height / 2 + 4, name, "end"))
        for place, found in enumerate(figures):
            middle = top + _BAR * (place + 0.5)
            lines.append(_bar(found, x, middle, COLOURS[place % len(COLOURS)], form))
        top += height + 10
    marks = [low + step * number for number in range(round((high - low) / step) + 1)]
    grid = [f'<line x1="{x(m):.1f}" y1="4" x2="{x(m):.1f}" y2="{top - 4:.0f}" stroke="{_GRID}"/>' for m in marks]
    grid += [_text(x(mark), top + 10, f"{mark:g}", "middle") for mark in marks]
    return _svg(_LABELS + _PLOT + _VALUES, top + 18, [*grid, *lines])


def curves(
    series: Sequence[Sequence[tuple[float, Figure | None]]],
    title: str,
    unit: str,
    *,
    logarithmic: bool = False,
    limits: tuple[float, float] | None = (0.0, 1.0),
) -> str:
    """Return figures over strengths, of a disturbance for instance, a line with its interval for each model.

    Args:
        series: Of each model, in their order, strengths and figures.
        title: Of the chart.
        unit: Of strengths.
        logarithmic: Whether equal ratios of strengths are equally far apart.
        limits: Of figures; None is round numbers around all there are.
    """
    width, height, left, top = 250, 130, 34, 24
    low, high = _around(series) if limits is None else limits
    strengths = sorted({strength for points in series for strength, _ in points})
    places = [math.log(strength) if logarithmic else strength for strength in strengths]
    span = places[-1] - places[0] or 1.0

    def x(strength: float) -> float:
        place = math.log(strength) if logarithmic else strength
        return left + width * ((place - places[0]) / span if len(places) > 1 else 0.5)

    def y(value: float) -> float:
        return top + height * (1 - min(1.0, max(0.0, (value - low) / (high - low))))

    lines = [_text(left + width / 2, 14, title, "middle", bold=True)]
    for mark in (low + (high - low) * quarter / 4 for quarter in range(5)):
        lines.append(f'<line x1="{left}" y1="{y(mark):.1f}" x2="{left + width}" y2="{y(mark):.1f}" stroke="{_GRID}"/>')
        lines.append(_text(left - 5, y(mark) + 4, f"{mark:g}", "end"))
    last = -math.inf
    for strength in strengths:
        if x(strength) - last >= _APART:
            lines.append(_text(x(strength), top + height + 14, f"{strength:g}", "middle"))
            last = x(strength)
    lines.append(_text(left + width / 2, top + height + 28, unit, "middle"))
    for number, points in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        known = [(strength, found) for strength, found in points if found is not None and not found.reason]
        for strength, found in known:
            if found.low is not None and found.high is not None:
                lines.append(
                    f'<line x1="{x(strength):.1f}" y1="{y(found.low):.1f}" x2="{x(strength):.1f}" '
                    f'y2="{y(found.high):.1f}" stroke="{colour}" stroke-opacity=".45" stroke-width="3"/>'
                )
            lines.append(f'<circle cx="{x(strength):.1f}" cy="{y(found.estimate):.1f}" r="2.6" fill="{colour}"/>')
        path = " ".join(f"{x(strength):.1f},{y(found.estimate):.1f}" for strength, found in known)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
    return _svg(left + width + 12, top + height + 34, lines)


def _around(series: Sequence[Sequence[tuple[float, Figure | None]]]) -> tuple[float, float]:
    """Return limits of a chart of which quarters are round numbers."""
    known = [found for points in series for _, found in points if found is not None and not found.reason]
    ends = [x for found in known for x in (found.estimate, found.low, found.high) if x is not None]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    step = _step(1.5 * ((high - low) or abs(high) or 1.0))
    low = math.floor(low / step) * step
    while low + 4 * step < high:
        step *= 2
        low = math.floor(low / step) * step
    return low, low + 4 * step


def tokens(
    clean: Sequence[int], noisy: Sequence[int], peaks: Mapping[str, Sequence[float]], seconds: float, condition: str
) -> str:
    """Return a clip's amplitudes over its tokens, undisturbed and disturbed; tokens that changed have a mark.

    Args:
        clean: Ids.
        noisy: Ids of the disturbed clip.
        peaks: Amplitudes over time, "clean" and "noisy".
        seconds: Of the clip.
        condition: What it was disturbed by.
    """
    left, width = 130, 890
    lines: list[str] = []
    top = 4.0
    for name, ids, label in (("clean", clean, "clean"), ("noisy", noisy, condition)):
        heights = peaks[name]
        most = max([1e-6, *heights])
        step = width / max(1, len(heights))
        upper = " ".join(f"{left + step * k:.1f},{top + 20 - 18 * h / most:.1f}" for k, h in enumerate(heights))
        lower = " ".join(
            f"{left + step * k:.1f},{top + 20 + 18 * h / most:.1f}" for k, h in reversed(list(enumerate(heights)))
        )
        lines.append(f'<polygon points="{upper} {lower}" fill="#999"/>')
        lines.append(_text(left - 8, top + 24, label, "end"))
        cell = width / max(1, len(ids))
        for place, token in enumerate(ids):
            box = f'x="{left + cell * place:.2f}" y="{top + 42:.0f}" width="{cell:.2f}" height="26"'
            lines.append(f'<rect {box} fill="{_hue(token)}"><title>{token}</title></rect>')
            if name == "noisy" and len(ids) == len(clean) and token != clean[place]:
                mark = f'x="{left + cell * place:.2f}" y="{top + 70:.0f}" width="{max(cell - 0.6, 0.6):.2f}" height="4"'
                lines.append(f'<rect {mark} fill="#c00"/>')
        told = f"{len(ids)} tokens"
        if name == "noisy" and len(ids) == len(clean):
            told = f"{sum(a != b for a, b in zip(clean, ids, strict=True))} of {len(ids)} changed"
        lines.append(_text(left - 8, top + 59, told, "end"))
        top += 84
    marks = range(int(seconds) + 1)
    lines += [_text(left + width * mark / seconds, top + 8, f"{mark} s", "middle") for mark in marks if seconds]
    return _svg(left + width + 16, top + 16, lines)


def _bar(found: Figure | None, place: Callable[[float], float], middle: float, colour: str, form: str) -> str:
    if found is None or found.reason:
        reason = found.reason if found is not None else ""
        dot = f'<circle cx="{place(0.0) + 5:.1f}" cy="{middle:.1f}" r="3" fill="none" stroke="{colour}"/>'
        return dot + _text(_LABELS + _PLOT + 8, middle + 4, "not measured", "start", title=reason)
    start, end = sorted((place(0.0), place(found.estimate)))
    text = form.format(found.estimate)
    parts = [
        f'<rect x="{start:.1f}" y="{middle - _BAR / 2 + 1:.1f}" width="{max(end - start, 0.8):.1f}" '
        f'height="{_BAR - 2}" fill="{colour}"/>'
    ]
    if found.low is not None and found.high is not None:
        text += f" ({form.format(found.low)} … {form.format(found.high)})"
        ends = place(found.low), place(found.high)
        parts.append(
            f'<path d="M{ends[0]:.1f} {middle:.1f}H{ends[1]:.1f}M{ends[0]:.1f} {middle - 3:.1f}v6'
            f'M{ends[1]:.1f} {middle - 3:.1f}v6" stroke="{_INK}" fill="none"/>'
        )
    parts.append(_text(_LABELS + _PLOT + 8, middle + 4, text, "start"))
    return "".join(parts)


def _step(span: float) -> float:
    """Return a round distance between marks, so that there are three to eight."""
    rough = span / 6
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def _hue(token: int) -> str:
    """Return a colour for an id; those of neighbouring ids differ much."""
    hue = token * 137 % 360
    return f"hsl({hue},{55 + token // _LOOPS % 3 * 15}%,{58 + token // 5 % 4 * 6}%)"


def _text(x: float, y: float, text: str, anchor: str, *, bold: bool = False, title: str = "") -> str:
    weight = ' font-weight="600"' if bold else ""
    inner = f"<title>{escape(title)}</title>" if title else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{inner}{escape(text)}</text>'


def _svg(width: float, height: float, lines: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" font-size="11" fill="{_INK}" '
        f'font-family="inherit">{"".join(lines)}</svg>'
    )
