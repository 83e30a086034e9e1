"""What the STAB-style suite writes: a page that needs nothing else, Markdown, JSON, through the command line."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import stab_corpus
import yaml

from zoo.cli import main
from zoo.errors import ConfigError
from zoo.evaluation import Report, card_section, read_report, table
from zoo.evaluation.charts import bars, curves, tokens
from zoo.evaluation.report import Figure
from zoo.evaluation.suites.stab.columns import COLUMNS
from zoo.evaluation.suites.stab.page import page

SUITE = Path(__file__).parents[2] / "eval" / "stab.yaml"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Run the command once on two models; return the folder with what it wrote."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "data").mkdir()
    stab_corpus.write_stab(folder / "data")
    values = yaml.safe_load(SUITE.read_text())
    values["strengths"] = {"pitch": [1], "speed": [1.25], "gaussian": [20, 0], "real": [20], "opus": [24000]}
    values["place"] |= {"silence": [0.013, 0.04], "noise": [0.04], "cut": [0.04], "max_clips": 1}
    values |= {"contexts": [0, 0.25], "num_tokens": 100, "num_merges": 64}
    values["bootstrap"]["num_resamples"] = 20
    (folder / "stab.yaml").write_text(yaml.safe_dump(values))
    models = ["--models", "stab_corpus:local,stab_corpus:two", "stab_corpus:constant"]
    files = [part for kind in ("json", "md", "html") for part in (_OPTIONS[kind], str(folder / f"results.{kind}"))]
    assert main(["eval", str(folder / "stab.yaml"), *models, "--data", str(folder / "data"), *files]) == 0
    return folder


_OPTIONS = {"json": "--out", "md": "--markdown", "html": "--html"}
NAMES = ["stab_corpus:local", "stab_corpus:two, stream 1", "stab_corpus:two, tuples of 2", "stab_corpus:constant"]


class Balanced(HTMLParser):
    """Checks that tags are closed, and collects what would be fetched."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.tags = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.fetched += [value for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.fetched += [value for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing(results):
    text = (results / "results.html").read_text()
    parser = Balanced()
    parser.feed(text)
    assert parser.fetched == []
    assert not parser.tags & {"script", "link", "img", "iframe", "object"}
    assert not re.search(r"https?:|url\(|@import", text)
    left = [tag for tag in parser.open if tag not in ("p", "tr", "td")]
    assert left == []
    assert len(text) < 400_000


def test_the_page_shows_every_model_dimension_and_source(results):
    text = (results / "results.html").read_text()
    for name in NAMES:
        assert name in text
    for chart in (
        "silence before the speech",
        "noise before it, -60 dB",
        "its start cut off",
        "halves encoded alone",
        "adversarial",
    ):
        assert chart in text
    for heading in ("Invariance", "Robustness", "Compressibility", "Vocabulary", "Tokens over time", "Data"):
        assert f"<h2>{heading}</h2>" in text
    report = read_report(results / "results.json")
    assert report.data["sha256"] in text
    assert report.data["disturbed_sha256"] in text
    assert "STAB-style" in text
    assert "unrelated recordings have equal tokens" in text  # why the constant one has no index
    assert text == page(report)  # all that is drawn is in the JSON


def test_the_picture_marks_what_changed(results):
    report = read_report(results / "results.json")
    assert report.examples["condition"] == "real 20"
    ids = report.examples["ids"]
    assert set(ids) == {NAMES[0], NAMES[1], NAMES[3]}  # of tuples there is no picture
    pair = ids["stab_corpus:local"]
    changed = sum(a != b for a, b in zip(pair["clean"], pair["noisy"], strict=True))
    assert changed > 0
    peaks, seconds = report.examples["peaks"], report.examples["seconds"]
    drawn = tokens(pair["clean"], pair["noisy"], peaks, seconds, "real 20")
    assert drawn.count('fill="#c00"') == changed
    assert f"{changed} of {len(pair['clean'])} changed" in drawn
    constant = ids["stab_corpus:constant"]
    assert 'fill="#c00"' not in tokens(constant["clean"], constant["noisy"], peaks, seconds, "real 20")


def test_markdown_and_table_have_a_row_for_each_figure(results):
    report = read_report(results / "results.json")
    text = (results / "results.md").read_text()
    assert text == card_section(report) + "\n"
    assert f"| | {' | '.join(NAMES)} |" in text
    known = {key for figures in report.models.values() for key in figures}
    for key, title in ((column.key, column.title) for column in COLUMNS):
        assert (f"| {title} |" in text) == (key in known)
    assert "| speaker invariance, index | " in text
    for title in ("0.013 s of silence before", "0.04 s of noise before", "the first 0.04 s cut off", "halves alone"):
        assert f"| place: tokens changed, {title} |" in text
    assert "| UED %, adversarial noise at 40 dB | – | – | – | – |" in text  # callables give no gradients
    assert "nan" not in text
    assert table(report).row_count == sum(column.key in known for column in COLUMNS) + 8


def test_every_row_of_the_table_is_measured_by_the_shipped_suite(results):
    """The tiny suite lacks only strengths."""
    known = set(read_report(results / "results.json").models[NAMES[0]])
    lacking = {column.key for column in COLUMNS} - known
    assert all(key.startswith(("curve@", "ued")) for key in lacking), lacking


def test_json_goes_to_the_screen_too(results, capsys):
    command = ["eval", str(results / "stab.yaml"), "--data", str(results / "data"), "--models", "stab_corpus:constant"]
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((results / "results.json").read_text())
    assert printed["models"]["stab_corpus:constant"] == written["models"]["stab_corpus:constant"]


def test_the_bar_is_told_every_step(results, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    command = ["eval", str(results / "stab.yaml"), "--data", str(results / "data"), "--models", "stab_corpus:constant"]
    assert main(command) == 0
    assert "speaker invariance, index" in capsys.readouterr().out


def test_pages_are_of_this_suite_only(capsys):
    assert main(["eval", "noise", "--html", "page.html"]) == 1
    assert "--html is for suites that have a page" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="one of the kind 'action'"):
        page(Report("action", "", "", {}, {}))


def test_names_are_escaped(results):
    report = read_report(results / "results.json")
    (name, figures), *_ = report.models.items()
    settings = {"<b>&": dataclasses.replace(report).settings[name]}
    evil = dataclasses.replace(report, models={"<b>&": figures}, settings=settings)
    text = page(evil)
    assert "&lt;b&gt;&amp;" in text
    assert "<b>&<" not in text


def test_bars_show_the_value_and_its_interval_on_one_scale():
    drawn = bars({"a": [Figure(0.5, 0.25, 0.75), None], "b": [Figure(-0.2), Figure.missing("why & wherefore")]})
    assert "0.50 (0.25 … 0.75)" in drawn
    assert "why &amp; wherefore" in drawn
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', drawn)]
    assert widths[0] / widths[1] == pytest.approx(0.5 / 0.2, rel=0.01)
    left, right = (float(x) for x in re.search(r'<path d="M([\d.]+) [\d.]+H([\d.]+)M', drawn).groups())
    assert (right - left) / widths[0] == pytest.approx(1, rel=0.01)
    assert "<rect" not in bars({"a": [None]})


def test_curves_keep_the_order_of_strengths_and_leave_out_what_is_not_known():
    points = [(0.8, Figure(1.0)), (1.25, Figure(0.0, 0.0, 0.1)), (2.0, Figure.missing("x"))]
    drawn = curves([points], "speed", "times", logarithmic=True)
    ((first, top), (second, bottom)) = (
        tuple(float(x) for x in pair.split(",")) for pair in re.search(r'<polyline points="([^"]*)"', drawn)[1].split()
    )
    assert first < second
    assert top < bottom  # a larger distance is higher
    marks = [float(x) for x in re.findall(r'<text x="([\d.]+)" y="168', drawn)]
    assert (marks[1] - marks[0]) / (marks[2] - marks[0]) == pytest.approx(
        math.log(1.25 / 0.8) / math.log(2 / 0.8), abs=0.01
    )
