"""A report of a suite of videos as one HTML file that needs nothing else; clips are in it as animated GIFs."""

from __future__ import annotations

from html import escape
from pathlib import Path

from torch import Tensor

from zoo.data._video_writing import encoded_gif
from zoo.evaluation.page import document, figures_table, legend, require_kind, write
from zoo.evaluation.report import Report
from zoo.evaluation.suites.image.gallery import Gallery
from zoo.evaluation.suites.image.page import STYLE, measure_bars, side_by_side, sources_of
from zoo.evaluation.suites.image.video.columns import MEASURES

__all__ = ["ClipGallery", "page", "write_page"]

_USUAL_RATE, _FASTEST = 12.0, 50.0  # frames a second of a page; GIF has no more


class ClipGallery(Gallery):
    """Keeps a few clips as GIF.

    Args:
        clips: What is measured.
        count: How many of these are kept, as many of each source as there are.
        frame_rate: Frames a second to show.
    """

    def __init__(self, clips: list[object], count: int, frame_rate: float | None) -> None:
        super().__init__(clips, count)
        self.frame_rate = min(frame_rate or _USUAL_RATE, _FASTEST)

    def encode(self, pixels: Tensor) -> bytes:
        """Return a clip (3, T, H, W) as GIF."""
        return encoded_gif(pixels, self.frame_rate)


def write_page(report: Report, path: Path) -> None:
    """Write the page of a report."""
    write(page(report), path)


def page(report: Report) -> str:
    """Return a report as HTML.

    Raises:
        ConfigError: It is of another kind of suite.
    """
    require_kind(report, "video")
    data = report.data
    height, width = data["size"]
    body = [
        f"<p>{data['clips']} clips of <i>{escape(data['file'])}</i>, {data['num_frames']} frames of {height} × {width}."
        f"</p><details><summary>How it was measured</summary><p class=note>{escape(report.protocol)}</p></details>",
        side_by_side(report, "Clips"),
        "<h2>Figures side by side</h2>",
        legend(report),
        *(measure_bars(report, column, "all clips") for column in MEASURES),
        figures_table(report),
        sources_of(report, "clips"),
    ]
    return document(report.title, body, STYLE)
