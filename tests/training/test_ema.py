"""Averaged weights: exact whatever the weights' own precision."""

from types import SimpleNamespace

import pytest
import torch
import training_runs as runs
from torch import nn

from zoo import registry
from zoo.process import random as process_random
from zoo.training import EMA

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in runs.ADVICE]


def averaged(dtype, steps=15_000, jump=10_000, start=None):
    """Average one weight, 1 at first and 1.5 from a step on; return callback, module, trainer."""
    average, trainer = EMA(0.999), SimpleNamespace(global_step=0, optimizers=[])
    module = SimpleNamespace(tokenizer=nn.Linear(1, 1, bias=False, dtype=dtype))
    weight = nn.init.constant_(module.tokenizer.weight, 1.0)
    average.setup(trainer, module, "fit")
    if start is not None:
        average.load_state_dict(start)
    average.on_fit_start(trainer, module)
    average.on_train_start(trainer, module)
    for step in range(1, steps + 1):
        if step == jump + 1:
            nn.init.constant_(weight, 1.5)
        trainer.global_step = step
        average.on_train_batch_end(trainer, module, None, None, 0)
    return average, module, trainer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_b7_averages_move_in_every_precision(dtype):
    average, module, trainer = averaged(dtype)
    found = average.state_dict()["average"]["weight"]
    assert float(found) == pytest.approx(1.5 - 0.5 * 0.999**5000, abs=2e-4)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    # In validation the weights are the average, rounded to what they are in; afterwards they are what they were.
    average.on_validation_start(trainer, module)
    assert module.tokenizer.weight.item() == found.to(dtype).item()
    average.on_validation_end(trainer, module)
    assert module.tokenizer.weight.item() == 1.5


def test_b7_an_average_that_was_kept_in_half_precision_goes_on_in_float32():
    before = {"average": {"weight": torch.ones(1, 1, dtype=torch.bfloat16)}, "updates": 10_000}
    average, _, _ = averaged(torch.bfloat16, steps=1000, jump=0, start=before)
    assert float(average.state_dict()["average"]["weight"]) == pytest.approx(1.5 - 0.5 * 0.999**1000, abs=1e-4)


def test_b7_a_run_in_bfloat16_exports_an_average_in_float32(tmp_path, toy_family):
    from zoo.training import tokenizer_of

    runs.train(tmp_path, max_steps=6, decay=0.99, precision="bf16-true")
    average = runs.read(tmp_path)["callbacks"]["zoo_ema"]["average"]
    assert {tensor.dtype for tensor in average.values()} == {torch.float32}
    for name, tensor in tokenizer_of(tmp_path / "checkpoints" / "last.ckpt").named_parameters():
        assert torch.equal(tensor, average[name])


@pytest.fixture
def toy_family():
    families = dict(registry._added_families)
    with process_random.preserved():
        yield
    registry._added_families.clear()
    registry._added_families.update(families)
