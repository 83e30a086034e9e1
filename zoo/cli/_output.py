"""What commands print: tables and facts for people, one JSON document for programs, notes and progress on stderr."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zoo.errors import CONTROLS, harmless

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

__all__ = [
    "Ticker",
    "count",
    "note",
    "number",
    "print_facts",
    "print_json",
    "print_table",
    "size",
    "ticking",
]

_PATIENCE = 2.0  # seconds after which work that goes on shows its progress


def note(text: str) -> None:
    """Tell the user something that is neither a result nor an error."""
    print(f"note: {harmless(text)}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Print the one JSON document that a command promises. What is not a finite number becomes null."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    print(CONTROLS.sub(lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[str] = ()) -> None:
    """Print rows under headings, one line a row.

    On a terminal that is too narrow for that, the last cell of each row, the longest text, goes below the others.

    Args:
        columns: The headings.
        rows: The cells.
        numeric: Headings of the columns that are aligned at the right.
    """
    rows = [[harmless(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    pads = [str.rjust if column in numeric else str.ljust for column in columns]
    lines = [[pad(cell, w) for pad, cell, w in zip(pads, row, widths, strict=True)] for row in (columns, *rows)]
    if not sys.stdout.isatty():
        for line in lines:
            print("  ".join(line).rstrip())
        return
    from rich.padding import Padding

    console = _console()
    is_wide = sum(widths) + 2 * len(widths) - 2 <= console.width
    for number, line in enumerate(lines):
        console.print("  ".join(line if is_wide else line[:-1]).rstrip(), style="" if number else "bold")
        if not is_wide and number:
            console.print(Padding(line[-1].rstrip(), (0, 0, 0, 4)))


def print_facts(title: str, facts: Mapping[str, str]) -> None:
    """Print a title and, indented below it, names and values."""
    title, facts = harmless(title), {harmless(name): harmless(value) for name, value in facts.items()}
    width = max(map(len, facts), default=0)
    if sys.stdout.isatty():
        from rich.table import Table

        console = _console()
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


def _console() -> Console:
    """Return a console that shows text as it is: file names have brackets and colons."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False)


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
        self._tell(self._done)

    def partly(self, share: float) -> None:
        """Say that a share of the next step is done, or of so many steps, which `advance` will count."""
        self._tell(self._done + share)

    def _tell(self, done: float) -> None:
        if self._bar is not None:
            self._bar[0].update(self._bar[1], completed=done)
        elif done < self._total and time.monotonic() - self._start > _PATIENCE and sys.stderr.isatty():
            self._bar = self._show(done)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar[0].stop()

    def _show(self, done: float) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import Progress

        bar = Progress(console=Console(stderr=True), transient=True)
        task = bar.add_task(self._label, total=self._total)
        bar.update(task, completed=done)
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
