"""A report of a suite of images as one HTML file that needs nothing else; pictures are in it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from zoo.evaluation.charts import bars, curves
from zoo.evaluation.page import document, figures_table, legend, require_kind, row, tr, write
from zoo.evaluation.report import Column, Report
from zoo.evaluation.suites.image.columns import MEASURES

__all__ = ["STYLE", "measure_bars", "page", "side_by_side", "sources_of", "write_page"]

STYLE = """
body{max-width:1280px}
.pictures{border-spacing:0}.pictures td,.pictures th{border:0;padding:4px;text-align:center;white-space:normal}
.pictures th{font-weight:600;vertical-align:bottom;max-width:180px;overflow-wrap:anywhere}
.pictures td:first-child,.pictures th:first-child{text-align:center}
.pictures img{display:block;margin:0 auto;background:#eee}
.pictures small{display:block;color:#555;font-size:11px;width:0;min-width:100%;overflow-wrap:anywhere}
.small{image-rendering:pixelated}summary{cursor:pointer;color:#555;font-size:13px}
"""
_LEAST_SHOWN, _MOST_SHOWN, _STRIP = 160, 256, 112
_BETTER = {"psnr": "higher is closer", "ssim": "higher is closer"}


def write_page(report: Report, path: Path) -> None:
    """Write the page of a report."""
    write(page(report), path)


def page(report: Report) -> str:
    """Return a report as HTML.

    Raises:
        ConfigError: It is of another kind of suite.
    """
    require_kind(report, "image")
    height, width = report.data["size"]
    body = [
        f"<p>{report.data['pictures']} pictures of <i>{escape(report.data['file'])}</i>, {height} × {width}.</p>"
        f"<details><summary>How it was measured</summary><p class=note>{escape(report.protocol)}</p></details>",
        side_by_side(report),
        _strips(report),
        _curves(report),
        "<h2>Figures side by side</h2>",
        legend(report),
        *(measure_bars(report, column) for column in MEASURES),
        figures_table(report),
        sources_of(report),
    ]
    return document(report.title, body, STYLE)


def side_by_side(report: Report, title: str = "Pictures") -> str:
    """Return the kept pictures, a row each: the original, and what everything makes of it."""
    kept = report.pictures
    if not kept or not kept["names"]:
        return ""
    made: Mapping[str, Mapping[int, bytes]] = kept["made"]
    names = ["original", *(name for name in report.models if name in made)]
    rows = []
    for number, title in kept["names"].items():
        cells = []
        for name in names:
            told = kept["psnr"].get(name, {}).get(number)
            caption = escape(title) if name == "original" else "" if told is None else f"{told:.1f} dB"
            cells.append(_cell(made[name].get(number), f"{name}: {title}", caption, _shown(report)))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{escape(_headed(report, name))}</th>" for name in names)
    return (
        f"<h2>{title}</h2><p class=note>Below each, its PSNR. Codecs have at most the bits of the tokens.</p>"
        f"<div class=scroll><table class=pictures><tr>{head}</tr>{''.join(rows)}</table></div>"
    )


def _headed(report: Report, name: str) -> str:
    """Return a name with the mean bits of its pictures."""
    bits = report.models.get(name, {}).get("bits")
    if bits is None or bits.reason:
        return name
    is_peer = "bits_of" in report.settings[name]
    return f"{name}: {bits.estimate:.0f} used" if is_peer else f"{name} ({bits.estimate:.0f} bits)"


def _strips(report: Report) -> str:
    """Return the kept pictures of ordered tokenizers, made of more and more tokens."""
    parts = []
    for name, lengths in report.pictures.get("prefixes", {}).items():
        numbers = [number for number in report.pictures["names"] if any(number in found for found in lengths.values())]
        if not numbers:
            continue
        head = tr([*map(_counted, lengths), "original"], "th")
        rows = []
        for number in numbers:
            title = report.pictures["names"][number]
            cells = [_cell(found.get(number), f"{title}, {_counted(k)}", "", _STRIP) for k, found in lengths.items()]
            cells.append(_cell(report.pictures["made"]["original"].get(number), title, "", _STRIP))
            rows.append(f"<tr>{''.join(cells)}</tr>")
        parts.append(
            f"<h3>{escape(name)}</h3><div class=scroll><table class=pictures>{head}{''.join(rows)}</table></div>"
        )
    if not parts:
        return ""
    return f"<h2>The first tokens</h2><p class=note>What an ordered code's beginnings decode to.</p>{''.join(parts)}"


def _curves(report: Report) -> str:
    """Return quality over the number of tokens, a chart a measure."""
    known: Mapping[str, Sequence[int]] = report.data["prefixes"]
    if not known:
        return ""
    charts = []
    for column in MEASURES:
        series = [
            [(float(length), figures.get(f"{column.key}@{length} tokens")) for length in known.get(name, ())]
            for name, figures in report.models.items()
        ]
        if any(found is not None and not found.reason for points in series for _, found in points):
            charts.append(curves(series, column.title, "tokens", logarithmic=True, limits=None))
    return f"<h2>Quality by number of tokens</h2>{legend(report, known)}<div class=row>{''.join(charts)}</div>"


def measure_bars(report: Report, column: Column, everything: str = "all pictures") -> str:
    """Return a measure of every model, of all pictures and of each group."""
    keys = {everything: column.key} | {group: f"{column.key}@{group}" for group in report.data["groups"]}
    groups = {title: row(report, key) for title, key in keys.items()}
    groups = {title: found for title, found in groups.items() if any(each is not None for each in found)}
    if not groups:
        return ""
    better = _BETTER.get(column.key, "lower is closer")
    return f"<h3>{escape(column.title)}</h3><p class=note>{better}</p>{bars(groups, column.form)}"


def sources_of(report: Report, counted: str = "pictures") -> str:
    """Return what was measured on, the networks, and what could not be measured."""
    data = report.data
    rows = [tr(("source", counted), "th"), *(tr((name or "–", n), "td") for name, n in data["sources"].items())]
    networks = [
        f"<li>{escape(measure)}: {escape(facts['name'])}, {escape(', '.join(facts['layers']))}; licence "
        f"{escape(facts['licence'])}; SHA-256 <code>{facts['sha256']}</code></li>"
        for measure, facts in data["networks"].items()
    ]
    missing = [f"<li>{escape(name)}: {escape(why)}</li>" for name, why in data["not_measured"].items()]
    environment = ", ".join(f"{key} {value}" for key, value in report.environment.items())
    made_by = f"Made by <code>{escape(data['made_by'])}</code>. " if data["made_by"] else ""
    return (
        f"<h2>Data</h2><div class=scroll><table>{''.join(rows)}</table></div><p class=note>{made_by}SHA-256 of the "
        f"files <code>{data['sha256']}</code>. Machine: {escape(environment)}.</p>"
        + (f"<h2>Networks</h2><ul class=note>{''.join(networks)}</ul>" if networks else "")
        + (f"<h2>Not measured</h2><ul class=note>{''.join(missing)}</ul>" if missing else "")
    )


def _counted(length: int) -> str:
    return "1 token" if length == 1 else f"{length} tokens"


def _shown(report: Report) -> int:
    """Return how wide a picture is shown, in pixels of a page."""
    width: int = report.data["size"][1]
    return min(_MOST_SHOWN, max(_LEAST_SHOWN, width))


def _cell(file: bytes | None, title: str, caption: str, width: int) -> str:
    if file is None:
        return "<td>–</td>"
    encoded, kind = base64.b64encode(file).decode(), "gif" if file[:3] == b"GIF" else "png"
    image = f'<img class="{_scaling(file, width)}" width="{width}" alt="{escape(title)}" title="{escape(title)}" '
    return f'<td>{image}src="data:image/{kind};base64,{encoded}"><small>{caption}</small></td>'


def _scaling(file: bytes, width: int) -> str:
    """Return the class of a picture that is shown so wide."""
    is_gif = file[:3] == b"GIF"
    own = int.from_bytes(file[6:8], "little") if is_gif else int.from_bytes(file[16:20], "big")  # of their headers
    return "small" if own < width else "large"
