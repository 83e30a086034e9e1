"""A report of a STAB-style suite as one HTML file that needs nothing else: no network, no script, no picture files."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from zoo.evaluation.charts import bars, curves, tokens
from zoo.evaluation.page import document, figures_table, legend, require_kind, row, tr, write
from zoo.evaluation.report import Report

__all__ = ["page", "write_page"]

# Of each dimension: its heading, what to know, and measures of equal units.
_DIMENSIONS: tuple[tuple[str, str, tuple[tuple[str, tuple[tuple[str, str], ...]], ...]], ...] = (
    (
        "Invariance",
        "0 is chance, 1 is the same tokens whoever speaks, whatever is around, and in every language. Read the three "
        "figures of language together: a shared inventory is no shared meaning.",
        (
            (
                "{:.2f}",
                (
                    ("speaker_index", "speaker, index"),
                    ("context_index", "context, index"),
                    ("language_bag_index", "language: overlap, index"),
                    ("language_top1", "language: retrieval, top 1"),
                    ("language_distribution", "language: inventory"),
                ),
            ),
        ),
    ),
    (
        "Robustness",
        "1 is the same tokens however the sound is disturbed; 1 - normalised edit distance, runs collapsed.",
        (
            (
                "{:.2f}",
                (
                    ("robustness_pitch", "pitch"),
                    ("robustness_speed", "playback speed, tempo"),
                    ("robustness_noise", "noise"),
                    ("robustness_extensions", "extensions"),
                    ("robustness", "mean of the first three"),
                ),
            ),
        ),
    ),
    (
        "Compressibility",
        "Bits a second, lower is cheaper: as they are, with a Huffman code, with one token of memory (first order; too "
        "low for large vocabularies). Below, how many times fewer tokens byte pairs leave.",
        (
            (
                "{:.0f}",
                (
                    ("bits_per_second", "bit/s as they are"),
                    ("huffman_bits_per_second", "bit/s, Huffman"),
                    ("first_order_bits_per_second", "bit/s, first order"),
                ),
            ),
            ("{:.2f}", (("bpe_ratio", "byte pairs, as many as ids"), ("bpe_fixed_ratio", "byte pairs, {merges}"))),
        ),
    ),
    (
        "Vocabulary",
        "Of {tokens} tokens of each. An extension: it is unknown whether the paper measures it.",
        (
            (
                "{:.2f}",
                (
                    ("vocabulary_coverage_equal", "share of ids used"),
                    ("vocabulary_expected_coverage_equal", "if all were as frequent"),
                    ("vocabulary_entropy_share_equal", "entropy / log2 V"),
                    ("vocabulary_renyi_efficiency_equal", "Rényi 2.5 / log2 V"),
                    ("vocabulary_overlap", "shared by two languages"),
                ),
            ),
        ),
    ),
)
_UNITS = {
    "pitch": "semitones",
    "speed": "times as fast, pitch moves",
    "tempo": "times as fast, pitch stays",
    "gaussian": "SNR, dB",
    "pink": "SNR, dB",
    "real": "SNR, dB",
    "babble": "SNR, dB",
    "adversarial": "SNR, dB, made for each",
}


def write_page(report: Report, path: Path) -> None:
    """Write the page of a report."""
    write(page(report), path)


def page(report: Report) -> str:
    """Return a report as HTML.

    Raises:
        ConfigError: It is of another kind of suite.
    """
    require_kind(report, "stab")
    suite = report.data["suite"]
    names = {
        "merges": str(suite["num_merges"]),
        "tokens": str(suite["num_tokens"]),
    }
    body = [f"<p class=note>{escape(report.protocol)}</p>", legend(report)]
    for heading, note, charts in _DIMENSIONS:
        body.append(f"<h2>{heading}</h2><p class=note>{escape(note.format(**names))}</p>")
        for form, measures in charts:
            groups = {title.format(**names): row(report, key) for key, title in measures}
            body.append(bars(groups, form))
        if heading == "Invariance":
            body += [_contexts(report, suite), _places(report, suite)]
        if heading == "Robustness":
            body.append(_strengths(report, suite))
    body += [_pictures(report), figures_table(report), _sources(report)]
    return document(report.title, body)


def _contexts(report: Report, suite: dict[str, Any]) -> str:
    charts = []
    for prefix, title in (
        ("context", "silence beyond the context"),
        ("context_past", "only the past is silent"),
        ("context_future", "only the future is silent"),
        ("context_crop", "cut out instead"),
    ):
        series = [
            [(seconds, figures.get(f"{prefix}_{seconds:g}")) for seconds in suite["contexts"]]
            for figures in report.models.values()
        ]
        charts.append(curves(series, title, "seconds kept on each side"))
    return f"<p class=note>Share of a segment's tokens that stay.</p><div class=row>{''.join(charts)}</div>"


def _places(report: Report, suite: dict[str, Any]) -> str:
    place = suite.get("place")
    if place is None:
        return ""
    charts = []
    for kind, title, unit in (
        ("silence", "silence before the speech", "seconds of silence"),
        ("noise", f"noise before it, {place['noise_level']:g} dB", "seconds of noise"),
        ("cut", "its start cut off", "seconds cut off"),
    ):
        series = [
            [(seconds, figures.get(f"place@{kind} {seconds:g}")) for seconds in place[kind]]
            for figures in report.models.values()
        ]
        if place[kind]:
            charts.append(curves(series, title, unit, logarithmic=True))
    note = (
        "Place in what the tokenizer sees, an extension: edits of the speech's own tokens, of their number; 0 is no "
        "change."
    )
    halves = bars({"halves encoded alone": row(report, "place@halves")}) if place["halves"] else ""
    return f"<p class=note>{note}</p><div class=row>{''.join(charts)}</div>{halves}"


def _strengths(report: Report, suite: dict[str, Any]) -> str:
    charts = []
    adversarial = suite.get("adversarial")
    more = {} if adversarial is None else {"adversarial": adversarial["snr"]}
    for kind, strengths in (suite["strengths"] | more).items():
        if kind in _UNITS:
            series = [
                [(strength, figures.get(f"ned_collapsed@{kind} {strength:g}")) for strength in strengths]
                for figures in report.models.values()
            ]
            charts.append(curves(series, kind, _UNITS[kind], logarithmic=kind in ("speed", "tempo")))
    note = "Normalised edit distance, runs collapsed; 0 is no change."
    return f"<p class=note>{note}</p><div class=row>{''.join(charts)}</div>"


def _pictures(report: Report) -> str:
    example = report.examples
    if not example:
        return ""
    parts = [
        "<h2>Tokens over time</h2><p class=note>"
        f"One clip of {escape(example['source'])}, clean and disturbed ({escape(example['condition'])}). A colour is "
        "an id; red marks are tokens that changed. Of several codebooks the first.</p>"
    ]
    for name, ids in example["ids"].items():
        drawn = tokens(ids["clean"], ids["noisy"], example["peaks"], example["seconds"], example["condition"])
        parts.append(f"<h3>{escape(name)}</h3>{drawn}")
    return "".join(parts)


def _sources(report: Report) -> str:
    rows = []
    for part, sets in report.data["parts"].items():
        for name, facts in sets.items():
            cells: Sequence[Any] = (
                part, name, facts["recordings"], facts["groups"], facts["speakers"], ", ".join(facts["languages"]),
                facts["minutes"], ", ".join(facts["sources"]), ", ".join(facts["splits"]),
            )  # fmt: skip
            rows.append(tr(cells, "td"))
    head = ("part", "set", "recordings", "texts", "speakers", "languages", "minutes", "sources", "split")
    environment = ", ".join(f"{key} {value}" for key, value in report.environment.items())
    data = report.data
    return (
        f"<h2>Data</h2><div class=scroll><table>{tr(head, 'th')}{''.join(rows)}</table></div>"
        f"<p class=note>Made by <code>{escape(data['made_by'])}</code>. SHA-256 of labels and sound "
        f"<code>{data['sha256']}</code>, of the disturbed waves <code>{data['disturbed_sha256']}</code>. "
        f"Machine: {escape(environment)}.</p>"
    )
