"""What commands print: on a terminal, elsewhere, and while they work."""

import io
import json
import math
import sys

import pytest

from zoo.cli import _output as output

ROWS = [("beast.default", "0", "[bold]Splines[/bold] :smile: " + "of robot actions " * 5), ("x", "1,234", "")]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal(monkeypatch):
    """Put a terminal of 80 columns in place of stdout and stderr, in a test: the runner sets them after fixtures."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def test_a_table_is_plain_lines_where_programs_read_it(capsys):
    output.print_table(("name", "count", "what"), ROWS, numeric=["count"])
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == "name           count  what"
    assert lines == [f"beast.default      0  {ROWS[0][2].rstrip()}", "x              1,234"]


def test_a_table_fits_a_terminal_and_shows_text_as_it_is(monkeypatch):
    screen = terminal(monkeypatch)
    output.print_table(("name", "count", "what"), ROWS, numeric=["count"])
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    assert lines[:2] == ["name           count", "beast.default      0"]
    assert lines[2].startswith("    [bold]Splines[/bold] :smile: of robot")
    assert max(map(len, lines)) <= 80
    output.print_table(("name", "what"), [("a", "short [x]")])
    assert screen.getvalue().endswith("name  what\na     short [x]\n")


@pytest.mark.parametrize("on_terminal", [True, False])
def test_facts_are_indented_below_their_title(on_terminal, monkeypatch, capsys):
    screen = terminal(monkeypatch) if on_terminal else None
    output.print_facts("out [1].zoo", {"tokens": "12 :bits:", "compression": "x" * 30})
    text = screen.getvalue() if screen else capsys.readouterr().out
    assert [line.rstrip() for line in text.splitlines()] == [
        "out [1].zoo",
        "  tokens       12 :bits:",
        f"  compression  {'x' * 30}",
    ]


def test_json_is_one_document_without_what_json_lacks(capsys):
    output.print_json({"a": math.nan, "b": [math.inf, 1.5], "c": ("ü", {"d": -math.inf})})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": ["ü", {"d": None}]}


def test_numbers():
    assert [output.number(x) for x in (0, 12345, 0.5, 1234.5, 34.1234, 1e-5)] == [
        "0", "12,345", "0.5", "1,234", "34.1", "1e-05",
    ]  # fmt: skip
    assert [output.size(x, "B") for x in (0, 999, 1000, 123456, 5e7)] == [
        "0 B", "999 B", "1 kB", "123 kB", "50 MB",
    ]  # fmt: skip
    assert [output.count(x, "item") for x in (0, 1, 1000)] == ["0 items", "1 item", "1,000 items"]


@pytest.mark.parametrize("seconds", [1.0, 3.0])
def test_progress_appears_after_two_seconds_on_a_terminal(seconds, monkeypatch):
    screen = terminal(monkeypatch)
    monkeypatch.setenv("TERM", "xterm")
    clock = iter([0.0, seconds, seconds, seconds])
    monkeypatch.setattr(output.time, "monotonic", lambda: next(clock, seconds))
    with output.ticking("encoding", 3) as ticker:
        ticker.advance()
        ticker.advance()
    assert ("encoding" in screen.getvalue()) == (seconds > 2)


def test_no_progress_elsewhere(capsys, monkeypatch):
    clock = iter([0.0])
    monkeypatch.setattr(output.time, "monotonic", lambda: next(clock, 100.0))
    with output.ticking("encoding", 3) as ticker:
        ticker.advance()
    assert capsys.readouterr() == ("", "")
