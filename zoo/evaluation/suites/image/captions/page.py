"""A report of a suite of captioned images as one HTML file that needs nothing else."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from pathlib import Path

from zoo.evaluation.page import document, figures_table, require_kind, write
from zoo.evaluation.report import Report
from zoo.evaluation.suites.image.captions.config import HOWS
from zoo.evaluation.suites.image.page import STYLE, side_by_side, sources_of

__all__ = ["write_page"]


def write_page(report: Report, path: Path) -> None:
    """Write the page of a report.

    Raises:
        ConfigError: It is of another kind of suite.
    """
    require_kind(report, "captions")
    height, width = report.data["size"]
    # Each model once for each thing that it was given.
    apart = {
        f"{name}: {title}": {"psnr": figures[f"psnr@{how}"]}
        for name, figures in report.models.items()
        for how, title in HOWS.items()
        if f"psnr@{how}" in figures
    }
    body = [
        f"<p>{report.data['pictures']} pictures of <i>{escape(report.data['file'])}</i>, {height} × {width}.</p>"
        f"<details><summary>How it was measured</summary><p class=note>{escape(report.protocol)}</p></details>",
        side_by_side(replace(report, models=apart, settings={name: {} for name in apart})),
        figures_table(report),
        sources_of(report),
    ]
    write(document(report.title, body, STYLE), path)
