"""Measuring tokenizers: runs a suite of `eval/`, and writes what came out as JSON, table and card section."""

from zoo.evaluation.report import Report, as_json, card_section, read_report, table, write_report
from zoo.evaluation.suite import ActionSuite, ResynthesisSuite, SpeechSuite, StabSuite, read_suite, run

__all__ = [
    "ActionSuite",
    "Report",
    "ResynthesisSuite",
    "SpeechSuite",
    "StabSuite",
    "as_json",
    "card_section",
    "read_report",
    "read_suite",
    "run",
    "table",
    "write_report",
]
