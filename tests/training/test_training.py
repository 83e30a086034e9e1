"""Training: the module, its losses and what it logs, the optimiser, averaged weights, data in order."""

import pickle
import random

import numpy as np
import pytest
import torch
import toy_training
import training_runs as runs
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import zoo
from zoo import registry
from zoo.data.loader import ResumableLoader, ResumableSampler, SeededItems
from zoo.errors import CheckpointError, ConfigError, InputError
from zoo.process import random as process_random
from zoo.training import EMA, Audio, Checkpoints, Clip, OptimizerConfig, Picture, TokenizerModule, media, tokenizer_of
from zoo.training.optim import build_optimizer

# As in training_runs: what Lightning calls of torch will change, and its advice about speed.
pytestmark = [pytest.mark.filterwarnings(f"ignore:{text}") for text in runs.ADVICE]

QUANTIZERS = [
    {"kind": "fsq", "levels": [5, 5, 5]},
    {"kind": "lfq", "num_bits": 6},
    {"kind": "vq", "codebook_size": 64, "dim": 4, "ema_decay": 0.9, "revive_below": 0.1},
    {"kind": "residual", "stage": {"kind": "vq", "codebook_size": 16, "dim": 4}, "num_stages": 2},
]


@pytest.fixture(autouse=True)
def family():
    """The toy family is registered, and random numbers are given back."""
    families = dict(registry._added_families)
    registry.register(toy_training.ToyChunks, replace=True)
    with process_random.preserved():
        yield
    registry._added_families.clear()
    registry._added_families.update(families)


def settings(quantizer=QUANTIZERS[0], **changes):
    return {"config": {"quantizer": quantizer}, "optimizer": OptimizerConfig(lr=0.01, warmup_steps=5), **changes}


# Learning


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda quantizer: quantizer["kind"])
def test_it_learns_with_any_quantizer(quantizer, tmp_path):
    model = settings(quantizer, optimizer=OptimizerConfig(lr=0.02, warmup_steps=5))

    def measured(steps):
        trainer, module = runs.train(tmp_path / str(steps), max_steps=steps, every=1000, model=model)
        (values,) = trainer.validate(module, toy_training.ToyData(batch_size=32), verbose=False)
        return values

    before, after = measured(1), measured(60)
    assert after["val/reconstruction"] < 0.5 * before["val/reconstruction"]
    assert after["val/usage"] > 0.15
    assert after["val/perplexity"] > 4
    tok = tokenizer_of(tmp_path / "60" / "checkpoints" / "last.ckpt")
    chunks = toy_training.Chunks(16).chunks
    folder = zoo.save(tok, tmp_path / "model", name="toy_chunks.mine")
    loaded = zoo.load(folder)
    assert torch.equal(loaded.encode(chunks).ids, tok.encode(chunks).ids)
    error = (loaded.decode(loaded.encode(chunks)) - chunks).square().mean()
    assert error < 1.1 * after["val/reconstruction"] + 0.01


# The module


def test_everything_is_logged_by_name(tmp_path):
    trainer, _ = runs.train(tmp_path, max_steps=9, model=settings(QUANTIZERS[2]))
    names = {"loss", "reconstruction", "noisy", "quantizer_commitment", "usage", "perplexity"}
    assert set(trainer.callback_metrics) == {f"{stage}/{name}" for stage in ("train", "val") for name in names}


def test_losses_are_weighted(tmp_path):
    def total(weights):
        trainer, _ = runs.train(
            tmp_path / str(weights), max_steps=1, model=settings(QUANTIZERS[2], loss_weights=weights)
        )
        return {name: float(value) for name, value in trainer.callback_metrics.items()}

    plain, changed = total(None), total({"noisy": 2.0, "quantizer_commitment": 0.0})
    expected = plain["train/reconstruction"] + 0.1 * plain["train/noisy"] + plain["train/quantizer_commitment"]
    assert plain["train/loss"] == pytest.approx(expected)
    assert changed["train/loss"] == pytest.approx(plain["train/reconstruction"] + 2 * plain["train/noisy"])


def test_media_go_to_tensorboard(tmp_path):
    runs.train(tmp_path, max_steps=9, logger=TensorBoardLogger(tmp_path, name="log"), model=settings())
    events = EventAccumulator(str(tmp_path / "log" / "version_0"))
    events.Reload()
    (image,) = events.Images("chunk and reconstruction")
    assert (image.width, image.height, image.step) == (8, 8, 9)


def test_pictures_of_a_batch_are_shown_side_by_side(tmp_path):
    logger = TensorBoardLogger(tmp_path, name="log")
    media.log_media([logger], {"batch": Picture(torch.rand(5, 3, 6, 4)), "grey": Picture(torch.rand(1, 6, 4))}, 2)
    media.log_media([logger], {"clip": Clip(torch.rand(3, 5, 6, 4))}, 2)
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    sizes = {tag: (event.width, event.height) for tag in ("batch", "grey", "clip") for event in events.Images(tag)}
    assert sizes == {"batch": (20, 6), "grey": (4, 6), "clip": (20, 6)}


def test_what_cannot_be_shown_is_refused_where_it_is_made():
    cases = [
        (lambda: Picture(torch.rand(6, 4)), r"a picture .*\(3, H, W\) or \(N, 3, H, W\), got \(6, 4\)"),
        (lambda: Picture(torch.rand(6, 4, 3)), r"a picture .*got \(6, 4, 3\)"),
        (lambda: Picture(torch.rand(2, 3, 5, 6, 4)), r"a picture .*got \(2, 3, 5, 6, 4\)"),
        (lambda: Clip(torch.rand(5, 3, 6, 4)), r"a clip .*\(3, T, H, W\), got \(5, 3, 6, 4\)"),
        (lambda: Audio(torch.rand(2, 100), 16000), r"a wave .*\(samples,\), got \(2, 100\): choose one item"),
    ]
    for make, text in cases:
        with pytest.raises(InputError, match=text):
            make()


def test_bad_settings_are_refused():
    cases = [
        ({"loss_weights": {"reconstrution": 1.0}}, "no loss 'reconstrution'; did you mean 'reconstruction'"),
        ({"config": {"quantizer": {"kind": "fqs"}}}, "unknown kind 'fqs'; did you mean 'lfq' or 'fsq'"),
        ({"config": {"quantizer": QUANTIZERS[0], "widht": 3}}, "unknown key 'widht'; did you mean 'width'"),
        ({"optimizer": {"lr": 1e-3, "decay": 1.0}}, "unknown key 'decay'"),
        ({"noise": torch.tensor(0.1)}, "the hyper-parameter noise must be a plain value, got tensor"),
    ]
    for changes, text in cases:
        with pytest.raises(ConfigError, match=text):
            toy_training.ToyTraining(**settings(**changes))
    for values, text in [({"lr": 0.0}, "lr must"), ({"total_steps": 5, "warmup_steps": 5}, "total_steps must")]:
        with pytest.raises(ConfigError, match=text):
            OptimizerConfig(**values)


def test_a_loss_without_a_weight_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(toy_training.ToyTraining, "default_weights", {"reconstruction": 1.0})
    with pytest.raises(ConfigError, match="default_weights lacks the loss 'noisy'"):
        runs.train(tmp_path, max_steps=1, model=settings())


def test_a_run_starts_from_a_model(tmp_path):
    tok = toy_training.ToyTraining(**settings()).tokenizer
    folder = zoo.save(tok, tmp_path / "model", name="toy_chunks.first")
    module = toy_training.ToyTraining(**settings(weights=str(folder)))
    assert all(torch.equal(a, b) for a, b in zip(module.tokenizer.parameters(), tok.parameters(), strict=True))
    with pytest.raises(ConfigError, match=r"does not fit the model: quantizer\..* there and .* here"):
        toy_training.ToyTraining(**settings(QUANTIZERS[1], weights=str(folder)))


def test_another_tokenizer_or_other_data_does_not_go_on(tmp_path):
    fixed = {"optimizer": OptimizerConfig(lr=0.01, total_steps=9)}
    runs.train(tmp_path, max_steps=3, model=settings(**fixed))
    with pytest.raises(ConfigError, match="the checkpoint is of another tokenizer: its config is"):
        runs.train(tmp_path, max_steps=4, resume=True, model=settings(QUANTIZERS[1], **fixed))
    with pytest.raises(ConfigError, match=r"batch_size was 16 and is 8\. Restore"):
        runs.train(tmp_path, max_steps=4, resume=True, batch_size=8, model=settings(**fixed))
    with pytest.raises(CheckpointError, match=r"last.ckpt is there already, from an earlier run"):
        runs.train(tmp_path, max_steps=4, model=settings(**fixed))


def test_a_checkpoint_gives_the_module_back(tmp_path):
    _, module = runs.train(tmp_path, max_steps=3, decay=0, model=settings(noise=0.5))
    path = tmp_path / "checkpoints" / "last.ckpt"
    again = toy_training.ToyTraining.load_from_checkpoint(path, weights_only=True)
    assert again.noise == 0.5
    assert again.optimizer_config == module.optimizer_config
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), module.parameters(), strict=True))


# Optimiser


def test_schedules():
    cosine = OptimizerConfig(warmup_steps=4, final_ratio=0.1)
    ratios = [cosine.ratio(step, 21) for step in range(25)]
    assert ratios[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert ratios[12] == pytest.approx(0.55)
    assert ratios[20:] == pytest.approx([0.1] * 5)
    cycle = OptimizerConfig(schedule="one_cycle", warmup_steps=3, initial_ratio=0.04)
    assert cycle.ratio(1, 10) == pytest.approx(0.52)
    assert OptimizerConfig(schedule="constant").ratio(10**6, 10) == 1
    root = OptimizerConfig(schedule="inverse_sqrt", warmup_steps=4)
    assert [root.ratio(step, 10) for step in (0, 3, 15, 99)] == [0.2, 0.8, 0.5, 0.2]
    assert OptimizerConfig(schedule="inverse_sqrt").ratio(3, 10) == 0.5


def test_vectors_do_not_decay():
    groups = build_optimizer(OptimizerConfig(weight_decay=0.1), [nn.Linear(2, 3)]).param_groups
    assert [(group["weight_decay"], [p.ndim for p in group["params"]]) for group in groups] == [(0.1, [2]), (0.0, [1])]


# Averaged weights


def test_the_average_is_what_validates_and_is_exported(tmp_path):
    trainer, module = runs.train(tmp_path, max_steps=5, every=5, decay=0.5, model=settings())
    (ema,) = (callback for callback in trainer.callbacks if isinstance(callback, EMA))
    average = ema.state_dict()["average"]
    path = tmp_path / "checkpoints" / "last.ckpt"
    for name, tensor in tokenizer_of(path).named_parameters():
        assert torch.equal(tensor, average[name])
    for name, tensor in tokenizer_of(path, average=False).named_parameters():
        assert torch.equal(tensor, module.tokenizer.get_parameter(name))
        assert not torch.equal(tensor, average[name])
    seen = []
    module.on_validation_batch_start = lambda *_: seen.append(module.tokenizer.encoder[1].weight.clone())
    kept = module.tokenizer.encoder[1].weight.clone()
    trainer.validate(module, toy_training.ToyData(), verbose=False)
    assert torch.equal(seen[0], average["encoder.1.weight"])
    assert torch.equal(module.tokenizer.encoder[1].weight, kept)


def test_the_average_is_the_formula(tmp_path):
    weights = []

    class Recorded(toy_training.ToyTraining):
        def on_train_batch_start(self, batch, batch_idx):
            weights.append(self.tokenizer.encoder[1].weight.detach().clone())

    original, toy_training.ToyTraining = toy_training.ToyTraining, Recorded
    try:
        _, module = runs.train(tmp_path, max_steps=6, decay=0.4, accumulate_grad_batches=1, model=settings())
    finally:
        toy_training.ToyTraining = original
    expected = weights[0].double()
    for n, weight in enumerate([*weights[1:], module.tokenizer.encoder[1].weight.detach()]):
        decay = min(0.4, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weight.double()
    found = runs.read(tmp_path)["callbacks"]["zoo_ema"]["average"]["encoder.1.weight"]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


# Checkpoints


def test_copies_are_kept(tmp_path):
    from lightning.pytorch import Trainer

    trainer = Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        max_steps=10,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Checkpoints(every_n_steps=2, keep_every_n_steps=4)],
    )
    trainer.fit(toy_training.ToyTraining(**settings()), toy_training.ToyData(batch_size=16))
    files = {
        path.name: torch.load(path, weights_only=True)["global_step"] for path in (tmp_path / "checkpoints").iterdir()
    }
    assert files == {"last.ckpt": 10, "step=4.ckpt": 4, "step=8.ckpt": 8}
    for values in ({"every_n_steps": 0}, {"every_n_steps": 4, "keep_every_n_steps": 6}):
        with pytest.raises(ConfigError, match="must be"):
            Checkpoints(**values)


# Data


def test_the_order_is_dealt_out_evenly_and_is_another_in_each_epoch():
    for drop_last, total in [(True, 9), (False, 12)]:
        dealt = [
            [index for _, index in ResumableSampler(11, seed=3, drop_last=drop_last, num_replicas=3, rank=rank)]
            for rank in range(3)
        ]
        assert {len(part) for part in dealt} == {total // 3}
        assert len({index for part in dealt for index in part}) == min(11, total)
    sampler = ResumableSampler(100, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    other = ResumableSampler(100, seed=1)
    assert len({tuple(index for _, index in order) for order in (first, list(sampler), list(other))}) == 3
    assert list(ResumableSampler(4, shuffle=False)) == [(0, 0), (0, 1), (0, 2), (0, 3)]
    with pytest.raises(ConfigError, match="1 items cannot be dealt out to 2"):
        ResumableSampler(1, num_replicas=2)


def test_reading_an_item_draws_the_same_numbers_and_leaves_the_generators_alone():
    class Drawing(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return index, random.random(), np.random.rand(), float(torch.rand(()))  # noqa: NPY002

    items = SeededItems(Drawing(), seed=5)
    before = process_random.capture()
    assert items[1, 2] == items[1, 2]
    assert len({items[epoch, index][1:] for epoch in range(3) for index in range(4)}) == 12
    after = process_random.to_primitive(process_random.capture())
    assert str(after) == str(process_random.to_primitive(before))


def test_a_loader_goes_on_where_another_was():
    def loader():
        return ResumableLoader(torch.arange(20), ResumableSampler(20, seed=1), batch_size=4)

    whole = [batch.tolist() for batch in loader()]
    first = loader()
    iterator = iter(first)
    begun = [next(iterator).tolist() for _ in range(2)]
    second = loader()
    second.load_state_dict(first.state_dict())
    assert begun + [batch.tolist() for batch in second] == whole
    assert [batch.tolist() for batch in second] == whole
    assert len(second) == 5
    with pytest.raises(ConfigError, match="seed was 1 and is 2"):
        ResumableLoader(torch.arange(20), ResumableSampler(20, seed=2), batch_size=4).load_state_dict(
            first.state_dict()
        )


def test_what_workers_need_can_be_sent_to_them():
    data = toy_training.ToyData()
    data.trainer = lambda: None  # a trainer cannot always be pickled
    assert pickle.loads(pickle.dumps(data.collate))([torch.ones(2)] * 3).shape == (3, 2)


def test_bad_data_settings_are_refused():
    with pytest.raises(ConfigError, match="batch_size must be at least 1"):
        toy_training.ToyData(batch_size=0)
    with pytest.raises(ConfigError, match="less than a batch of 1000"):
        toy_training.ToyData(batch_size=1000).train_dataloader()


def test_random_states_survive_a_checkpoint(tmp_path):
    state = process_random.capture()
    expected = random.random(), np.random.rand(), float(torch.rand(()))  # noqa: NPY002
    torch.save(process_random.to_primitive(state), tmp_path / "state.pt")
    process_random.restore(process_random.from_primitive(torch.load(tmp_path / "state.pt", weights_only=True)))
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == expected  # noqa: NPY002


def test_the_base_is_of_no_use_by_itself():
    with pytest.raises(NotImplementedError):
        type("Bare", (TokenizerModule,), {"family": "toy_chunks"})({"quantizer": QUANTIZERS[0]}).losses(None)
