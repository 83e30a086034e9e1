"""The scalars of a run: in its checkpoints, beside the exported model, on its card."""

import json

import pytest
import torch
import training_runs as runs
from toy_recipe import fails, recipe, toy_family

import zoo
from zoo import registry
from zoo.cli import cards, main
from zoo.errors import ConfigError
from zoo.hub.card import write_card
from zoo.hub.curves import curves_table, encode_curves, read_curves
from zoo.training.history import History

__all__ = ["recipe", "toy_family"]  # fixtures

pytestmark = [
    pytest.mark.usefixtures("toy_family"),
    *(pytest.mark.filterwarnings(f"ignore:{text}") for text in runs.ADVICE),
]


def test_h8_the_curves_of_a_run_come_with_its_model(recipe, tmp_path):
    file = recipe(("  logger: false\n", "  logger: false\n  log_every_n_steps: 2\n"))
    assert main(["fit", "--config", file, "--trainer.max_steps", "6", "--model.optimizer.total_steps", "12"]) == 0
    longer = ["--ckpt_path", "last", "--model.optimizer.total_steps", "12"]
    assert main(["fit", "--config", file, *longer]) == 0
    last, model = tmp_path / "run" / "checkpoints" / "last.ckpt", tmp_path / "model"
    assert main(["export", str(last), "-o", str(model)]) == 0
    found = read_curves(model / "curves.json")
    assert found["steps"] == 12
    # One curve, although the run was stopped in its middle.
    assert found["curves"]["train/loss"]["steps"] == [2, 4, 6, 8, 10, 12]
    assert found["curves"]["val/reconstruction"]["steps"] == [9]
    assert found["curves"]["train/learning_rate"]["values"][1] == pytest.approx(0.01, rel=0.05)
    card = write_card(zoo.load(model), model).read_text()
    assert "## Training" in card
    assert "| train/loss | " in card


def test_h8_a_card_draws_what_is_beside_the_results(tmp_path, monkeypatch):
    content = encode_curves({"train/loss": ([20, 40, 60], [4.0, 2.0, 0.123456]), "x": ([1], [float("nan")])}, 60)
    (tmp_path / "m.curves.json").write_text(content)
    monkeypatch.setattr(cards.resources, "path", lambda *parts: tmp_path / parts[-1])
    filled = cards.fill("<!-- zoo:curves m.curves.json -->\nold\n<!-- zoo:end -->\n")
    assert "| train/loss | 4 | 0.1235 | `█▄▁` |" in filled
    assert "old" not in filled
    assert "Over 60 steps" in filled
    assert json.loads(content)["curves"]["x"] == {"steps": [], "values": []}


def test_h8_long_runs_stay_small():
    history = History()
    for step in range(1, 50_001):
        history._add("train/loss", step, float(step))
    steps, values = history.state_dict()["curves"]["train/loss"]
    assert len(steps) == len(values) <= 1000
    assert (steps[-1], values[-1]) == (50_000, 50_000.0)
    assert steps == sorted(set(steps))
    assert len(curves_table({"steps": 1, "curves": {"a": {"values": values}}})) < 400


def test_h8_what_holds_no_curves_is_refused(tmp_path):
    for text in ("[]", "{", '{"format": "tokenizer-zoo-curves", "steps": 1, "curves": {"a": {"steps": [1]}}}'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(ConfigError, match=r"x\.json"):
            read_curves(tmp_path / "x.json")


# What is exported may be damaged


JUNK = [None, -1, 2**70, float("nan"), "x", b"x", [1], {"a": 1}, {1: 2}, torch.zeros(2), torch.float32]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    families = dict(registry._added_families)
    runs.train(root, max_steps=2, decay=0.9)
    registry._added_families.clear()
    registry._added_families.update(families)
    return root / "checkpoints" / "last.ckpt"


def test_training_checkpoints_given_to_export_are_read_or_refused(whole, tmp_path, capsys):
    content = torch.load(whole, weights_only=True)
    path, out = tmp_path / "x.ckpt", ["-o", str(tmp_path / "model"), "--overwrite"]
    places = [("zoo_tokenizer",), ("zoo_tokenizer", "family"), ("zoo_tokenizer", "config"), ("state_dict",)]
    places += [("callbacks",), ("callbacks", "zoo_ema"), ("callbacks", "zoo_ema", "average"), ("zoo_parts",)]
    places += [("zoo_tokenizer", "config", "quantizer"), ("state_dict", "tokenizer.encoder.1.weight"), ("zoo_licence",)]
    refused = 0
    for place in places:
        for junk in JUNK:
            changed = {key: content[key] for key in ("state_dict", "callbacks", "zoo_tokenizer", "zoo_parts")}
            inner = changed
            for key in place[:-1]:
                inner[key] = dict(inner[key])
                inner = inner[key]
            inner[place[-1]] = junk
            torch.save(changed, path)
            code = main(["export", str(path), *out])
            shown = capsys.readouterr().err
            assert code == 0 or (code == 1 and shown.startswith("zoo: error: ")), (place, junk, shown)
            refused += code
    assert refused > 0.7 * len(places) * len(JUNK)


def test_flipped_bytes_of_a_training_checkpoint_are_refused_or_read(whole, tmp_path, capsys):
    good, path = whole.read_bytes(), tmp_path / "x.ckpt"
    generator = torch.Generator().manual_seed(0)
    for _ in range(25):
        data = bytearray(good)
        for place in torch.randint(len(data), (3,), generator=generator).tolist():
            data[place] ^= 0xFF
        path.write_bytes(data)
        code = main(["export", str(path), "-o", str(tmp_path / "model"), "--overwrite"])
        assert code == 0 or capsys.readouterr().err.startswith("zoo: error: ")
    path.write_bytes(good[: len(good) // 2])
    fails(capsys, 1, ["export", str(path), "-o", str(tmp_path / "model")], "no training checkpoint")
