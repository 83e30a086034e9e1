"""What commands print: tables and facts for people, one JSON document for programs, notes and progress on stderr."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Ticker", "count", "note", "number", "print_facts", "print_json", "print_table", "size", "ticking"]

_PATIENCE = 2.0  # seconds after which work that goes on shows its progress


def note(text: str) -> None:
    """Tell the user something that is neither a result nor an error."""
    print(f"note: {text}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Print the one JSON document that a command promises. What is not a finite number becomes null."""
    print(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[str] = ()) -> None:
    """Print rows under headings: fitted to a terminal, and elsewhere one line a row, cut nowhere.

    Args:
        columns: The headings.
        rows: The cells.
        numeric: Headings of the columns that are aligned at the right.
    """
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for column in columns:
            # Only the last column, the longest text, is broken into lines.
            justify: Any = "right" if column in numeric else "left"
            table.add_column(column, justify=justify, no_wrap=column != columns[-1], overflow="fold")
        for row in rows:
            table.add_row(*row)
        Console(markup=False, emoji=False, highlight=False).print(table)
        return
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    for row in (columns, *rows):
        cells = (
            cell.rjust(width) if column in numeric else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        )
        print("  ".join(cells).rstrip())


def print_facts(title: str, facts: Mapping[str, str]) -> None:
    """Print a title and, indented below it, names and values."""
    width = max(map(len, facts), default=0)
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        console = Console(markup=False, emoji=False, highlight=False)
        console.print(title, style="bold")
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(min_width=width + 2, no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in facts.items():
            table.add_row(f"  {name}", value)
        console.print(table)
        return
    print(title)
    for name, value in facts.items():
        print(f"  {name:{width}}  {value}".rstrip())


def count(amount: int, noun: str) -> str:
    """Return `1 item`, `2 items`, `12,345 items`."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def number(value: float) -> str:
    """Return three significant digits or all before the point, with separators."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def size(amount: float, unit: str) -> str:
    """Return an amount with a decimal prefix: `950 B`, `1.25 kB`, `3.4 Mbit`."""
    for prefix in ("", "k", "M", "G"):
        if abs(amount) < 999.5:
            return f"{amount:.3g} {prefix}{unit}"
        amount /= 1000
    return f"{amount:,.3g} T{unit}"


class Ticker:
    """A progress bar on stderr that appears once work has taken two seconds, and only on a terminal.

    Args:
        label: What is done.
        total: Steps to do.
    """

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total, self._done = label, total, 0
        self._start = time.monotonic()
        self._bar: tuple[Progress, TaskID] | None = None

    def advance(self, steps: int = 1) -> None:
        """Say that some steps are done."""
        self._done += steps
        if self._bar is not None:
            self._bar[0].update(self._bar[1], completed=self._done)
        elif self._done < self._total and time.monotonic() - self._start > _PATIENCE and sys.stderr.isatty():
            self._bar = self._show()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar[0].stop()

    def _show(self) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import Progress

        bar = Progress(console=Console(stderr=True), transient=True)
        task = bar.add_task(self._label, total=self._total, completed=self._done)
        bar.start()
        return bar, task


@contextmanager
def ticking(label: str, total: int) -> Iterator[Ticker]:
    """Show the progress of what is done in the context."""
    ticker = Ticker(label, total)
    try:
        yield ticker
    finally:
        ticker.close()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
