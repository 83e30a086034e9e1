"""Measuring tokenizers: runs a suite of `eval/`, and writes what came out as JSON, table and card section."""

from zoo.evaluation.kinds import SuiteKind, suite_kind
from zoo.evaluation.report import Report, as_json, card_section, read_report, table, write_report
from zoo.evaluation.suite import Suite, read_suite, run

__all__ = [
    "Report",
    "Suite",
    "SuiteKind",
    "as_json",
    "card_section",
    "read_report",
    "read_suite",
    "run",
    "suite_kind",
    "table",
    "write_report",
]
