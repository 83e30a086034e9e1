"""`zoo fit` as people use it: several files and options, callbacks and loggers of their own, no terminal."""

import json
import re
import sys
from pathlib import Path

import pytest
import training_runs as runs
import yaml
from toy_recipe import fails, recipe, toy_family

from zoo.cli import main
from zoo.cli._settings import completed
from zoo.training.progress import _duration

__all__ = ["recipe", "toy_family"]  # fixtures

pytestmark = [
    pytest.mark.usefixtures("toy_family"),
    *(pytest.mark.filterwarnings(f"ignore:{text}") for text in runs.ADVICE),
]


def resulting(capsys, *arguments):
    """Return the settings that a command line results in."""
    capsys.readouterr()
    assert main(["fit", *arguments, "--print_config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def averages(tmp_path):
    """Return how often weights were averaged in the run, None if never."""
    state = runs.read(tmp_path / "run")["callbacks"].get("zoo_ema")
    return None if state is None else state["updates"]


# Averaged weights


def test_h1_callbacks_of_ones_own_do_not_drop_the_averages(recipe, tmp_path):
    (tmp_path / "more.yaml").write_text("trainer: {callbacks: [{class_path: ModelSummary}]}")
    for number, more in enumerate((["--config", str(tmp_path / "more.yaml")], ["--trainer.callbacks", "ModelSummary"])):
        root = str(tmp_path / "run" / str(number))
        assert main(["fit", "--config", recipe(), *more, "--trainer.default_root_dir", root]) == 0
        assert runs.read(root)["callbacks"]["zoo_ema"]["updates"] == 12


def test_h1_averages_as_a_callback_are_understood_with_advice(recipe, tmp_path, capsys):
    callback = "  callbacks: {class_path: zoo.training.EMA, init_args: {decay: 0.9}}\ncheckpoints:"
    file = recipe(("ema:\n  decay: 0.9\n", ""), ("checkpoints:", callback))
    assert main(["fit", "--config", file]) == 0
    assert "EMA in trainer.callbacks is lost as soon as these are given anew" in capsys.readouterr().err
    assert averages(tmp_path) == 12
    fails(capsys, 1, ["fit", "--config", recipe(("checkpoints:", callback))], "averaged twice, by `ema` and by")


def test_h1_a_run_does_not_lose_its_averages_by_going_on(recipe, tmp_path, capsys):
    assert main(["fit", "--config", recipe()]) == 0
    longer = ["--ckpt_path", "last", "--trainer.max_steps", "14", "--model.optimizer.total_steps", "12"]
    without = recipe(("ema:\n  decay: 0.9\n", ""))
    fails(capsys, 1, ["fit", "--config", without, *longer], "has averaged weights", "add `ema: {decay: 0.999}`")
    # What is measured are the averages, whatever the file says.
    measured = []
    for file in (without, recipe()):
        results = str(tmp_path / "results.json")
        assert main(["validate", "--config", file, "--ckpt_path", "last", "--results", results]) == 0
        measured.append(json.loads(Path(results).read_text())["metrics"])
    assert measured[0] == measured[1]


def test_h1_no_averages_where_there_is_no_section(recipe, tmp_path):
    assert main(["fit", "--config", recipe(), "--ema", "null", "--trainer.max_steps", "2"]) == 0
    assert averages(tmp_path) is None


# Merging


def test_p3_an_option_leaves_its_siblings(recipe, capsys):
    deep = recipe(("{kind: fsq, levels: [5, 5, 5]}", "{kind: vq, codebook_size: 32, dim: 4, ema_decay: 0.9}"))
    config = resulting(capsys, "--config", deep, "--model.config.quantizer.dim", "8")["model"]["init_args"]["config"]
    assert config["quantizer"] == {"kind": "vq", "codebook_size": 32, "dim": 8, "ema_decay": 0.9}


def test_p3_a_second_file_leaves_the_siblings(recipe, tmp_path, capsys):
    (tmp_path / "more.yaml").write_text(
        "model: {init_args: {config: {width: 16, quantizer: {levels: [7, 7]}}, optimizer: {lr: 1e-3}}}\n"
        "trainer: {max_steps: 3}\n"
    )
    values = resulting(capsys, "--config", recipe(), "--config", str(tmp_path / "more.yaml"), "--ema.warmup", "false")
    init = values["model"]["init_args"]
    assert init["config"] == {"quantizer": {"kind": "fsq", "levels": [7, 7]}, "width": 16}
    assert (init["optimizer"]["lr"], init["optimizer"]["schedule"]) == (1e-3, "one_cycle")
    assert (values["trainer"]["max_steps"], values["trainer"]["accelerator"]) == (3, "cpu")
    assert values["ema"] == {"decay": 0.9, "warmup": False, "start": 0}


def arguments(tmp_path, first, *more):
    path = tmp_path / "first.yaml"
    path.write_text(yaml.safe_dump(first))
    return completed(["--config", str(path), *more])


def test_p3_what_wins_is_what_comes_later(tmp_path):
    first = {"data": {"class_path": "a.B", "init_args": {"repeat": {"x": 1, "y": {"z": 2, "w": 3}}, "size": 4}}}
    (tmp_path / "second.yaml").write_text("data: {init_args: {repeat: {y: {z: 9}}}}")
    options = ["--data.repeat.y.w", "8", "--config", str(tmp_path / "second.yaml"), "--data.repeat.q=7"]
    found = arguments(tmp_path, first, *options, "--trainer.max_steps", "3", "--flag")
    assert yaml.safe_load(found[3]) == {"x": 1, "y": {"z": 2, "w": 8}}
    assert yaml.safe_load(found[5])["data"]["init_args"]["repeat"] == {"x": 1, "y": {"z": 9, "w": 8}}
    assert found[6] == "--data.repeat"
    assert yaml.safe_load(found[7]) == {"x": 1, "y": {"z": 9, "w": 8}, "q": 7}
    assert found[8:] == ["--trainer.max_steps", "3", "--flag"]


def test_p3_another_kind_or_class_has_other_settings(tmp_path):
    first = {"model": {"class_path": "a.B", "init_args": {"config": {"quantizer": {"kind": "vq", "dim": 4}}}}}
    found = arguments(tmp_path, first, "--model.config.quantizer", "{kind: fsq, levels: [3]}")
    assert yaml.safe_load(found[3]) == {"quantizer": {"kind": "fsq", "levels": [3]}}
    (tmp_path / "second.yaml").write_text("model: {class_path: a.C, init_args: {config: {width: 1}}}")
    second = ["--config", str(tmp_path / "second.yaml")]
    assert arguments(tmp_path, first, *second)[2:] == second
    found = arguments(tmp_path, first, "--model", "C", "--model.config.width", "2")
    assert found[4:] == ["--model.config", "{width: 2}"]


def test_p3_what_cannot_be_merged_is_left_to_the_parser(tmp_path):
    (tmp_path / "broken.yaml").write_text("model: {")
    (tmp_path / "list.yaml").write_text("- 1")
    for name in ("broken.yaml", "list.yaml", "none.yaml"):
        given = ["--config", str(tmp_path / name), "--model.whisper", "2024", "--data=x.yaml", "--model.config.a"]
        assert completed(given) == given


# What happens is told


def test_h6_lines_without_a_terminal(recipe, capsys):
    file = recipe(("  enable_progress_bar: false\n", "  log_every_n_steps: 5\n"))
    assert not sys.stderr.isatty()
    assert main(["fit", "--config", file]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    number = r"[\d.e-]+"
    assert re.fullmatch(rf"step 5 of 12, loss {number}, learning rate {number}, \d+ s left", lines[0])
    assert re.fullmatch(rf"step 9, validation: .*loss {number}.*", lines[1])
    assert lines[2].startswith("step 10 of 12, loss ")
    assert len(lines) == 3
    assert [_duration(seconds) for seconds in (0.2, 59, 61, 3 * 3600 + 1260)] == ["0 s", "59 s", "1 min", "3 h 21 min"]


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (["--trainer.logger", "WandbLogger"], ["WandbLogger: a package is not installed", "wandb"]),
        (["--trainer.callbacks", "LearningRateFinder"], ["LearningRateFinder sets one rate", "model.optimizer"]),
        (["--trainer.callbacks", "LearningRateMonitor"], ["LearningRateMonitor", "no logger"]),
        (
            ["--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "val/los"],
            ["metric `val/los` which is not available"],
        ),
    ],
)
def test_h6_what_a_callback_or_logger_lacks_is_told_in_a_line(option, told, recipe, capsys):
    fails(capsys, 1, ["fit", "--config", recipe(), *option], *told)


def test_h6_whose_argument_is_missing(recipe, capsys):
    fails(capsys, 2, ["fit", "--config", recipe(), "--trainer.logger", "CSVLogger"], "CSVLogger: ", "save_dir")
    fails(capsys, 2, ["fit", "--config", recipe(("batch_size:", "batchsize:"))], "ToyData: ", "'batchsize' is not")


def test_b9_a_batch_is_learnt_by_heart(recipe, tmp_path):
    assert main(["fit", "--config", recipe(), "--trainer.overfit_batches", "1"]) == 0
    assert runs.read(tmp_path / "run")["global_step"] == 12
