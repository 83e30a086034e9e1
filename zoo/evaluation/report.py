"""What a suite found: JSON to keep, a table to look at, a section for a model card."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import ConfigError
from zoo.evaluation.kinds import suite_kind
from zoo.strict import read_json

__all__ = [
    "Column",
    "Figure",
    "Report",
    "as_json",
    "card_section",
    "cell",
    "read_report",
    "table",
    "write_report",
]

_FORMAT = "tokenizer-zoo-results"


@dataclass(frozen=True)
class Figure:
    """A measured number, with the interval it lies in if there is one.

    Args:
        estimate: The number; NaN if it could not be measured.
        low: Lower bound.
        high: Upper bound.
        reason: Why it could not be measured.
    """

    estimate: float
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @classmethod
    def missing(cls, reason: str) -> Figure:
        """Return what stands for a number that could not be measured: null in JSON, never 0."""
        return cls(math.nan, reason=reason)


@dataclass(frozen=True)
class Report:
    """The result of one run of a suite.

    Args:
        suite: The suite's kind.
        title: The suite's title.
        protocol: How the figures were made, for people.
        data: What they were made on.
        environment: Versions and machine.
        models: Figures by name, by model.
        settings: The configuration of each model.
        examples: Of each model what it made of a few clips, for pictures.
        pictures: Encoded pictures for the page, by what the suite calls them. Files of results do not have them.
    """

    suite: str
    title: str
    protocol: str
    data: dict[str, Any]
    environment: dict[str, Any]
    models: dict[str, dict[str, Figure]] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    examples: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class Column:
    """One column of the table."""

    key: str
    title: str
    form: str
    has_interval: bool = True


def as_json(report: Report) -> dict[str, Any]:
    """Return a report as plain values: a figure is a number, or estimate, low and high of its interval, or a reason."""
    values = {
        "format": _FORMAT,
        "suite": report.suite,
        "title": report.title,
        "protocol": report.protocol,
        "data": report.data,
        "environment": report.environment,
        "settings": report.settings,
        "models": {
            name: {key: _plain(figure) for key, figure in figures.items()} for name, figures in report.models.items()
        },
    }
    return values | ({"examples": report.examples} if report.examples else {})


def _plain(figure: Figure) -> Any:
    if figure.reason:
        return {"value": None, "reason": figure.reason}
    return figure.estimate if figure.low is None else [figure.estimate, figure.low, figure.high]


def _figure(value: Any) -> Figure:
    if isinstance(value, dict):
        return Figure.missing(value["reason"])
    return Figure(*value) if isinstance(value, list) else Figure(value)


def write_report(report: Report, path: Path) -> None:
    """Write a report as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(as_json(report), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_report(path: Path) -> Report:
    """Read what `write_report` wrote.

    Raises:
        ConfigError: The file is not a report.
    """
    try:
        values = read_json(path)
        if values.pop("format") != _FORMAT:
            raise ValueError("another format")
        models = {
            name: {key: _figure(value) for key, value in figures.items()}
            for name, figures in values.pop("models").items()
        }
        return Report(models=models, **values)
    except ConfigError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path} is not a results file of this library: {error}.") from error


def _rows(report: Report, gap: str) -> list[tuple[str, list[str]]]:
    """Return the title and the cells of each figure that any model has.

    Raises:
        ConfigError: The report is of an unknown kind.
    """
    return [
        (column.title, [cell(figures.get(column.key), column, gap) for figures in report.models.values()])
        for column in suite_kind(report.suite).columns_of(report)
        if any(column.key in figures for figures in report.models.values())
    ]


def cell(figure: Figure | None, column: Column, gap: str) -> str:
    """Return a figure as the table shows it, the interval after a gap."""
    if figure is None or figure.estimate != figure.estimate:
        return "–"
    text = column.form.format(figure.estimate)
    if column.has_interval and figure.low is not None and figure.high is not None:
        text += f"{gap}({column.form.format(figure.low)} … {column.form.format(figure.high)})"
    return text


def table(report: Report) -> Any:
    """Return the report as a rich table, models across and figures down, so that it fits a terminal."""
    from rich.table import Table

    grid = Table(title=report.title, caption=report.protocol, show_lines=True)
    grid.add_column("")
    for name in report.models:
        grid.add_column(name, justify="right", overflow="fold")
    for title, cells in _rows(report, "\n"):
        grid.add_row(title, *cells)
    return grid


def card_section(report: Report) -> str:
    """Return the report as Markdown for a model card: every model of the comparison, one a column."""
    names = list(report.models)
    lines = [
        f"**{report.title}.** {report.protocol}",
        "",
        f"| | {' | '.join(names)} |",
        f"|---|{'---:|' * len(names)}",
    ]
    lines += [f"| {title} | {' | '.join(cells)} |" for title, cells in _rows(report, " ")]
    environment = ", ".join(f"{key} {value}" for key, value in report.environment.items())
    lines += ["", f"Data: `{report.data['file']}`, SHA-256 `{report.data['sha256'][:16]}…`. Machine: {environment}."]
    return "\n".join(lines)
