"""Figures of an evaluation: the same whichever batches, and processes, the items were in."""

import math
import pickle

import pytest
import torch
import toy_training
import training_runs as runs

from zoo import registry
from zoo.components.quantizers import build, parse
from zoo.process import random as process_random
from zoo.training import OptimizerConfig
from zoo.training.figures import Figures, code_counts, perplexity, ratio, usage

pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in runs.ADVICE]

QUANTIZERS = [
    {"kind": "vq", "codebook_size": 32, "dim": 4, "ema_decay": 0.9},
    {"kind": "lfq", "num_bits": 6},
    {"kind": "voting_lfq", "dim": 6, "num_bits": 5, "num_voters": 3, "num_clean": 2},
    {"kind": "residual", "stage": {"kind": "vq", "codebook_size": 16, "dim": 4}, "num_stages": 2},
]


@pytest.fixture(autouse=True)
def family():
    families = dict(registry._added_families)
    registry.register(toy_training.ToyChunks, replace=True)
    with process_random.preserved():
        yield
    registry._added_families.clear()
    registry._added_families.update(families)


def validated(trainer, module, size):
    (found,) = trainer.validate(module, toy_training.ToyData(batch_size=size), verbose=False)
    return {name: value for name, value in found.items() if "noisy" not in name and name != "val/loss"}


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda quantizer: quantizer["kind"])
def test_h2_figures_do_not_depend_on_the_batch(quantizer, tmp_path):
    trainer, module = runs.train(tmp_path, max_steps=2, model={"config": {"quantizer": quantizer}})
    found = [validated(trainer, module, size) for size in (1, 7, 16, 100)]
    assert {"val/usage", "val/perplexity", "val/reconstruction"} <= set(found[0])
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-4, abs=1e-6)


def test_h2_the_figures_are_those_of_all_items_at_once(tmp_path):
    model = {"config": {"quantizer": QUANTIZERS[1]}, "noise": 0.0}
    trainer, module = runs.train(tmp_path, max_steps=2, decay=0, model=model)
    (found,) = trainer.validate(module, toy_training.ToyData(batch_size=3), verbose=False)
    with process_random.preserved():
        items = toy_training.ToyData().val_dataloader().dataset
        chunks = torch.stack([items[0, number] for number in range(len(items))])
    module.eval()
    quantized = module.tokenizer.quantizer(module.tokenizer.encoder(chunks))
    assert found["val/usage"] == pytest.approx(len(quantized.ids.unique()) / 64)
    assert found["val/quantizer_entropy"] == pytest.approx(quantized.losses["entropy"].item(), rel=1e-4)
    assert found["val/quantizer_commitment"] == pytest.approx(quantized.losses["commitment"].item(), rel=1e-4)
    # Without noise the noisy reconstruction is the other one, and the sum is that of the weighted figures.
    total = 1.1 * found["val/reconstruction"] + found["val/quantizer_entropy"] + found["val/quantizer_commitment"]
    assert found["val/loss"] == pytest.approx(total, rel=1e-5)


def test_h2_counts_are_of_what_was_counted():
    figures = Figures()
    figures.add("asr", ratio, (torch.tensor(6.0), torch.tensor(2)))
    figures.add("asr", ratio, (torch.tensor(0.0), torch.tensor(0)))  # a batch without transcripts
    figures.add("asr", ratio, (torch.tensor(4.0), torch.tensor(8)))
    figures.add("none", ratio, (torch.tensor(0.0), torch.tensor(0)))
    figures.add_total("loss", {"asr": 2.0, "none": 5.0})
    found = figures.finished()
    assert {name: float(value) for name, value in found.items()} == {"asr": 1.0, "loss": 2.0}
    assert figures.finished() == {}


def test_h2_codes_are_counted_by_codebook():
    ids = torch.tensor([[0, 1], [0, 2], [0, 3], [1, 3]])
    counts = code_counts(ids, 4)
    assert counts.tolist() == [[3, 1, 0, 0], [0, 1, 1, 2]]
    assert usage(counts) == pytest.approx((2 / 4 + 3 / 4) / 2)
    first = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert perplexity(counts.double()) == pytest.approx((first + 2**1.5) / 2)
    stats = build(QUANTIZERS[0] | {"dim": 2}).eval()(torch.randn(40, 2))
    assert perplexity(code_counts(stats.ids, 32).double()) == pytest.approx(float(stats.stats["perplexity"]), rel=1e-5)


def test_h2_what_processes_send_one_another_is_small():
    for values in QUANTIZERS[1:3]:
        quantizer = build(parse(values)).eval()
        sums = quantizer(torch.randn(9, quantizer.input_dim)).sums
        assert set(sums) == {"entropy"}
        assert len(pickle.dumps(sums["entropy"][0])) < 1000


# The schedule


def test_h6_another_length_of_a_run_is_told(tmp_path):
    def run(steps, resume=False, **optimizer):
        model = {"optimizer": OptimizerConfig(lr=3e-3, **optimizer)}
        return runs.train(tmp_path / str(optimizer), resume, max_steps=steps, model=model)[0]

    run(3)
    with pytest.raises(UserWarning, match=r"3 steps and now has 5: .*optimizer.schedule.* optimizer.total_steps: 3"):
        run(5, resume=True)
    for optimizer in ({"total_steps": 9}, {"schedule": "constant"}):
        run(3, **optimizer)
        run(5, resume=True, **optimizer)  # warnings are errors here
