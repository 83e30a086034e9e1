"""Training of SSDD: its losses by hand, stages that hand over, distillation, all recipes."""

from __future__ import annotations

import copy
import json
from functools import partial
from pathlib import Path

import pytest
import torch
import training_runs as runs
import yaml
from pictures import photographs_in
from tiny_ssdd import CONTINUOUS, FSQ, fill, make

import zoo
from zoo.cli import main
from zoo.errors import ConfigError
from zoo.families.autoencoder_kl.training import AutoencoderKLTraining
from zoo.families.ssdd.distillation import SSDDDistillation
from zoo.families.ssdd.measured import some_pictures
from zoo.families.ssdd.training import SSDDTraining

RECIPES = Path(__file__).parents[3] / "recipes/ssdd"
PLAIN, DISCRETE = zoo.config.to_dict(CONTINUOUS), zoo.config.to_dict(FSQ)
BEHIND = DISCRETE | {"quantizer": {"kind": "fsq", "levels": [5, 5]}, "is_variational": True}
ONE_STEP = PLAIN | {"steps": 1}
FEATURES = {"kind": "timm", "model": "test_resnet", "layers": ["layer1"], "pretrained": False}
BOTH = {"perceptual": FEATURES, "alignment": FEATURES}


class FakeTrainer:
    """The one thing that the losses ask a trainer."""

    def __init__(self, training=True):
        self.training, self.testing, self.world_size = training, False, 1


class Batch:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def build(monkeypatch):
    """`build(config, …)` makes a training module that logs into `logged`."""

    def make_module(config=PLAIN, kind=SSDDTraining, training=True, **arguments):
        torch.manual_seed(0)
        module = kind(config, **arguments)
        module.logged = {}
        monkeypatch.setattr(module, "_trainer", FakeTrainer(training))
        monkeypatch.setattr(module, "_log", lambda name, value, **_: module.logged.__setitem__(name, value))
        return module.train(training)

    return make_module


@pytest.fixture(scope="module")
def continuous(tmp_path_factory):
    return str(zoo.save(make(), tmp_path_factory.mktemp("continuous") / "x"))


@pytest.fixture(scope="module")
def discrete(tmp_path_factory):
    return str(zoo.save(make(FSQ), tmp_path_factory.mktemp("discrete") / "x"))


class TestLosses:
    def test_they_are_the_formulas(self, build):
        module = build(training=False, **BOTH)
        fill(module.tokenizer)
        losses = module.losses(Batch)
        tokenizer, x = module.tokenizer, 2 * Batch.images - 1
        generator = torch.Generator().manual_seed(0)
        eps = torch.stack([torch.randn(3, 16, 16, generator=generator) for _ in range(4)])
        t = torch.special.ndtri(torch.rand(4, generator=generator)).sigmoid().view(4, 1, 1, 1)
        latents = tokenizer.encoder(x)[:, :3]
        x_t = (1 - t) * x + t * eps
        v, states = tokenizer.decoder.unet.with_states(x_t, t.flatten(), latents, 1)
        assert torch.allclose(losses["flow"], (v - (x - eps)).square().mean(), rtol=1e-4)
        estimate = (x_t + t * v + 1) / 2
        assert torch.allclose(losses["perceptual"], module.perceptual(estimate, Batch.images).mean(), rtol=1e-4)
        features = module.alignment.features(Batch.images)["layer1"].flatten(2).transpose(1, 2)
        assert features.shape[1] == states.shape[1] == 16
        cosine = torch.nn.functional.cosine_similarity(module.head(states), features, dim=-1)
        assert torch.allclose(losses["alignment"], 1 - cosine.mean(), rtol=1e-4)
        moments = tokenizer.encoder(x)
        mean, log_variance = moments[:, :3], moments[:, 3:]
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum((1, 2, 3)).mean()
        assert torch.allclose(losses["quantizer_kl"], 1e-6 * divergence, rtol=1e-4)
        assert {name: module.loss_weights[name] for name in ("flow", "perceptual", "alignment")} == {
            "flow": 1.0,
            "perceptual": 0.5,
            "alignment": 0.25,
        }
        assert torch.equal(losses["flow"], module.losses(Batch)["flow"])
        assert 0 < module.logged["psnr"] < 30

    def test_a_fresh_model_has_finite_losses_and_learns(self, build):
        module = build(**BOTH)
        losses = module.losses(Batch)
        assert all(loss.isfinite() for loss in losses.values())
        sum(losses.values()).backward()
        assert module.tokenizer.decoder.unet.conv_out.weight.grad.any()
        assert module.head[0].weight.grad.any()

    def test_the_estimate_is_not_clamped(self, build):
        module = build(**BOTH)
        seen = []
        module.perceptual.forward = lambda made, _: seen.append(made) or made.mean((1, 2, 3))
        with torch.no_grad():
            module.tokenizer.decoder.unet.conv_out.bias += 5
        module.losses(Batch)["perceptual"].backward()
        assert seen[0].max() > 1
        assert module.tokenizer.decoder.unet.conv_out.bias.grad.abs().min() > 0

    def test_each_network_is_clipped_by_itself(self, build):
        module = build(**BOTH)
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
        module.configure_gradient_clipping(None, 0.1, "norm")
        for part in module.trained_modules():
            total = torch.cat([p.grad.flatten() for p in part.parameters()]).norm()
            assert total == pytest.approx(0.1, rel=1e-3)

    def test_tables_do_not_decay(self, build):
        assert [table.ndim for table in build().undecayed()] == [3, 3]


class TestStages:
    def test_an_encoder_is_kept(self, build, continuous):
        other = PLAIN | {"decoder": PLAIN["decoder"] | {"channels": 12}, "image_size": [32, 16]}
        module, origin = build(other, encoder=continuous), zoo.load(continuous)
        trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
        assert trained
        assert all(name.startswith("tokenizer.decoder.") for name in trained)
        x = torch.rand(1, 3, 32, 16)
        assert torch.equal(module.tokenizer.vectors(x), origin.vectors(x))
        # Samples in training, although the encoder is frozen, and the mean otherwise.
        assert not torch.equal(module.codes(x)[0], module.codes(x)[0])
        module.eval()
        assert torch.equal(module.codes(x)[0].flatten(2).transpose(1, 2), origin.vectors(x))
        assert module.codes(x)[1] == {}

    def test_quantized_latents_are_never_drawn(self, build, discrete):
        module = build(DISCRETE, encoder=discrete)
        assert not module.tokenizer.quantizer.training
        codes, losses = module.codes(Batch.images)
        assert torch.equal(codes, module.codes(Batch.images)[0])
        assert losses == {}
        assert torch.equal(module.tokenizer.encode(Batch.images).ids, zoo.load(discrete).encode(Batch.images).ids)

    def test_tokens_behind_a_continuous_encoder(self, build, continuous):
        module, origin = build(BEHIND, encoder=continuous), zoo.load(continuous)
        trained = {name.split(".")[2] for name, p in module.named_parameters() if p.requires_grad and "encoder" in name}
        assert trained == {"project"}
        means = module.tokenizer.encoder.conv(2 * Batch.images - 1)[:, :3]
        assert torch.equal(means.flatten(2).transpose(1, 2), origin.vectors(Batch.images))
        sum(module.losses(Batch).values()).backward()
        assert module.tokenizer.encoder.conv.conv_in.weight.grad is None
        assert module.decoder.project.weight.grad is not None

    def test_tokens_go_on_from_a_continuous_model(self, build, continuous):
        module = build(BEHIND, encoder=continuous, decoder=continuous, freeze_encoder=False, num_measured=0)
        origin = zoo.load(continuous)
        for name, tensor in module.decoder.unet.state_dict().items():
            assert torch.equal(tensor, origin.decoder.unet.state_dict()[name]), name
        assert torch.equal(module.tokenizer.encoder.conv.conv_in.weight, origin.encoder.conv.conv_in.weight)
        losses = module.losses(Batch)
        sum(losses.values()).backward()
        assert all(p.grad is not None for p in module.tokenizer.encoder.project.parameters())
        assert module.tokenizer.encoder.conv.conv_in.weight.grad is not None
        assert module.start_licence == origin.spec.licence

    def test_the_maps_around_a_new_quantizer_fit_the_latents(self, build, continuous, photographs):
        more = {"quantizer": {"kind": "fsq", "levels": [15, 15]}}
        taken = {"encoder": continuous, "decoder": continuous, "freeze_encoder": False, "pictures": str(photographs)}
        off, spread = {}, {}
        for number in (0, 8):
            module = build(BEHIND | more, num_measured=number, **taken)
            images = some_pictures(str(photographs), (16, 16), 8)
            with torch.no_grad():
                latents = module.tokenizer.encoder.conv(2 * images - 1)[:, :3]
                put = module.tokenizer.encoder.project(latents)
                codes, _ = module.codes(images)
                off[number] = float((module.decoder.latents(codes) - latents).square().mean() / latents.var())
                spread[number] = put.flatten(2).transpose(1, 2).flatten(0, 1).std(0)
        torch.testing.assert_close(spread[8], torch.ones(2))
        assert off[8] < off[0] / 2
        assert off[8] < 0.4, "the third component, and what is rounded"

    def test_a_network_of_other_sizes_is_no_start(self, build, continuous):
        with pytest.raises(ConfigError, match="channels is 8 there and 12 here"):
            build(PLAIN | {"decoder": PLAIN["decoder"] | {"channels": 12}}, decoder=continuous)
        with pytest.raises(ConfigError, match="latents are of other channels"):
            build(PLAIN | {"latent_channels": 4, "quantizer": {"kind": "gaussian", "dim": 4}}, decoder=continuous)
        with pytest.raises(ConfigError, match="is a beast without a decoder of SSDD"):
            build(decoder="beast")

    def test_an_autoencoder_gives_its_encoder(self, build, tmp_path):
        values = {"image_size": 16, "conv": PLAIN["encoder"], "quantizer": {"kind": "gaussian", "dim": 3}}
        there = zoo.registry.family("autoencoder_kl").from_config(values)
        module = build(encoder=str(zoo.save(there, tmp_path / "x")))
        assert torch.equal(module.tokenizer.vectors(Batch.images), there.vectors(Batch.images))

    def test_larger_pictures_start_from_the_weights(self, build, continuous):
        module = build(PLAIN | {"image_size": [32, 32], "steps": 4}, weights=continuous, freeze_encoder=True)
        assert torch.equal(module.decoder.unet.conv_in.weight, zoo.load(continuous).decoder.unet.conv_in.weight)
        assert not module.tokenizer.encoder.conv.conv_in.weight.requires_grad

    @pytest.mark.parametrize("config", [PLAIN, DISCRETE])
    def test_a_convolutional_decoder_learns_behind_the_same_encoder(self, build, config, continuous, discrete):
        values = {"image_size": 16, "conv": config["encoder"], "quantizer": config["quantizer"]}
        name = continuous if config is PLAIN else discrete
        module = build(values, AutoencoderKLTraining, encoder=name)
        losses = module.losses(Batch)
        assert set(losses) == {"l1", "l2"}
        sum(losses.values()).backward()
        assert all(p.grad is None for p in module.tokenizer.encoder.parameters())
        assert torch.equal(module.tokenizer.vectors(Batch.images), zoo.load(name).vectors(Batch.images))
        with pytest.raises(ConfigError, match="does not fit"):
            build(values | {"quantizer": {"kind": "fsq", "levels": [7, 5, 5]}}, AutoencoderKLTraining, encoder=name)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"encoder": "beast"}, "is a beast"),
            ({"encoder": "x", "weights": "x"}, "leave out one"),
            ({"decoder": "x", "weights": "x"}, "leave out one"),
            ({"freeze_encoder": True}, "nothing is there"),
            ({"times": {"std": 0.0}}, "std must be"),
            ({"alignment": FEATURES, "alignment_layer": 2}, "block 2 of the transformer's 2"),
            ({"config": PLAIN | {"image_size": None}}, "needs the image_size"),
            ({"kind": SSDDDistillation}, "a trained decoder is needed"),
        ],
    )
    def test_bad_settings_are_refused(self, build, arguments, message):
        with pytest.raises(ConfigError, match=message):
            build(**arguments)

    def test_an_encoder_that_does_not_fit_is_refused(self, build, continuous):
        with pytest.raises(ConfigError, match="latent_channels is 3 there and 4 here"):
            build(PLAIN | {"latent_channels": 4, "quantizer": {"kind": "gaussian", "dim": 4}}, encoder=continuous)
        with pytest.raises(ConfigError, match="gives log-variances is True there and False here"):
            build(DISCRETE, encoder=continuous)
        with pytest.raises(ConfigError, match="steps 1"):
            build(PLAIN, SSDDDistillation, weights=continuous)


class TestDistillation:
    def test_the_student_is_given_the_teacher_s_noise(self, build, continuous):
        with pytest.warns(UserWarning, match="head"):
            module = build(ONE_STEP, SSDDDistillation, weights=continuous, **BOTH)
        given, taught = [], []
        module.decoder.unet.register_forward_pre_hook(lambda _, inputs: given.append(inputs))
        student = module.decoder.unet.with_states
        module.decoder.unet.with_states = lambda *a: given.append(a) or student(*a)
        module.teacher.register_forward_hook(lambda _, inputs, output: taught.append((inputs, output)))
        losses = module.losses(Batch)
        (x, t, latents, _), ((codes, noise, steps, power), goal) = given[0], taught[0]
        assert torch.equal(x, noise)
        assert torch.equal(t, torch.ones(4))
        assert (steps, power) == (7, 2.0)
        assert torch.equal(latents, codes)
        assert torch.allclose(codes, zoo.load(continuous).encode_latents(Batch.images).maps, atol=1e-6)
        v, states = student(noise, t, codes, 1)
        assert torch.allclose(losses["flow"], (v - (goal - noise)).square().mean())
        made = (noise + v + 1) / 2
        assert torch.allclose(losses["perceptual"], module.perceptual(made, (goal + 1) / 2).mean(), rtol=1e-4)
        features = module.alignment.features(Batch.images)["layer1"].flatten(2).transpose(1, 2)
        cosine = torch.nn.functional.cosine_similarity(module.head(states), features, dim=-1)
        assert torch.allclose(losses["alignment"], 1 - cosine.mean(), rtol=1e-4)

    def test_the_teacher_stays(self, build, continuous):
        module = build(ONE_STEP, SSDDDistillation, weights=continuous)
        before = copy.deepcopy(module.teacher.state_dict())
        assert not module.teacher.training
        assert not module.tokenizer.quantizer.training
        optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], 0.1)
        sum(module.losses(Batch).values()).backward()
        optimizer.step()
        assert all(p.grad is None for p in module.teacher.parameters())
        assert all(torch.equal(before[name], t) for name, t in module.teacher.state_dict().items())
        assert not torch.equal(module.decoder.unet.conv_out.weight, before["unet.conv_out.weight"])
        assert all(p.grad is None for p in module.tokenizer.encoder.parameters())
        assert not any(name.startswith("teacher") for name in module._own_parts())


@pytest.mark.parametrize("path", sorted(RECIPES.glob("paper*.yaml")), ids=lambda path: path.stem)
def test_the_paper_s_recipes_are_the_published_models(path):
    values = yaml.safe_load(path.read_text())["model"]["init_args"]
    with torch.device("meta"):
        tokenizer = zoo.registry.family("ssdd").from_config(values["config"])
    assert tokenizer.num_parameters in (84_443_811, 48_220_723)
    assert values["perceptual"]["kind"] == "timm"


def test_both_decoders_of_the_comparison_are_equally_large():
    configs = [yaml.safe_load((RECIPES / name).read_text()) for name in ("nano.yaml", "nano_conv_baseline.yaml")]
    counts = []
    for family, values in zip(("ssdd", "autoencoder_kl"), configs, strict=True):
        with torch.device("meta"):
            tokenizer = zoo.registry.family(family).from_config(values["model"]["init_args"]["config"])
        counts.append(sum(p.numel() for p in tokenizer.decoder.parameters()))
    assert counts == [818_987, 822_571]
    assert configs[0]["data"] == configs[1]["data"]
    assert configs[0]["trainer"]["max_steps"] == configs[1]["trainer"]["max_steps"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return photographs_in(tmp_path_factory.mktemp("photographs") / "x", 8, 2)


@pytest.fixture
def fit(photographs, quiet_lightning):
    """`fit(recipe, folder, config, **more)` makes two steps of a nano recipe of a tiny model."""

    def run(recipe, folder, config, **more):
        values = {
            "trainer.max_steps": "2",
            "data.folder": str(photographs),
            "data.batch_size": "4",
            "data.repeat": "null",
            "data.transforms": json.dumps([{"name": "RandomCrop", "size": 16}]),
            "data.eval_transforms": json.dumps([{"name": "CenterCrop", "size": 16}]),
            "model.config": json.dumps(config),
            "model.perceptual": "null",
            "model.optimizer.warmup_steps": "1",
            **more,
        }
        return runs.fit_recipe(RECIPES / f"{recipe}.yaml", folder, **values)

    return run


def test_two_processes_train_one_model(fit, tmp_path):
    runs.require_two_processes(partial(fit, "nano", config=PLAIN), tmp_path)


def test_a_killed_run_goes_on_to_the_same_bits(fit, tmp_path):
    runs.require_resumes(partial(fit, "nano", config=PLAIN), tmp_path)


def test_the_nano_recipes_follow_each_other(fit, photographs, tmp_path, capsys):
    assert fit("nano", tmp_path / "zeroth", PLAIN) == 0, capsys.readouterr().err
    zeroth = str(tmp_path / "zeroth/checkpoints/last.ckpt")
    taken = {"model.encoder": zeroth, "model.decoder": zeroth, "model.pictures": str(photographs)}
    assert fit("nano_fsq", tmp_path / "first", BEHIND, **taken) == 0, capsys.readouterr().err
    first = str(tmp_path / "first/checkpoints/last.ckpt")
    one_step = BEHIND | {"steps": 1}
    assert fit("nano_fsq_distil", tmp_path / "then", one_step, **{"model.weights": first}) == 0, capsys.readouterr().err
    last = str(tmp_path / "then/checkpoints/last.ckpt")
    assert main(["export", last, "-o", str(tmp_path / "model"), "--name", "ssdd.mine"]) == 0
    made = zoo.load(tmp_path / "model")
    tokens = made.encode(Batch.images)
    assert made.config.steps == 1
    assert tokens.ids.shape == (4, 16)
    assert made.decode(tokens).shape == Batch.images.shape
    before = SSDDTraining(BEHIND, weights=first).tokenizer.eval()
    assert torch.equal(before.encode(Batch.images).ids, tokens.ids)
    assert not torch.equal(before.decoder.unet.conv_out.weight, made.decoder.unet.conv_out.weight)


def test_it_learns_pictures_and_then_to_make_them_in_one_step(build, tmp_path):  # 4 s: 50 steps of a tiny model
    coarse = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    images = torch.nn.functional.interpolate(coarse, (16, 16), mode="bilinear")

    class Few:
        pass

    Few.images = images

    def errors(module):
        module.eval()
        module._trainer.training = False
        losses = {name: loss.item() for name, loss in module.losses(Few).items()}
        module.train()
        module._trainer.training = True
        return losses["flow"], module.logged["psnr"]

    def learn(module, steps):
        optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], 1e-2)
        for _ in range(steps):
            module.losses(Few)["flow"].backward()
            optimizer.step()
            optimizer.zero_grad()

    teacher = build(PLAIN | {"steps": 8})
    before = errors(teacher)
    learn(teacher, 40)
    after = errors(teacher)
    assert after[0] < 0.7 * before[0]
    assert after[1] > before[1] + 1
    folder = zoo.save(teacher.tokenizer, tmp_path / "teacher")
    student = build(ONE_STEP, SSDDDistillation, weights=str(folder), teacher_steps=3)
    before, teachers = errors(student), after[1]
    learn(student, 12)
    after = errors(student)
    assert after[0] < 0.9 * before[0]
    assert abs(after[1] - teachers) < abs(before[1] - teachers) or after[1] > teachers
