"""`zoo fit`, `validate`, `test` and `export`: a YAML file in, a model that `zoo.load` reads out."""

import json
import os
import re
import signal
import time
import warnings

import pytest
import torch
import training_runs as runs
from toy_recipe import fails, recipe, toy_family

import zoo
from zoo.cli import cards, main
from zoo.errors import ConfigError

__all__ = ["recipe", "toy_family"]  # fixtures

# As in training_runs: what Lightning calls of torch will change, and its advice about speed.
pytestmark = [
    pytest.mark.usefixtures("toy_family"),
    *(pytest.mark.filterwarnings(f"ignore:{text}") for text in runs.ADVICE),
]


def test_a_recipe_becomes_a_model(recipe, tmp_path, capsys):
    file, last = recipe(), tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert main(["fit", "--config", file, "--ckpt_path", "last"]) == 0
    assert "starting from the beginning" in capsys.readouterr().err
    assert runs.read(tmp_path / "run")["global_step"] == 12
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        assert main(["fit", "--config", file, "--ckpt_path", "last", "--trainer.max_steps", "14"]) == 0
    (told,) = re.findall("warning: the run was to have.*", capsys.readouterr().err)
    assert re.search("12 steps and now has 14.*optimizer.total_steps: 12", told)
    assert runs.read(tmp_path / "run")["global_step"] == 14
    for command, name in {"validate": "val/loss", "test": "test/loss"}.items():
        results = tmp_path / "results" / f"{command}.json"
        assert main([command, "--config", file, "--ckpt_path", "last", "--results", str(results)]) == 0
        assert name in capsys.readouterr().out
        written = json.loads(results.read_text())
        assert (written["command"], written["steps"]) == (command, 14)
        shown = cards.metrics(written)
        assert f"| loss | {written['metrics']['loss']:.4g} |" in shown
        assert "After 14 steps" in shown
    with pytest.raises(ConfigError, match="zoo test --results"):
        cards.metrics({"format": "other"})
    model = tmp_path / "model"
    facts = ["--name", "toy_chunks.mine", "--licence", "MIT", "--trained-on", "four episodes"]
    assert main(["export", str(last), "-o", str(model), *facts, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "toy_chunks.mine"
    tok = zoo.load(model)
    assert (tok.name, tok.spec.licence, tok.trained_on) == ("toy_chunks.mine", "MIT", "four episodes")
    average = runs.read(tmp_path / "run")["callbacks"]["zoo_ema"]["average"]
    assert all(torch.equal(tensor, average[name]) for name, tensor in tok.named_parameters())
    trained = tmp_path / "trained"
    assert main(["export", str(last), "-o", str(trained), "--weights", "trained"]) == 0
    assert not torch.equal(zoo.load(trained).decoder[1].weight, tok.decoder[1].weight)


def test_a_quantizer_is_swapped_by_one_line(recipe, tmp_path):
    file = recipe(("{kind: fsq, levels: [5, 5, 5]}", "{kind: lfq, num_bits: 7}"))
    assert main(["fit", "--config", file]) == 0
    assert main(["export", str(tmp_path / "run" / "checkpoints" / "last.ckpt"), "-o", str(tmp_path / "model")]) == 0
    assert zoo.load(tmp_path / "model").spec.codebook_size == 128


def test_mistakes_are_told_in_a_line(recipe, capsys):
    cases = [
        (2, ("max_steps", "max_step"), "'max_step'; did you mean 'max_steps'"),
        (2, ("trainer:", "trainers:"), "'trainers"),
        (
            2,
            ("batch_size: 16", "batchsize: 16"),
            "zoo fit: error: ",
            "'batchsize' is not accepted; did you mean 'batch_",
        ),
        (2, ("batch_size: 16", "zzz: 16"), "'zzz' is not accepted; known: batch_size, "),
        (2, ("ToyTraining", "ToyTrain"), "no attribute 'ToyTrain'"),
        (2, ("lr: 0.01", "lr: fast"), "fast"),
        (
            1,
            ("kind: fsq", "kind: fqs"),
            "zoo: error: toy_chunks config: quantizer has the unknown kind 'fqs'; did you mean 'lfq' or 'fsq'",
        ),
        (
            1,
            ("decay: 0.9", "decay: 9.0"),
            "zoo: error: EMA: decay must be at least 0 and below 1, and",
            "got 9.0",
        ),
        (1, ("batch_size: 16", "batch_size: 0"), "zoo: error: data: batch_size must be at least 1"),
    ]
    for code, change, *parts in cases:
        fails(capsys, code, ["fit", "--config", recipe(change)], *parts)
    file = recipe()
    fails(capsys, 2, ["fit"], "--config FILE must be given")
    fails(capsys, 2, ["fit", "--config", "no.yaml"], "zoo fit: error: ", "no.yaml")
    fails(capsys, 1, ["fit", "--config", file, "--ckpt_path", "no.ckpt"], "there is no training checkpoint no.ckpt")
    fails(capsys, 1, ["fit", "--config", file, "--ckpt_path", file], "is no training checkpoint")


def test_the_full_help_and_the_resulting_file_are_there(recipe, capsys):
    assert main(["fit", "--full-help"]) == 0
    assert "--checkpoints.every_n_steps" in capsys.readouterr().out
    assert main(["fit", "--config", recipe(), "--print_config"]) == 0
    assert "warmup_steps: 3" in capsys.readouterr().out


def test_export_refuses_what_is_no_training_checkpoint(tmp_path, capsys):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "hacked"),)

    path, out = tmp_path / "x.ckpt", ["-o", str(tmp_path / "model")]
    fails(capsys, 1, ["export", str(path), *out], "there is no training checkpoint")
    torch.save({"state_dict": {}, "zoo_tokenizer": {"family": "beast"}}, path)
    fails(capsys, 1, ["export", str(path), *out], "does not name a family and its config")
    settings = {"family": "toy_chunks", "config": {"quantizer": {"kind": "fsq", "levels": [5, 5, 5]}}}
    torch.save({"state_dict": {}, "zoo_tokenizer": settings}, path)
    fails(capsys, 1, ["export", str(path), *out], "the weights in", "do not fit the config")
    fails(capsys, 1, ["export", str(path), *out, "--weights", "averaged"], "has no averaged weights")
    torch.save({"state_dict": Hostile()}, path)
    fails(capsys, 1, ["export", str(path), *out], "is no training checkpoint")
    assert not (tmp_path / "hacked").exists()
    assert not (tmp_path / "model").exists()


def test_the_command_saves_and_stops_when_it_is_told_to(recipe, tmp_path):
    (tmp_path / "toy.dist-info").mkdir()
    (tmp_path / "toy.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toychunks\nVersion: 1.0\n")
    points = "[zoo.families]\ntoy_chunks = toy_training:ToyChunks\n"
    (tmp_path / "toy.dist-info" / "entry_points.txt").write_text(points)
    file = recipe(("max_steps: 12", "max_steps: 1000000"))
    last, log = tmp_path / "run" / "checkpoints" / "last.ckpt", tmp_path / "messages"
    process = runs.start_command("fit", "--config", file, paths=[tmp_path], log=log)
    try:
        deadline = time.monotonic() + 300
        while not last.exists():
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
        process.join(300)
    finally:
        process.kill()  # else it would be waited for, a million steps
    assert process.exitcode == 143
    assert "Traceback" not in log.read_text()
    assert runs.read(tmp_path / "run")["global_step"] > 5
