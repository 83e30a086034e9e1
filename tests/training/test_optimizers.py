"""Kinds of optimisers: what they do, and that schedule-free ones evaluate, save and go on with the right weights."""

import sys

import pytest
import torch
import training_runs as runs
from torch import nn

from zoo.errors import ConfigError, MissingExtraError
from zoo.training import EMA, OptimizerConfig, tokenizer_of
from zoo.training.optim import EvaluationWeights, build_optimizer, build_schedule

EPOCH = 9
FREE = OptimizerConfig(kind="schedule_free_radam", lr=3e-3, betas=(0.9, 0.9), schedule="constant", weight_decay=0.1)
MODEL = {"optimizer": FREE}


def test_adam_decays_through_the_gradient_and_adamw_does_not():
    weights = {}
    for kind in ("adam", "adamw"):
        layer = nn.Linear(3, 2, bias=False)
        nn.init.constant_(layer.weight, 2.0)
        optimizer = build_optimizer(OptimizerConfig(kind=kind, lr=0.1, weight_decay=0.5), [layer])
        layer.weight.grad = torch.zeros(2, 3)
        optimizer.step()
        weights[kind] = layer.weight[0, 0].item()
    # The first step of Adam is as long as the rate, whatever the gradient; AdamW shrinks by rate · decay.
    assert weights == pytest.approx({"adam": 2 - 0.1, "adamw": 2 * (1 - 0.1 * 0.5)})


def test_what_another_optimizer_has_is_left_out():
    both = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    parameters = [p for g in build_optimizer(OptimizerConfig(), [both], both[1]).param_groups for p in g["params"]]
    assert {id(p) for p in parameters} == {id(p) for p in both[0].parameters()}


def test_parts_may_learn_faster_throughout_the_schedule():
    both = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    config = OptimizerConfig(lr=0.1, weight_decay=0.5, schedule="cosine", warmup_steps=1)
    optimizer = build_optimizer(config, [both], faster=[(both[1], 5.0)])
    schedule = build_schedule(config, optimizer, 10)
    for _ in range(4):
        optimizer.step()
        schedule.step()
        rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
        assert {rates[id(p)] for p in both[0].parameters()} == {0.1 * config.ratio(schedule.last_epoch, 10)}
        assert {rates[id(p)] for p in both[1].parameters()} == {0.5 * config.ratio(schedule.last_epoch, 10)}
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert [decays[id(p)] for p in both.parameters()] == [0.5, 0.0, 0.5, 0.0]


def test_bad_settings_are_refused(monkeypatch):
    for values, text in [
        ({"kind": "adamv"}, "did you mean 'adam"),
        ({"kind": "schedule_free_radam"}, "schedule: constant"),
        ({"kind": "schedule_free_radam", "schedule": "constant", "betas": (0.0, 0.9)}, "first beta above 0"),
    ]:
        with pytest.raises(ConfigError, match=text):
            OptimizerConfig(**values)
    monkeypatch.setitem(sys.modules, "schedulefree", None)
    with pytest.raises(MissingExtraError, match=r"tokenizer-zoo\[train\]"):
        build_optimizer(FREE, [nn.Linear(2, 2)])


def trained(steps=7):
    """Return a layer and its optimiser after some steps."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    optimizer = build_optimizer(FREE, [layer])
    for _ in range(steps):
        optimizer.zero_grad()
        (layer(torch.randn(8, 4)) - 1).square().mean().backward()
        optimizer.step()
    return layer, optimizer


def test_a_look_at_the_averages_changes_nothing():
    layer, optimizer = trained()
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    with EvaluationWeights.of([optimizer]) as weights:
        # x = (y - (1 - β) z) / β
        z, y = optimizer.state[layer.weight]["z"], before["weight"]
        torch.testing.assert_close(layer.weight.detach(), (y - 0.1 * z) / 0.9)
        assert not torch.equal(layer.weight, y)
        assert torch.equal(weights.kept[layer.weight], y)
        with EvaluationWeights.of([optimizer]) as inner:
            assert inner.kept == {}
    for name, tensor in layer.state_dict().items():
        assert torch.equal(tensor, before[name])
    optimizer.step()  # which it refuses if it is evaluating


def test_validation_and_checkpoints_do_not_change_a_run(tmp_path):
    often = {"every": 1, "val_check_interval": 2}
    _, module = runs.train(tmp_path / "often", decay=0, max_steps=8, model=MODEL, **often)
    seldom = {"every": 8, "limit_val_batches": 0}
    _, other = runs.train(tmp_path / "seldom", decay=0, max_steps=8, model=MODEL, **seldom)
    for (name, a), b in zip(module.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_the_averages_are_validated_saved_exported_and_left(tmp_path):
    trainer, module = runs.train(tmp_path, decay=0, max_steps=7, every=7, model=MODEL)
    checkpoint = runs.read(tmp_path)
    exported = tokenizer_of(tmp_path / "checkpoints/last.ckpt")
    groups, state = (checkpoint["optimizer_states"][0][key] for key in ("param_groups", "state"))
    order = [p for group in trainer.optimizers[0].param_groups for p in group["params"]]
    for name, parameter in module.tokenizer.named_parameters():
        trained_one = checkpoint["zoo_trained"][f"tokenizer.{name}"]
        z = state[next(i for i, p in enumerate(order) if p is parameter)]["z"]
        torch.testing.assert_close(parameter.detach(), (trained_one - 0.1 * z) / 0.9, rtol=1e-4, atol=1e-6)
        assert torch.equal(parameter, checkpoint["state_dict"][f"tokenizer.{name}"])
        assert torch.equal(parameter, exported.get_parameter(name))
        assert not torch.equal(parameter, trained_one)
    assert all(group["train_mode"] for group in groups)


def test_a_validation_sees_the_averages(tmp_path, monkeypatch):
    seen = []

    class Looking(runs.Checkpoints):
        def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
            if not trainer.sanity_checking:
                weight = pl_module.tokenizer.encoder[1].weight
                z = trainer.optimizers[0].state[weight]["z"]
                seen.append((weight.clone(), z.clone(), [g["train_mode"] for g in trainer.optimizers[0].param_groups]))

        def on_validation_end(self, trainer, pl_module):
            # As Lightning's own checkpoint callbacks do; the module still evaluates.
            trainer.save_checkpoint(tmp_path / "during.ckpt")

    monkeypatch.setattr(runs, "Checkpoints", Looking)
    runs.train(tmp_path, decay=0, max_steps=8, val_check_interval=8, model=MODEL)
    weight, z, modes = seen[0]
    assert modes == [False, False]
    during = torch.load(tmp_path / "during.ckpt", weights_only=True)
    y = during["zoo_trained"]["tokenizer.encoder.1.weight"]
    torch.testing.assert_close(weight, (y - 0.1 * z) / 0.9, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(weight, y)
    assert torch.equal(during["state_dict"]["tokenizer.encoder.1.weight"], weight)


def test_the_moving_average_is_of_the_averages(tmp_path, monkeypatch):
    class Looking(EMA):
        steps = []  # noqa: RUF012

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            with EvaluationWeights.of(trainer.optimizers):
                self.steps.append(pl_module.tokenizer.encoder[1].weight.detach().clone())
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    monkeypatch.setattr(runs, "EMA", Looking)
    runs.train(tmp_path, decay=1e-9, max_steps=8, every=8, model=MODEL)
    assert not torch.allclose(runs.read(tmp_path)["zoo_trained"]["tokenizer.encoder.1.weight"], Looking.steps[-1])
    average = runs.read(tmp_path)["callbacks"]["zoo_ema"]["average"]["encoder.1.weight"]
    torch.testing.assert_close(average, Looking.steps[-1], rtol=1e-5, atol=1e-7)
    assert torch.equal(runs.read(tmp_path)["state_dict"]["tokenizer.encoder.1.weight"], Looking.steps[-1])


@pytest.mark.parametrize("kind", ["ToyTraining", "ToyAdversarial"])
def test_killed_and_resumed(kind, tmp_path):
    model = MODEL if kind == "ToyTraining" else {**MODEL, "discriminator": {"width": 16}, "discriminator_every": 2}
    runs.compare(tmp_path, runs.run, [(4, EPOCH - 1, EPOCH + 3)], max_steps=14, kind=kind, model=model)


def test_a_longer_run_goes_on_from_a_finished_one(tmp_path):
    assert runs.run(root=tmp_path / "whole", model=MODEL, max_steps=12) == 0
    assert runs.run(root=tmp_path / "two", model=MODEL, max_steps=7) == 0
    assert runs.run(root=tmp_path / "two", model=MODEL, max_steps=12, resume=True) == 0
    assert runs.differences(runs.essence(tmp_path / "whole"), runs.essence(tmp_path / "two")) == []


def test_what_was_saved_after_a_run_can_be_gone_on_from(tmp_path):
    trainer, module = runs.train(tmp_path, decay=0, max_steps=5, every=5, model=MODEL)
    path = tmp_path / "checkpoints/last.ckpt"
    path.unlink()
    trainer.save_checkpoint(path)
    assert "zoo_trained" not in runs.read(tmp_path)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    trainer, module = runs.train(tmp_path, decay=0, max_steps=8, every=8, resume=True, model=MODEL)
    assert trainer.global_step == 8
    assert any(not torch.equal(p, before[name]) for name, p in module.named_parameters())
