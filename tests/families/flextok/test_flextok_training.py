"""Training of FlexTok: its losses by hand, which lengths are drawn, the autoencoder that stays, both recipes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
import training_runs as runs
import yaml
from pictures import photographs_in
from tiny_flextok import CONFIG

import zoo
from zoo.cli import main
from zoo.components.flow import Mode
from zoo.errors import ConfigError
from zoo.families.flextok.nested_dropout import draw_lengths, trained_lengths
from zoo.families.flextok.training import FlexTokTraining

RECIPES = Path(__file__).parents[3] / "recipes/flextok"
PLAIN = zoo.config.to_dict(CONFIG)
FEATURES = {"kind": "timm", "model": "test_resnet", "layers": ["layer1"], "pretrained": False}


class FakeTrainer:
    """The one thing that the losses ask a trainer."""

    def __init__(self, training=True):
        self.training, self.testing, self.world_size = training, False, 1


class Batch:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    torch.manual_seed(1)
    values = {"image_size": 16, "conv": PLAIN["autoencoder"], "quantizer": {"kind": "gaussian", "dim": 3}}
    made = zoo.registry.family("autoencoder_kl").from_config(values)
    return str(zoo.save(made, tmp_path_factory.mktemp("autoencoder") / "x"))


@pytest.fixture
def module(autoencoder, monkeypatch):
    torch.manual_seed(0)
    made = FlexTokTraining(PLAIN, autoencoder, alignment=FEATURES, alignment_layer=0)
    made.logged = {}
    monkeypatch.setattr(made, "_trainer", FakeTrainer())
    monkeypatch.setattr(made, "_log", lambda name, value, **_: made.logged.__setitem__(name, value))
    return made


class TestNestedDropout:
    @pytest.mark.parametrize(
        ("mode", "expected"),
        [
            ("pow2", {2**power: 1 / 9 for power in range(9)}),
            ("uniform_pow2", {1: 1 / 256, **{2**power: 2 ** (power - 1) / 256 for power in range(1, 9)}}),
        ],
    )
    def test_shares_of_lengths(self, mode, expected):
        drawn = draw_lengths(mode, 256, 100_000, torch.Generator().manual_seed(0))
        counts = Counter(drawn.tolist())
        assert counts.keys() == expected.keys()
        for length, share in expected.items():
            assert counts[length] / 100_000 == pytest.approx(share, abs=4 * (share / 100_000) ** 0.5)

    def test_uniform(self):
        drawn = draw_lengths("uniform", 8, 80_000, torch.Generator().manual_seed(0))
        assert all(abs(count - 10_000) < 400 for count in torch.bincount(drawn)[1:].tolist())
        assert trained_lengths("uniform", 4) == (1, 2, 3, 4)

    def test_all_tokens_are_a_trained_length(self):
        assert trained_lengths("pow2", 12) == (1, 2, 4, 8, 12)
        assert trained_lengths("pow2", 1) == (1,)
        assert set(draw_lengths("uniform_pow2", 12, 999).tolist()) == {1, 2, 4, 8, 12}


def test_times_are_drawn_as_published():
    u = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    published = torch.tensor([0.881118, 0.724112, 0.5, 0.275888, 0.118882])
    # Published as 1 - u - m(…) of a uniform u, whose mirror image is as good a draw.
    torch.testing.assert_close(1 - Mode(0.25)(u), published, atol=1e-6, rtol=0)


def test_the_loss_is_the_error_of_the_velocity(module):
    module.eval()
    module._trainer = FakeTrainer(training=False)
    losses = module.losses(Batch)
    tokenizer, flow = module.tokenizer, module.tokenizer.decoder.flow
    generator = torch.Generator().manual_seed(0)
    latents = 0.7 * tokenizer.encoder.autoencoder(2 * Batch.images - 1)[:, :3]
    lengths = draw_lengths("pow2", 8, 4, generator)
    t = Mode(0.25)(torch.rand(4, generator=generator))
    noise = torch.stack([torch.randn(3, 8, 8, generator=generator) for _ in range(4)])
    codes = tokenizer.quantizer(tokenizer.encoder.resampler(latents)).codes
    x = t.view(4, 1, 1, 1) * noise + (1 - t.view(4, 1, 1, 1)) * latents
    predicted = flow(x, t, flow.registers(codes, lengths))
    assert torch.allclose(losses["flow"], (predicted - (noise - latents)).square().mean(), rtol=1e-4)
    assert torch.equal(losses["flow"], module.losses(Batch)["flow"])
    assert 0 <= losses["alignment"] <= 2


def test_some_images_are_learned_without_a_condition(module):
    module.null_rate = 0.99
    torch.manual_seed(0)
    module.losses(Batch)["flow"].backward()
    flow = module.tokenizer.decoder.flow
    assert flow.embed.weight.grad is None or not flow.embed.weight.grad.any()


def test_gradients_reach_the_tokens_and_not_the_autoencoder(module):
    torch.manual_seed(0)
    module.train()
    with torch.no_grad():
        for parameter in module.trained_modules()[2].parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
        module.tokenizer.encoder.resampler.registers.project.weight.normal_(std=0.5)
    losses = module.losses(Batch)
    (losses["flow"] + losses["alignment"]).backward()
    assert module.tokenizer.encoder.resampler.embed.linear.weight.grad.abs().sum() > 0
    assert module.head[0].weight.grad.abs().sum() > 0
    for half in (module.tokenizer.encoder.autoencoder, module.tokenizer.decoder.autoencoder):
        assert all(parameter.grad is None for parameter in half.parameters())
        assert not half.training
    assert module.tokenizer.decoder.flow.training


def test_the_autoencoder_is_taken_over(module, autoencoder):
    there = zoo.load(autoencoder)
    latents = module.tokenizer.encoder.latents(2 * Batch.images - 1) / 0.7
    vectors = there.encode_latents(Batch.images).values.transpose(1, 2).unflatten(2, (8, 8))
    assert torch.allclose(latents, vectors, atol=1e-6)
    with torch.no_grad():
        made = (module.tokenizer.decoder.pixels(0.7 * vectors) + 1) / 2
    assert torch.allclose(made.clamp(0, 1), there.decode_latents(there.encode_latents(Batch.images)), atol=1e-5)


def test_a_frozen_encoder_keeps_its_tokens(autoencoder):
    module = FlexTokTraining(PLAIN, autoencoder, freeze_encoder=True)
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(name.startswith("tokenizer.decoder.flow.") for name in trained)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"autoencoder": None}, "a trained autoencoder_kl is needed"),
        ({"autoencoder": "beast"}, "is a beast"),
        ({"config": PLAIN | {"latent_channels": 4}}, "latent_channels is 3 there and 4 here"),
        ({"null_rate": 1.0}, "null_rate"),
        ({"times": {"warp": {"kind": "mode", "scale": 9.0}}}, "scale must be"),
        ({"alignment": FEATURES, "alignment_layer": 2}, "layer 2 of the flow's 2"),
        ({"alignment": FEATURES | {"layers": ["layer1", "layer2"]}}, "layer1, layer2"),
    ],
)
def test_bad_settings_are_refused(autoencoder, changes, message):
    with pytest.raises(ConfigError, match=message):
        FlexTokTraining(**{"config": PLAIN, "autoencoder": autoencoder} | changes)


def test_the_paper_s_recipe_is_the_published_model():
    values = yaml.safe_load((RECIPES / "paper.yaml").read_text())["model"]["init_args"]
    with torch.device("meta"):
        tokenizer = zoo.registry.family("flextok").from_config(values["config"])
    assert sum(tensor.numel() for tensor in tokenizer.state_dict().values()) == 2_540_882_841


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return photographs_in(tmp_path_factory.mktemp("photographs") / "x")


@pytest.fixture
def fit(autoencoder, photographs, quiet_lightning):
    """`fit(folder, **more)` makes three steps of the nano recipe of a tiny model, of three batches an epoch."""

    def run(folder, **more):
        values = {
            "data.folder": str(photographs),
            "data.batch_size": "4",
            "data.repeat": "null",
            "data.transforms": json.dumps([{"name": "RandomCrop", "size": 16}]),
            "data.eval_transforms": json.dumps([{"name": "CenterCrop", "size": 16}]),
            "model.config": json.dumps({**PLAIN, "quantizer": {"kind": "lfq", "num_bits": 6}}),
            "model.autoencoder": autoencoder,
            "model.optimizer.warmup_steps": "1",
            **more,
        }
        return runs.fit_recipe(RECIPES / "nano.yaml", folder, **values)

    return run


def test_two_processes_train_one_model(fit, tmp_path):
    runs.require_two_processes(fit, tmp_path)


def test_a_killed_run_goes_on_to_the_same_bits(fit, tmp_path):
    runs.require_resumes(fit, tmp_path)


def test_the_nano_recipe_trains(fit, tmp_path, capsys):
    assert fit(tmp_path) == 0, capsys.readouterr().err
    last = str(tmp_path / "checkpoints/last.ckpt")
    assert main(["export", last, "-o", str(tmp_path / "model"), "--name", "flextok.mine"]) == 0
    made = zoo.load(tmp_path / "model")
    assert made.encode(Batch.images).ids.shape == (4, 8)
    assert made.decode(made.encode(Batch.images, num_tokens=2)).shape == Batch.images.shape
    more = FlexTokTraining(zoo.config.to_dict(made.config), weights=last)
    assert torch.equal(more.tokenizer.decoder.flow.embed.weight, made.decoder.flow.embed.weight)
