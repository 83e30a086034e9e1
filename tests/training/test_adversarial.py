"""Training of two networks: whose turn it is, what is counted, and that a killed run goes on exactly."""

from types import SimpleNamespace

import pytest
import torch
import toy_training
import training_runs as runs
from lightning.pytorch import Callback

from zoo import registry
from zoo.errors import ConfigError
from zoo.process import random as process_random
from zoo.training import OptimizerConfig
from zoo.training.adversarial import AdversarialModule

EPOCH = 9
# With a large eps, the length of a step depends on the scale of the gradients.
OWN = OptimizerConfig(lr=3e-2, betas=(0.5, 0.9), eps=0.01, schedule="cosine", warmup_steps=2, total_steps=30)
OTHER = OptimizerConfig(kind="adam", lr=1e-3, betas=(0.0, 0.9), weight_decay=0.0, schedule="cosine", total_steps=20)


@pytest.fixture(autouse=True)
def family():
    """The toy family is registered, and random numbers are given back."""
    families = dict(registry._added_families)
    registry.register(toy_training.ToyChunks, replace=True)
    with process_random.preserved():
        yield
    registry._added_families.clear()
    registry._added_families.update(families)


def adversarial(**changes):
    """Return the arguments of a run of two networks; the discriminator begins in step 3 and learns in every second."""
    model = {
        "optimizer": OWN,
        "discriminator": {"width": 16},
        "discriminator_optimizer": OTHER,
        "discriminator_every": 2,
        "adversarial_from": 3,
    }
    return {"kind": "ToyAdversarial", "model": {**model, **changes}}


def steps_of(optimizer_state):
    return {int(state["step"]) for state in optimizer_state["state"].values()}


# What a step is


class Recorded(Callback):
    """Keeps what a run starts from, and the batches and random numbers of each step."""

    def on_train_start(self, trainer, pl_module):
        self.start = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}
        self.steps = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.steps.append((batch.clone(), torch.get_rng_state()))


def by_hand(module, recorded, size, clip):
    """Repeat a run as a plain loop, from the text of the class."""
    module.load_state_dict(recorded.start)
    module._log = lambda *_, **__: None
    judge = list(module.discriminator.parameters())
    own = [p for p in module.parameters() if not any(p is other for other in judge)]

    def groups(parameters, decay):
        return [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]

    optimizer = torch.optim.AdamW(groups(own, OWN.weight_decay), lr=OWN.lr, betas=OWN.betas, eps=OWN.eps)
    other = torch.optim.Adam(groups(judge, 0.0), lr=OTHER.lr, betas=OTHER.betas, eps=OTHER.eps)

    def step(which, parameters, config, at):
        for group in which.param_groups:
            group["lr"] = config.lr * config.ratio(at, config.total_steps)
        if clip:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        which.step()

    for number, (batch, state) in enumerate(recorded.steps):
        torch.set_rng_state(state)
        at, is_first = number // size, number % size == 0
        is_last = number % size == size - 1
        if is_first:
            own_gradients, other_gradients = [0] * len(own), [0] * len(judge)
        pair = module.reconstruct(batch)
        if at >= 3 and (at - 3) % 2 == 0:
            cut = type(pair)({}, pair.real, pair.made.detach())
            loss = sum(module.loss_weights[name] * value for name, value in module.discriminator_losses(cut).items())
            gradients = torch.autograd.grad(loss / size, judge)
            other_gradients = [a + b for a, b in zip(other_gradients, gradients, strict=True)]
            if is_last:
                for parameter, gradient in zip(judge, other_gradients, strict=True):
                    parameter.grad = gradient
                step(other, judge, OTHER, at - 3)
        loss = sum(module.loss_weights.get(name, 1.0) * value for name, value in pair.losses.items())
        if at >= 3:
            loss = loss + module.loss_weights["adversarial"] * module.adversarial_losses(pair)["adversarial"]
        gradients = torch.autograd.grad(loss / size, own, allow_unused=True)
        gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(own, gradients, strict=True)]
        own_gradients = [a + b for a, b in zip(own_gradients, gradients, strict=True)]
        if is_last:
            for parameter, gradient in zip(own, own_gradients, strict=True):
                parameter.grad = gradient
            step(optimizer, own, OWN, at)


@pytest.mark.parametrize(("size", "clip"), [(1, None), (1, 0.02), (2, None), (2, 0.02)])
def test_a_run_is_what_a_plain_loop_does(size, clip, tmp_path, monkeypatch):
    recorded = Recorded()
    monkeypatch.setattr(runs, "ExactResume", lambda: recorded)
    settings = {"accumulate_grad_batches": size, "gradient_clip_val": clip, "max_steps": 8 // size}
    _, module = runs.train(tmp_path, decay=0, **settings, **adversarial())
    found = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert len(recorded.steps) == 8
    by_hand(module, recorded, size, clip)
    changed = 0
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6, msg=name)
        changed += name.startswith("discriminator.") and not torch.equal(tensor, recorded.start[name])
    assert changed == 4


def test_steps_are_the_tokenizers(tmp_path):
    trainer, _ = runs.train(tmp_path, max_steps=10, **adversarial())
    checkpoint = runs.read(tmp_path)
    assert trainer.global_step == checkpoint["global_step"] == 10
    own, other = checkpoint["optimizer_states"]
    assert steps_of(own) == {10}
    assert steps_of(other) == {4}  # in the steps 3, 5, 7 and 9
    schedule, other_schedule = checkpoint["lr_schedulers"]
    assert (schedule["last_epoch"], other_schedule["last_epoch"]) == (10, 7)
    assert schedule["_last_lr"][0] == pytest.approx(OWN.lr * OWN.ratio(10, 30))
    assert other_schedule["_last_lr"][0] == pytest.approx(OTHER.lr * OTHER.ratio(7, 20))


def test_the_schedule_of_each_ends_with_the_run(tmp_path):
    until = OptimizerConfig(lr=1e-3, final_ratio=0.25)
    trainer, _ = runs.train(tmp_path, max_steps=7, **adversarial(optimizer=until, discriminator_optimizer=None))
    for config in trainer.lr_scheduler_configs:
        assert config.scheduler.get_last_lr()[0] == pytest.approx(0.25e-3)


def test_the_average_is_of_the_tokenizer_alone(tmp_path):
    _, module = runs.train(tmp_path, max_steps=6, **adversarial())
    ema = runs.read(tmp_path)["callbacks"]["zoo_ema"]
    assert ema["average"].keys() == dict(module.tokenizer.named_parameters()).keys()
    assert ema["updates"] == 6


def test_without_a_discriminator_lightning_makes_the_steps(tmp_path):
    trainer, module = runs.train(tmp_path, max_steps=4, **adversarial(discriminator=None))
    assert module.automatic_optimization
    assert trainer.global_step == 4
    assert len(trainer.optimizers) == 1


def test_a_run_starts_from_both_networks_of_a_checkpoint(tmp_path):
    _, module = runs.train(tmp_path, max_steps=5, decay=0, **adversarial())
    settings = {"config": {"quantizer": runs.VQ}, **adversarial()["model"]}
    again = toy_training.ToyAdversarial(**settings, weights=str(tmp_path / "checkpoints/last.ckpt"))
    for name, tensor in module.state_dict().items():
        # Not there yet when the family's constructor makes it.
        if not name.startswith("lecam."):
            assert torch.equal(tensor, again.state_dict()[name]), name


def test_a_checkpoint_gives_the_module_back(tmp_path):
    _, module = runs.train(tmp_path, max_steps=5, decay=0, **adversarial())
    path = tmp_path / "checkpoints/last.ckpt"
    again = toy_training.ToyAdversarial.load_from_checkpoint(path, weights_only=True)
    assert again.discriminator_optimizer_config == OTHER
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), again.parameters(), strict=True))


# Killed and resumed


def test_killed_inside_and_between_epochs(tmp_path):
    series = [(4, EPOCH - 1, EPOCH + 3, EPOCH + 4)]
    whole = runs.compare(tmp_path, runs.run, series, max_steps=16, gradient_clip_val=0.05, **adversarial())
    assert len(whole["optimizer_states"]) == 2
    assert whole["state_dict"]["lecam.real_mean"] != 0


def test_killed_within_an_accumulation_of_gradients(tmp_path):
    # An epoch has 5 steps, the last of one batch.
    runs.compare(tmp_path, runs.run, [(7, 11, 13)], accumulate_grad_batches=2, max_steps=9, **adversarial())


def test_killed_in_mixed_precision(tmp_path):
    runs.compare(tmp_path, runs.run, [(7,)], precision="bf16-mixed", max_steps=12, **adversarial())


# Several processes


STRATEGY = "ddp_find_unused_parameters_true"


def test_killed_as_two_processes(tmp_path):
    series = [(EPOCH - 2, EPOCH + 2)]
    runs.compare(tmp_path, runs.run_pair, series, batch_size=8, strategy=STRATEGY, **adversarial())


@pytest.mark.parametrize("size", [1, 2])
def test_two_processes_do_what_one_does(size, tmp_path):
    fsq = {"config": {"quantizer": {"kind": "fsq", "levels": [5, 5, 5]}}, "label_noise": 0.0}
    settings = {**adversarial(**fsq), "accumulate_grad_batches": size, "gradient_clip_val": 0.05, "max_steps": 8}
    assert runs.run(root=tmp_path / "one", **settings) == 0
    assert runs.run_pair(root=tmp_path / "two", batch_size=8, strategy=STRATEGY, **settings) == [0, 0]
    one, two = (runs.read(tmp_path / name)["state_dict"] for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=1e-3, atol=1e-5, msg=name)


# Refused


def test_bad_settings_are_refused():
    settings = {"config": {"quantizer": runs.VQ}}
    for changes in ({"discriminator_every": 0}, {"adversarial_from": -1}):
        with pytest.raises(ConfigError, match="discriminator_every must be at least 1"):
            toy_training.ToyAdversarial(**settings, **changes)


def test_a_strategy_that_waits_for_all_gradients_is_refused(tmp_path, monkeypatch):
    for name, value in {"WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    try:
        with pytest.raises(ConfigError, match=STRATEGY):
            runs.train(tmp_path, max_steps=1, strategy="ddp", devices=1, **adversarial())
    finally:
        torch.distributed.destroy_process_group()


def test_half_precision_that_scales_is_refused_with_accumulation():
    # Lightning has this precision on accelerators only.
    module = toy_training.ToyAdversarial(config={"quantizer": runs.VQ}, discriminator={"width": 4})
    module._trainer = SimpleNamespace(precision="16-mixed", accumulate_grad_batches=2)
    with pytest.raises(ConfigError, match="bf16-mixed, or accumulate_grad_batches 1"):
        AdversarialModule.configure_optimizers(module)
