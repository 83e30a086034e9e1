"""`zoo eval` on a small suite."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from zoo.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def suite(tmp_path):
    """A suite and its data: the sample's four episodes, two of them to test on."""
    sample = np.load(ROOT / "zoo" / "data" / "samples" / "metaworld_expert.npz")
    values = {name: sample[name] for name in sample.files}
    values["split"] = np.array(["train", "train", "test", "test"])
    np.savez(tmp_path / "small.npz", **values)
    settings = yaml.safe_load((ROOT / "eval" / "action.yaml").read_text())
    settings.update(models=["binning"], variants=[], latency_seconds=0.0, bootstrap={"num_resamples": 20})
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(settings))
    return [str(path), "--data", str(tmp_path / "small.npz")]


def test_a_table_for_people(suite, capsys):
    assert main(["eval", *suite]) == 0
    shown = capsys.readouterr()
    for text in ("binning", "tokens a chunk", "80.0", "MSE"):
        assert text in shown.out
    assert "not what the published figures are of" in shown.err


def test_a_document_for_programs_and_a_file(suite, tmp_path, capsys):
    out = tmp_path / "r.json"
    assert main(["eval", *suite, "--models", "beast", "binning", "--json", "--out", str(out)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed["models"]) == ["beast", "binning"]
    assert printed["models"]["beast"]["tokens_per_chunk"][0] == 40
    assert json.loads(out.read_text())["models"] == printed["models"]


def test_a_suite_that_ships_goes_by_its_name(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["eval", "action"]) == 1
    assert "make it with `zoo data metaworld`" in capsys.readouterr().err


def test_help_has_examples(capsys):
    assert main(["eval", "--help"]) == 0
    assert "zoo eval action --models beast ./my-beast" in capsys.readouterr().out
