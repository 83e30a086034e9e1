"""The suite runner: figures equal an independent computation, repeat exactly, and reach the cards."""

import dataclasses
import json
import re
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

import zoo
from zoo.cli import cards
from zoo.data.actions import read_actions
from zoo.errors import ConfigError, InputError
from zoo.evaluation import card_section, read_report, read_suite, run, suite_kind, table, write_report
from zoo.evaluation.kinds import KINDS
from zoo.hub.card import write_card

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "eval" / "action.yaml"
UNTIMED = lambda figures: {key: value for key, value in figures.items() if not key.endswith("_us")}  # noqa: E731


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The sample's four episodes as a data set with both splits."""
    sample = np.load(ROOT / "zoo" / "data" / "samples" / "metaworld_expert.npz")
    values = {name: sample[name] for name in sample.files}
    values["split"] = np.array(["train", "train", "test", "test"])
    path = tmp_path_factory.mktemp("data") / "small.npz"
    np.savez(path, **values)
    return path


@pytest.fixture(scope="module")
def suite():
    whole = read_suite(SUITE)
    return dataclasses.replace(
        whole,
        models=("beast", "binning"),
        variants=whole.variants[2:3],
        bootstrap=dataclasses.replace(whole.bootstrap, num_resamples=50),
        latency_seconds=0.0,
    )


@pytest.fixture(scope="module")
def report(suite, data):
    return run(suite, data=data)


def test_figures_equal_an_independent_computation(report, data):
    train, test = (read_actions(data, split=name).episodes for name in ("train", "test"))
    low, high = np.quantile(np.concatenate(train), [0.01, 0.99], axis=0)
    half = np.where(high - low < 1e-8, 1, (high - low) / 2)
    tok = zoo.load("beast")
    squares, third, third_data, count = 0.0, 0.0, 0.0, 0
    for episode in test:
        decoded = tok.decode(tok.encode(torch.from_numpy(episode))).numpy()[0]
        error = (decoded.astype(float) - episode) / half
        squares += (error**2).sum()
        count += error.size
        third += (np.diff(decoded.astype(float) / half, 3, axis=0) ** 2).sum()
        third_data += (np.diff(episode.astype(float) / half, 3, axis=0) ** 2).sum()
    figures = report.models["beast"]
    assert figures["mse"].estimate == pytest.approx(squares / count, rel=1e-6)
    assert figures["mse"].low <= figures["mse"].estimate <= figures["mse"].high
    assert figures["jerk_ratio"].estimate == pytest.approx((third / third_data) ** 0.5, rel=1e-5)
    assert figures["tokens_per_chunk"].estimate == 40
    seconds, chunks = sum(map(len, test)) / 80, sum(-(-len(e) // 20) for e in test)
    assert figures["bits_per_second"].estimate == pytest.approx(chunks * 40 * 8 / seconds)
    assert figures["decodes"].estimate == 1
    assert figures["damage"].estimate > 0
    assert figures["encode_us"].estimate > 0


def test_binning_follows_the_data_and_a_continued_chunk_repeats_nothing(report):
    assert report.models["binning"]["mse"].estimate < 1e-4 < report.models["beast"]["mse"].estimate
    assert report.models["binning"]["jerk_ratio"].estimate == pytest.approx(1, abs=0.05)
    (continued,) = (figures for name, figures in report.models.items() if "continued" in name)
    assert continued["repeated"].estimate < 0.05


def test_a_second_run_gives_the_same_figures(report, suite, data):
    again = run(suite, data=data)
    assert {name: UNTIMED(figures) for name, figures in again.models.items()} == {
        name: UNTIMED(figures) for name, figures in report.models.items()
    }


def test_a_report_survives_its_file(report, tmp_path):
    write_report(report, tmp_path / "deep" / "r.json")
    assert read_report(tmp_path / "deep" / "r.json") == report
    (tmp_path / "bad.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(ConfigError, match="not a results file"):
        read_report(tmp_path / "bad.json")


def test_the_table_and_the_card_show_every_model_and_interval(report):
    from rich.console import Console

    console = Console(width=200, record=True, file=None, quiet=True)
    console.print(table(report))
    section = card_section(report)
    for name, figures in report.models.items():
        assert f" {name} " in section
        assert f"{figures['mse'].estimate:.2e} ({figures['mse'].low:.2e} … {figures['mse'].high:.2e})" in section


def test_data_that_is_not_the_reference_is_said_to_be_so(report):
    assert report.data["is_reference"] is False


def test_missing_data_says_how_to_make_it(suite, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"make it with `zoo data metaworld`"):
        run(suite)


def test_a_model_that_does_not_fit_the_data_is_refused(suite, data, tmp_path):
    from zoo.families.binning import BinningConfig, BinningTokenizer

    zoo.save(BinningTokenizer(BinningConfig(num_dofs=2, horizon=8)).fit([torch.rand(30, 2)]), tmp_path / "two")
    with pytest.raises(InputError, match="2 degrees of freedom, the suite's data has 4"):
        run(suite, models=[str(tmp_path / "two")], data=data)
    steps = []
    with pytest.raises(InputError, match="2 degrees of freedom"):
        run(suite, models=["beast", str(tmp_path / "two")], data=data, progress=lambda *step: steps.append(step))
    assert not steps, "it is said before another one is measured"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "must be a YAML mapping"),
        ("kind: action\nfoo: 1", "unknown key"),
        ("kind: [", "is not plain YAML"),
        ("", "mapping"),
    ],
)
def test_a_bad_suite_is_refused(tmp_path, text, message):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_suite(tmp_path / "s.yaml")


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_one_registration(name):
    kind = suite_kind(name)
    assert get_args(get_type_hints(kind.config)["kind"]) == (name,)
    keys = [column.key for column in kind.columns]
    assert keys
    assert len(set(keys)) == len(keys)


def test_every_shipped_suite_is_of_a_kind_and_every_kind_has_one():
    assert {read_suite(path).kind for path in (ROOT / "eval").glob("*.yaml")} == set(KINDS)


# ------------------------------------------------------------------------------------------------------------- cards


def test_cards_are_what_was_measured():
    assert cards.main(["--check"]) == 0, "run python -m zoo.cli.cards"


def test_every_shipped_model_has_a_card_with_metadata_and_figures():
    import yaml

    from zoo import registry

    entries = [registry.model(name) for name in registry.list_models()]
    entries += [registry.generator(name) for name in registry.list_generators()]
    for name in (entry.name for entry in entries if entry.is_shipped):
        text = (ROOT / "model_cards" / f"{name}.md").read_text()
        front = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)[1])
        assert front["license"] == registry.info(name)["licence"].lower()
        assert front["library_name"] == "tokenizer-zoo"
        is_generator = name in registry.list_generators()
        assert ("generator" if is_generator else "tokenizer") in front["tags"]
        figures = {"action": "| MSE |", "speech": "| UED %, mean of the six |"}
        figure = figures.get(registry.info(name)["modality"], "| PSNR, dB")
        assert ("bits_per_token" if is_generator else figure) in text
        assert "## Limits" in text


def test_a_card_never_downloads():
    with pytest.raises(ConfigError, match=r"fast\.plus, which would be downloaded: only those that ship have cards"):
        cards.fill("<!-- zoo:facts fast.plus -->\n<!-- zoo:end -->")


def test_the_card_of_a_generator_is_filled_as_well(tmp_path):
    import toy

    from zoo.generator import GeneratorConfig, TokenGenerator

    config = GeneratorConfig("action", 256, 40, width=16, num_layers=1, num_heads=2)
    generator = TokenGenerator(config).of(zoo.load("beast.default"))
    zoo.save(generator, tmp_path / "own", name="beast.mine_ar")
    text = "<!-- zoo:{} beast.mine_ar -->\n<!-- zoo:end -->"
    with toy.registered():
        entry = ("beast.mine_ar", "beast", "action", str(tmp_path / "own"), "MIT", "", "", 1)
        zoo.register(zoo.ModelEntry(*entry, tokenizer="beast.default"))
        shown = cards.fill(text.format("facts"))
        assert "| over the ids of | beast.default |" in shown
        assert f"| parameters | {generator.num_parameters:,} |" in shown
        assert '"tokenizer": "beast.default"' in cards.fill(text.format("settings"))
    with pytest.raises(ConfigError, match=r"larp\.L_long_ar, which would be downloaded"):
        cards.fill("<!-- zoo:facts larp.L_long_ar -->\n<!-- zoo:end -->")


def test_a_stale_card_is_found(tmp_path, monkeypatch, capsys):
    from zoo import resources

    folder = tmp_path / "model_cards"
    folder.mkdir()
    (folder / "x.md").write_text("<!-- zoo:facts beast.default -->\nold\n<!-- zoo:end -->\n")
    real = resources.path
    monkeypatch.setattr(resources, "path", lambda *p: folder if p == ("model_cards",) else real(*p))
    assert cards.main(["--check"]) == 1
    assert "256 ids, 8 bits a token" in capsys.readouterr().out
    assert cards.main([]) == 0
    assert cards.main(["--check"]) == 0


def test_a_checkpoint_without_a_card_gets_one(tmp_path):
    from zoo.families.binning import BinningConfig, BinningTokenizer

    tok = BinningTokenizer(BinningConfig(num_dofs=2, horizon=8)).fit([torch.rand(30, 2)])
    path = write_card(tok, tmp_path, "me/mine")
    text = path.read_text()
    assert 'zoo.load("hf://me/mine")' in text
    assert '"horizon": 8' in text
    path.write_text("mine")
    assert write_card(tok, tmp_path).read_text() == "mine"
