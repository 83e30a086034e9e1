"""What the HTML pages of suites share. A page is one file that needs nothing else, neither network nor script."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from zoo.errors import ConfigError
from zoo.evaluation.charts import COLOURS
from zoo.evaluation.kinds import suite_kind
from zoo.evaluation.report import Figure, Report, cell

__all__ = ["document", "figures_table", "legend", "require_kind", "row", "tr", "write"]

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;background:#fff;max-width:1080px;margin:2em auto;padding:0 1em}
h1{font-size:1.5em}h2{font-size:1.2em;margin-top:2em;border-bottom:1px solid #ddd}
svg{max-width:100%;height:auto}.row{display:flex;flex-wrap:wrap;gap:8px}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:12px}
td,th{padding:3px 8px;border-bottom:1px solid #e4e4e4;text-align:right;white-space:nowrap;vertical-align:top}
td:first-child,th:first-child{text-align:left}
.key span{display:inline-block;margin-right:1.4em}.key i{display:inline-block;width:11px;height:11px;margin-right:5px}
.note{color:#555;font-size:13px}.warn{color:#a00}code{font-size:12px;overflow-wrap:anywhere}
"""


def require_kind(report: Report, kind: str) -> None:
    """Refuse a report of another kind of suite.

    Raises:
        ConfigError: It is one.
    """
    if report.suite != kind:
        raise ConfigError(
            f"a page of the kind {kind!r} is made of such a report, and this is one of the kind {report.suite!r}."
        )


def document(title: str, body: Iterable[str], style: str = "") -> str:
    """Return a page of a title and what is below it, as HTML.

    Args:
        title: Plain text.
        body: HTML.
        style: CSS beside what all pages have.
    """
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}{style}</style></head>'
        f"<body><h1>{escape(title)}</h1>{''.join(body)}</body></html>\n"
    )


def write(text: str, path: Path) -> None:
    """Write a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def row(report: Report, key: str) -> list[Figure | None]:
    """Return a figure of every model, None where one has none."""
    return [figures.get(key) for figures in report.models.values()]


def legend(report: Report, only: Collection[str] | None = None) -> str:
    """Return the names and colours of all models, or of some, and what is to be told of them."""
    entries = []
    for place, name in enumerate(report.models):
        if only is not None and name not in only:
            continue
        settings = report.settings[name]
        remark = escape(settings.get("remark", ""))
        told = f"<b class=warn>{remark}</b>" if settings.get("weights") == "random" else remark
        colour = COLOURS[place % len(COLOURS)]
        entries.append(f'<span><i style="background:{colour}"></i>{escape(name)} {told}</span>')
    return f"<p class=key>{''.join(entries)}</p>"


def figures_table(report: Report) -> str:
    """Return all figures that the kind has rows for."""
    head = "".join(f"<th>{escape(name)}</th>" for name in report.models)
    rows = []
    for column in suite_kind(report.suite).columns_of(report):
        figures = row(report, column.key)
        if any(found is not None for found in figures):
            cells = "".join(_cell(found, cell(found, column, "<br>")) for found in figures)
            rows.append(f"<tr><td>{escape(column.title)}</td>{cells}</tr>")
    return (
        "<h2>Figures</h2><p class=note>– or a ring: it could not be measured; the reason is shown when it is pointed "
        "at. The JSON has all figures.</p>"
        f"<div class=scroll><table><tr><th></th>{head}</tr>{''.join(rows)}</table></div>"
    )


def _cell(found: Figure | None, text: str) -> str:
    reason = found.reason if found is not None else ""
    return f'<td title="{escape(reason)}">{text}</td>' if reason else f"<td>{text}</td>"


def tr(cells: Sequence[Any], tag: str) -> str:
    """Return a row of a table."""
    return f"<tr>{''.join(f'<{tag}>{escape(str(value))}</{tag}>' for value in cells)}</tr>"
