"""The kinds of suites: each registers itself once, and is imported when it is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zoo.errors import ConfigError, near_matches, shown

if TYPE_CHECKING:
    from zoo.evaluation.report import Column, Report

__all__ = ["KINDS", "Progress", "SuiteKind", "suite_kind"]

Progress = Callable[[str, int, int], None]
"""Told what is being done, and how many of how many steps are done."""


@dataclass(frozen=True)
class SuiteKind:
    """All that is known of a kind of suite outside its own folder.

    Args:
        config: Dataclass of plain values that the YAML is read into: `kind`, `title` and `data` beside its own.
        measure: Takes a suite, the names to measure instead of the suite's, the path of the data, and what is told of
            progress; gives the report.
        columns: The rows of the table, in their order.
        page: Writes a report as an HTML page; None if the kind has no page.
        more_columns: Gives the rows that depend on what was measured, such as the points of a curve; they come last.
    """

    config: type
    measure: Callable[[Any, Any, Path, Progress], Report]
    columns: tuple[Column, ...]
    page: Callable[[Report, Path], None] | None = None
    more_columns: Callable[[Report], Sequence[Column]] | None = None

    def columns_of(self, report: Report) -> tuple[Column, ...]:
        """Return the rows of a report's table."""
        return (*self.columns, *(self.more_columns(report) if self.more_columns else ()))


KINDS = MappingProxyType(
    {
        "action": "zoo.evaluation.suites.action:ACTION",
        "image": "zoo.evaluation.suites.image.runner:IMAGE",
        "captions": "zoo.evaluation.suites.image.captions.runner:CAPTIONS",
        "video": "zoo.evaluation.suites.image.video.runner:VIDEO",
        "speech": "zoo.evaluation.suites.noise:SPEECH",
        "resynthesis": "zoo.evaluation.suites.resynthesis.runner:RESYNTHESIS",
        "invariance": "zoo.evaluation.suites.invariance.runner:INVARIANCE",
        "predictability": "zoo.evaluation.suites.predictability.runner:PREDICTABILITY",
        "stab": "zoo.evaluation.suites.stab.runner:STAB",
    }
)
"""Where the `SuiteKind` of each kind is, by the name that a YAML file has under `kind`."""


def suite_kind(name: Any) -> SuiteKind:
    """Return a kind of suite.

    Raises:
        ConfigError: There is none of this name.
    """
    if not isinstance(name, str) or name not in KINDS:
        raise ConfigError(f"there is no kind of suite {shown(name)}; {near_matches(str(name)[:80], KINDS)}")
    module, _, attribute = KINDS[name].partition(":")
    kind: SuiteKind = getattr(importlib.import_module(module), attribute)
    return kind
