"""`zoo eval`: measure tokenizers with a suite."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from zoo.cli._output import note, print_json
from zoo.cli._parser import Parser

__all__ = ["evaluate", "main"]


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    parser = Parser(
        "eval",
        "SUITE",
        "Measure tokenizers on data they were not fitted on: error, tokens, bits, smoothness,\n"
        "joins between chunks, robustness, latency, with confidence intervals. A suite is a\n"
        "YAML file that says what is measured on what; eval/action.yaml is for robot actions.",
        """
        zoo eval eval/action.yaml                               # what the cards show
        zoo eval eval/action.yaml --models beast ./my-beast     # yours beside another
        zoo eval eval/action.yaml --out results.json
        """,
    )
    parser.add_argument("suite", metavar="SUITE", help="suite file; one that ships may be named alone: action")
    parser.add_argument("--models", metavar="MODEL", nargs="+", help="measure these instead of the suite's own")
    parser.add_argument("--data", metavar="FILE", help="the suite's data, if it is not in the cache")
    parser.add_argument("--out", metavar="FILE", help="also write the results as JSON")
    parser.add_json()
    evaluate(**parser.values(arguments))


def evaluate(suite: str, models: list[str] | None, data: str | None, out: str | None, json: bool) -> None:
    """Run a suite, and print the figures."""
    from zoo import resources
    from zoo.evaluation import as_json, read_suite, run, table, write_report

    path = Path(suite)
    if not path.exists() and not path.suffix:
        path = resources.path("eval", f"{suite}.yaml")
    wanted = read_suite(path)

    def progress(text: str) -> None:
        if sys.stderr.isatty():
            print(f"{text} …", file=sys.stderr)

    report = run(wanted, models=models, data=None if data is None else Path(data), progress=progress)
    if not report.data["is_reference"]:
        note(f"the data is not the file that the published figures are of (SHA-256 {wanted.data.sha256[:16]}…).")
    if out is not None:
        write_report(report, Path(out))
    if json:
        print_json(as_json(report))
        return
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 40 + 26 * len(report.models)).print(table(report))
