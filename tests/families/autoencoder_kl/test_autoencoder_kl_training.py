"""Training of the autoencoder: its losses by hand, its judge, its recipe by the command line, a quantizer swapped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from pictures import photographs_in

import zoo
from zoo.cli import main
from zoo.components.losses.perceptual import PerceptualDistance
from zoo.errors import ConfigError
from zoo.families.autoencoder_kl.training import AutoencoderKLTraining
from zoo.process import random as process_random

RECIPE = Path(__file__).parents[3] / "recipes/autoencoder_kl/nano.yaml"
CONFIG = {
    "image_size": 16,
    "conv": {"block_channels": [8, 12], "layers_per_block": 1, "norm_groups": 4},
    "quantizer": {"kind": "gaussian", "dim": 3},
}
JUDGE = {"channels": 8, "num_layers": 2, "norm": "group"}
FEATURES = {"kind": "timm", "model": "test_resnet", "layers": ["layer1"], "pretrained": False}


class FakeTrainer:
    """The one thing that the losses ask a trainer."""

    def __init__(self, training=True):
        self.training, self.testing, self.world_size = training, False, 1


@pytest.fixture
def module(monkeypatch):
    torch.manual_seed(0)
    made = AutoencoderKLTraining(CONFIG, discriminator=JUDGE, perceptual=FEATURES)
    made.logged = {}
    monkeypatch.setattr(made, "_trainer", FakeTrainer())
    monkeypatch.setattr(made, "_log", lambda name, value, **_: made.logged.__setitem__(name, value))
    return made


class Batch:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return photographs_in(tmp_path_factory.mktemp("photographs") / "x")


def test_losses_are_what_their_names_say(module):
    module.eval()
    pair = module.reconstruct(Batch)
    moments = module.tokenizer.encoder(2 * Batch.images - 1)
    mean, log_variance = moments.chunk(2, 1)
    made = module.tokenizer.decoder(mean)
    target = 2 * Batch.images - 1
    assert torch.allclose(pair.made, made, atol=1e-5)
    assert torch.equal(pair.real, target)
    assert torch.allclose(pair.losses["l1"], (made - target).abs().mean(), rtol=1e-4)
    assert torch.allclose(pair.losses["l2"], (made - target).square().mean(), rtol=1e-4)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum() / len(mean)
    assert torch.allclose(pair.losses["quantizer_kl"], 1e-6 * divergence, rtol=1e-4)
    assert isinstance(module.perceptual, PerceptualDistance)
    wanted = module.perceptual((made + 1) / 2, Batch.images).mean()
    assert torch.allclose(pair.losses["perceptual"], wanted, rtol=1e-4)


def test_latents_are_sampled_in_training_alone(module):
    first, second = module.reconstruct(Batch).made, module.reconstruct(Batch).made
    assert not torch.equal(first, second)
    module.eval()
    assert torch.equal(module.reconstruct(Batch).made, module.reconstruct(Batch).made)


def test_adaptive_weight_is_the_ratio_of_gradients(module):
    pair = module.reconstruct(Batch)
    judged = module.adversarial_losses(pair)["adversarial"]
    plain = -module.discriminator(pair.made).mean()
    last = module.tokenizer.decoder.conv_out.weight
    wanted = torch.autograd.grad(pair.losses["l1"] + pair.losses["perceptual"], last, retain_graph=True)[0].norm()
    found = torch.autograd.grad(plain, last, retain_graph=True)[0].norm()
    assert torch.allclose(judged, plain * wanted / (found + 1e-4), rtol=1e-3)
    module.is_adaptive = False
    assert torch.allclose(module.adversarial_losses(pair)["adversarial"], plain)


def test_the_judge_and_the_judged_pull_against_each_other(module):
    pair = module.reconstruct(Batch)
    real, made = module.discriminator(pair.real), module.discriminator(pair.made)
    wanted = torch.relu(1 - real).mean() + torch.relu(1 + made).mean()
    assert torch.allclose(module.discriminator_losses(pair)["discriminator"], wanted)


def test_psnr_of_validation(module):
    module.eval()
    module._trainer = FakeTrainer(training=False)
    pair = module.reconstruct(Batch)
    error = ((pair.made + 1) / 2).clamp(0, 1) - Batch.images
    wanted = -10 * error.square().flatten(1).mean(1).log10().mean()
    assert torch.allclose(module.logged["psnr"], wanted, rtol=1e-4)


def test_a_judge_too_large_for_the_pictures_is_refused():
    with pytest.raises(ConfigError, match="num_layers lower"):
        AutoencoderKLTraining(CONFIG, discriminator={"num_layers": 3})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model.config.quantizer": json.dumps({"kind": "fsq", "levels": [8, 5, 5]})},
        {"model.discriminator": json.dumps(JUDGE), "model.adversarial_from": "1"},
    ],
    ids=["published", "fsq", "judged"],
)
def test_the_recipe_trains(options, photographs, tmp_path, capsys, monkeypatch, quiet_lightning):
    values = yaml.safe_load(RECIPE.read_text())
    with torch.device("meta"):
        tokenizer = zoo.registry.family("autoencoder_kl").from_config(values["model"]["init_args"]["config"])
    assert tokenizer.spec.num_tokens == 64
    for variable in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(variable, "0")
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    overrides = {
        "trainer.accelerator": "cpu",
        "trainer.max_steps": "3",
        "trainer.val_check_interval": "2",
        "trainer.log_every_n_steps": "1",
        "trainer.default_root_dir": str(tmp_path),
        "trainer.logger": "false",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        "data.folder": str(photographs),
        "data.batch_size": "4",
        "data.repeat": "null",
        "data.transforms": json.dumps([{"name": "RandomCrop", "size": 16}]),
        "data.eval_transforms": json.dumps([{"name": "CenterCrop", "size": 16}]),
        "model.config": json.dumps(CONFIG),
        "model.optimizer.warmup_steps": "1",
        **options,
    }
    arguments = [part for key, value in overrides.items() for part in (f"--{key}", value)]
    with process_random.preserved():
        assert main(["fit", "--config", str(RECIPE), *arguments]) == 0, capsys.readouterr().err
    folder = tmp_path / "model"
    last = str(tmp_path / "checkpoints/last.ckpt")
    assert main(["export", last, "-o", str(folder), "--name", "autoencoder_kl.mine"]) == 0
    made = zoo.load(folder)
    assert made.spec.is_continuous == ("model.config.quantizer" not in options)
    latents = made.encode_latents(Batch.images)
    assert made.decode_latents(latents).shape == Batch.images.shape
