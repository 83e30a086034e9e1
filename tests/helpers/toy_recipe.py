"""The toy recipe as a file, for tests of `zoo fit` and what goes with it."""

import pytest
import toy_training

from zoo import registry
from zoo.cli import main
from zoo.process import random as process_random

RECIPE = """\
trainer:
  default_root_dir: ROOT
  accelerator: cpu
  max_steps: 12
  logger: false
  enable_progress_bar: false
  enable_model_summary: false
checkpoints:
  every_n_steps: 5
ema:
  decay: 0.9
model:
  class_path: toy_training.ToyTraining
  init_args:
    config:
      quantizer: {kind: fsq, levels: [5, 5, 5]}
    optimizer: {lr: 0.01, schedule: one_cycle, warmup_steps: 3}
data:
  class_path: toy_training.ToyData
  init_args: {batch_size: 16}
"""


@pytest.fixture
def toy_family(monkeypatch):
    """The toy family is registered, and random numbers and what seeding leaves are given back."""
    families = dict(registry._added_families)
    registry.register(toy_training.ToyChunks, replace=True)
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")
    # Lightning calls something of jsonargparse that has another name now.
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    with process_random.preserved():
        yield
    registry._added_families.clear()
    registry._added_families.update(families)


@pytest.fixture
def recipe(tmp_path):
    """A function that writes the recipe, changed, and returns its path."""

    def write(*changes):
        text = RECIPE.replace("ROOT", str(tmp_path / "run"))
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return str(path)

    return write


def fails(capsys, code, arguments, *parts):
    capsys.readouterr()
    assert main(arguments) == code
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    for part in parts:
        assert part in shown
