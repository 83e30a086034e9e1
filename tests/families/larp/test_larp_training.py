"""Training of LARP: its losses by hand, who gets which gradient, scheduled sampling, two networks, both recipes."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path

import clips
import pytest
import torch
import torch.nn.functional as F
import training_runs as runs
import yaml
from tiny_larp import CONFIG, clip

import zoo
from zoo.cli import main
from zoo.components.discriminators.clips import ClipDiscriminator, ClipDiscriminatorConfig
from zoo.components.quantizers import build
from zoo.data.videos import VideoBatch
from zoo.errors import ConfigError
from zoo.families.larp import LARPTokenizer
from zoo.families.larp.guide import Guide, GuideConfig
from zoo.families.larp.prior import PRESETS, PriorConfig, all_codes
from zoo.families.larp.training import AnnealingConfig, LARPTraining
from zoo.training.optim import OptimizerConfig

RECIPES = Path(__file__).parents[3] / "recipes/larp"
PLAIN = zoo.config.to_dict(CONFIG)
PRIOR = {"transformer": {"width": 16, "num_layers": 1, "num_heads": 2, "max_length": 8, "dropout": 0.0}}
JUDGE = {"width": 16, "num_layers": 1, "num_heads": 2}
VIDEOS = torch.stack([clip(seed) for seed in range(3)])
BATCH = VideoBatch(VIDEOS, torch.full((3,), 4), torch.full((3,), -1), [""] * 3, [""] * 3, [])


class FakeTrainer:
    """The one thing that the losses ask a trainer."""

    def __init__(self, training=True):
        self.training, self.testing, self.world_size = training, False, 1
        self.estimated_stepping_batches = 100


def made(monkeypatch, step=0, **arguments):
    torch.manual_seed(0)
    module = LARPTraining(PLAIN, **{"prior": PRIOR} | arguments)
    with torch.no_grad():  # what starts at zero would hide gradients
        module.tokenizer.decoder.patches.project.weight.normal_(std=0.3)
        module.tokenizer.encoder.queries.queries.normal_(std=1.0)
    module.logged = {}
    module._steps = 100
    monkeypatch.setattr(LARPTraining, "global_step", step)
    monkeypatch.setattr(module, "_trainer", FakeTrainer())
    monkeypatch.setattr(module, "_log", lambda name, value, **_: module.logged.__setitem__(name, float(value.detach())))
    return module


def evaluated(module):
    module.eval()
    module._trainer.training = False
    return module.reconstruct(BATCH).losses


# --------------------------------------------------------------------------------------------------------- the losses


def test_losses_are_those_of_the_formulas(monkeypatch):
    module = made(monkeypatch)
    losses = evaluated(module)
    tokenizer = module.tokenizer
    z = tokenizer.encoder(VIDEOS)
    u = F.normalize(z, dim=-1)
    codes = F.normalize(tokenizer.quantizer.codebook, dim=1)
    ids = (u @ codes.T).argmax(-1)
    rebuilt = tokenizer.decoder(codes[ids])
    near = {"atol": 1e-5, "rtol": 1e-4}
    torch.testing.assert_close(losses["l1"], (rebuilt - VIDEOS).abs().mean(), **near)
    torch.testing.assert_close(losses["l2"], (rebuilt - VIDEOS).square().mean(), **near)
    error = (codes[ids] - u).square().mean()  # over the batch, tokens and channels
    torch.testing.assert_close(losses["quantizer_commitment"], 0.25 * error, **near)
    torch.testing.assert_close(losses["quantizer_codebook"], error, **near)
    assert losses["prior"] > math.log(32) - 1  # cosines are logits, in -1…1
    assert 0 < module.logged["psnr"] < 30
    assert torch.equal(losses["prior"], evaluated(module)["prior"])


def test_the_published_weights_are_the_default():
    assert LARPTraining.default_weights == {
        "l1": 1.0,
        "l2": 0.0,
        "perceptual": 1.0,
        "prior": 0.06,
        "guide": 10.0,  # ours
        "quantizer_commitment": 0.1,
        "quantizer_codebook": 0.1,
        "adversarial": 0.3,
        "discriminator": 1.0,
        "lecam": 1e-6,
    }


def test_both_rounds_coincide_in_the_first_step(monkeypatch):
    module = made(monkeypatch, prior=PRIOR | {"ramp": 1.0})
    monkeypatch.setattr(LARPTraining, "global_step", -1)  # so that nothing is replaced yet
    quantized = module.tokenizer.quantizer(module.tokenizer.encoder(VIDEOS))
    two = module._predictability(quantized)
    codes = all_codes(module.tokenizer.quantizer)
    logits = module.prior.logits(quantized.codes[:, :-1], codes)
    one = F.cross_entropy(logits.flatten(0, 1), quantized.ids[:, 1:].flatten())
    torch.testing.assert_close(two, one)


@pytest.mark.parametrize("step", [0, 99])
def test_who_gets_gradient_of_the_prior(monkeypatch, step):
    module = made(monkeypatch, step=step)
    module.reconstruct(BATCH).losses["prior"].backward()
    found = {name for name, p in module.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    encoding = {f"tokenizer.{n}" for n, _ in module.tokenizer.named_parameters() if n.startswith("encoder.")}
    of_prior = {name for name, _ in module.named_parameters() if name.startswith("prior.")}
    # Adding the same to all scores of a row changes no attention.
    without = {name for name in of_prior if name.endswith("attention.k.bias")}
    assert found - without == (encoding | of_prior) - without


def test_who_gets_gradient_of_the_rest(monkeypatch):
    module = made(monkeypatch)
    losses = module.reconstruct(BATCH).losses
    codebook, first = module.tokenizer.quantizer.codebook, module.tokenizer.encoder.embed.linear.weight
    losses["l1"].backward(retain_graph=True)
    assert codebook.grad is None or not codebook.grad.any()
    assert first.grad.abs().max() > 0
    losses["quantizer_codebook"].backward()
    assert codebook.grad.abs().max() > 0


def test_ids_are_drawn_in_training_alone(monkeypatch):
    module = made(monkeypatch, prior=None)
    quantizer = module.tokenizer.quantizer
    vectors = module.tokenizer.encoder(VIDEOS)
    quantizer.temperature = 1.0
    assert not torch.equal(quantizer(vectors).ids, quantizer(vectors).ids)
    module.eval()
    assert torch.equal(quantizer(vectors).ids, quantizer.ids(vectors))


# ---------------------------------------------------------------------------------------------------------- the prior


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [
        ("gptc-XXS", 5_009_680),
        ("gptc-XS", 11_053_456),
        ("gptc-S", 21_700_240),
        ("gptc-M", 38_370_832),
        ("gptc-B", 85_867_792),
        ("gptc-L", 303_393_808),
    ],
)
def test_presets_are_the_published_ones(preset, parameters):
    with torch.device("meta"):
        prior = PriorConfig(preset=preset).build(16, 1024)
    assert sum(p.numel() for p in prior.parameters()) == parameters
    assert prior.config.transformer.dropout == 0.1
    assert PRESETS[preset].max_length == 1024


def test_the_share_that_is_replaced():
    config = PriorConfig()
    assert [config.replaced(step, 100) for step in (3, 15, 30, 100)] == pytest.approx([0.05, 0.25, 0.5, 0.5])
    assert PriorConfig(mixes=False).replaced(1, 100) == 1
    assert PriorConfig(ramp=0.0).replaced(1, math.inf) == 0.5
    assert config.replaced(10**6, math.inf) == 0


def test_a_prior_starts_as_the_tokenizer_does():
    torch.manual_seed(0)
    prior = zoo.config.from_dict(PriorConfig, PRIOR).build(4, 6)
    most = (6 / (16 + 64)) ** 0.5
    assert 0.9 * most < prior.transformer.layers[0].mlp.up.weight.abs().max() <= most
    assert 0.015 < prior.transformer.positions.std() < 0.025


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "gptc-S", **PRIOR}, "a preset or a transformer"),
        ({**PRIOR, "max_length": 9}, "goes with a preset"),
        ({"transformer": PRIOR["transformer"] | {"max_length": 4}}, "6 tokens need 5 positions, and it has 4"),
        ({"most_replaced": 1.5}, "most_replaced must be from 0 to 1"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"preset": "gptc-XL"}, "preset"),
    ],
    ids=str,
)
def test_priors_that_cannot_be_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        LARPTraining(PLAIN, prior=values)


def test_a_prior_needs_one_codebook():
    for quantizer, message in (
        ({"kind": "residual", "num_stages": 2, "stage": {"kind": "vq", "codebook_size": 8, "dim": 4}}, "2 codebooks"),
        ({"kind": "lfq", "num_bits": 20}, "out of reach"),
        ({"kind": "none", "dim": 4}, "0 codebooks"),
    ):
        with pytest.raises(ConfigError, match=message):
            LARPTraining(PLAIN | {"quantizer": quantizer}, prior=PRIOR)
        LARPTraining(PLAIN | {"quantizer": quantizer})


@pytest.mark.parametrize("kind", ["fsq", "lfq", "vq"])
def test_codes_of_all_ids(kind):
    values = {"fsq": {"levels": [4, 3]}, "lfq": {"num_bits": 3}, "vq": {"codebook_size": 9, "dim": 4, "cosine": True}}
    quantizer = build({"kind": kind, **values[kind]})
    codes = all_codes(quantizer)
    assert codes.shape == (quantizer.codebook_size, quantizer.dim)
    assert len(codes.unique(dim=0)) == len(codes)
    assert not codes.requires_grad


# ------------------------------------------------------------------------------------------------- what else is trained


def test_the_prior_may_learn_faster(monkeypatch):
    module = made(monkeypatch, prior_lr_multiplier=50.0, optimizer=OptimizerConfig(lr=1e-4, schedule="constant"))
    optimizer = module.configure_optimizers()["optimizer"]
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {rates[id(p)] for p in module.prior.parameters()} == {50 * 1e-4}
    assert {rates[id(p)] for p in module.tokenizer.parameters()} == {1e-4}
    assert len(rates) == sum(1 for _ in module.parameters())


def test_the_temperature_comes_to_that_of_the_config(monkeypatch):
    annealing = AnnealingConfig(start=1.03, begin=10, end=20)
    assert [annealing.temperature(step, 0.03) for step in (0, 10, 15, 20, 99)] == pytest.approx(
        [1.03, 1.03, 0.53, 0.03, 0.03]
    )
    module = made(monkeypatch, step=15, annealing={"start": 1.03, "begin": 10, "end": 20})
    module.reconstruct(BATCH)
    assert module.tokenizer.quantizer.temperature == pytest.approx(0.53)
    for quantizer in ({"kind": "vq", "codebook_size": 8, "dim": 4}, PLAIN["quantizer"] | {"learns_temperature": True}):
        with pytest.raises(ConfigError, match="annealing is of a stochastic_vq"):
            LARPTraining(PLAIN | {"quantizer": quantizer}, annealing={"start": 1.0})
    with pytest.raises(ConfigError, match="begin < end"):
        AnnealingConfig(1.0, 5, 5)


def test_frames_are_compared_in_a_network_s_features(monkeypatch):
    features = {"kind": "timm", "model": "test_resnet", "layers": ["layer1"], "pretrained": False}
    module = made(monkeypatch, perceptual=features)
    rebuilt = torch.rand_like(VIDEOS)
    whole = module._perceptual(rebuilt, VIDEOS)
    frames = [module.perceptual(rebuilt[:, :, t], VIDEOS[:, :, t]).mean() for t in range(4)]
    torch.testing.assert_close(whole, torch.stack(frames).mean())
    module.perceptual_frames = 2
    module._trainer.training = False
    torch.testing.assert_close(module._perceptual(rebuilt, VIDEOS), (frames[0] + frames[3]) / 2)
    with pytest.raises(ConfigError, match="perceptual_frames must be from 1 to 4"):
        LARPTraining(PLAIN, perceptual=features, perceptual_frames=5)


class TestDiscriminator:
    def test_the_published_one_has_its_size(self):
        with torch.device("meta"):
            judge = ClipDiscriminator(ClipDiscriminatorConfig())
        assert sum(p.numel() for p in judge.parameters()) == 38_205_953
        assert len(judge.state_dict()) == 140 + 2 * 12  # queries, keys and values are one map in the authors' code

    def test_it_is_of_the_tokenizer_s_clips(self, monkeypatch):
        module = made(monkeypatch, discriminator=JUDGE)
        assert module.discriminator.config.size == (4, 8, 8)
        assert module.discriminator.config.patch == (2, 4, 4)

    def test_losses_are_those_of_the_formulas(self, monkeypatch):
        module = made(monkeypatch, discriminator=JUDGE, label_noise=0.0)
        pair = module.reconstruct(BATCH)
        real, made_ = module.discriminator(VIDEOS), module.discriminator(pair.made.detach())
        assert real.shape == (3,)
        losses = module.discriminator_losses(pair)
        wanted = -F.logsigmoid(real).mean() - F.logsigmoid(-made_).mean()  # a sum, not half of it
        torch.testing.assert_close(losses["discriminator"], wanted)
        torch.testing.assert_close(losses["lecam"], F.relu(real.mean()) ** 2 + F.relu(-made_.mean()) ** 2)
        torch.testing.assert_close(module.lecam.real_mean, real.mean() * 0.001)
        torch.testing.assert_close(module.adversarial_losses(pair)["adversarial"], -F.logsigmoid(made_).mean())

    def test_labels_are_softened_at_random(self, monkeypatch):
        module = made(monkeypatch, discriminator=JUDGE)
        pair = module.reconstruct(BATCH)
        real, made_ = module.discriminator(VIDEOS), module.discriminator(pair.made)
        torch.manual_seed(5)
        found = module.discriminator_losses(pair)["discriminator"]
        torch.manual_seed(5)
        softer = [(0.15 * torch.randn(3).abs()).clamp(max=0.3) for _ in range(2)]
        wanted = F.binary_cross_entropy_with_logits(real, 1 - softer[0])
        wanted = wanted + F.binary_cross_entropy_with_logits(made_, softer[1])
        torch.testing.assert_close(found, wanted)

    def test_other_losses_soften_nothing(self, monkeypatch):
        module = made(monkeypatch, discriminator=JUDGE, adversarial_kind="hinge")
        pair = module.reconstruct(BATCH)
        real, made_ = module.discriminator(VIDEOS), module.discriminator(pair.made)
        wanted = F.relu(1 - real).mean() + F.relu(1 + made_).mean()
        torch.testing.assert_close(module.discriminator_losses(pair)["discriminator"], wanted)


# --------------------------------------------------------------------------------------------------------- the recipes


def test_the_paper_s_recipe_is_the_published_model():
    values = yaml.safe_load((RECIPES / "paper.yaml").read_text())["model"]["init_args"]
    with torch.device("meta"):
        tokenizer = LARPTokenizer.from_config(values["config"])
        prior = zoo.config.from_dict(PriorConfig, values["prior"]).build(16, 1024)
        judge = ClipDiscriminator(ClipDiscriminatorConfig(**values["discriminator"]))
    counts = [sum(p.numel() for p in module.parameters()) for module in (tokenizer, prior, judge)]
    assert counts == [172_179_984, 21_700_240, 38_205_953]
    assert values["prior_lr_multiplier"] == 1
    assert {**LARPTraining.default_weights, **values["loss_weights"]} == LARPTraining.default_weights
    for name, lr in (("optimizer", 1e-4), ("discriminator_optimizer", 3e-5)):
        config = zoo.config.from_dict(OptimizerConfig, values[name])
        assert (config.kind, config.lr, config.betas) == ("adam", lr, (0.5, 0.9))
        assert config.ratio(0, 510_000) == pytest.approx(0.01, abs=1e-4)
        assert [config.ratio(step, 510_000) for step in (27_200, 509_999)] == pytest.approx([1.0, 0.01])
    shrunk = {**values, "config": PLAIN, "prior": PRIOR, "discriminator": JUDGE, "perceptual": None}
    assert LARPTraining(**shrunk).discriminator_every == 5


@pytest.fixture
def fit(tmp_path, quiet_lightning):
    """`fit(folder, **more)` makes three steps of the nano recipe of a tiny LARP, of three batches an epoch."""
    for split in ("train", "val"):
        for number in range(2):
            clips.write(tmp_path / f"videos/{split}/{number}.mp4", clips.encoded(12, first=4 * number))

    def run(folder, **more):
        values = {
            "data.folder": str(tmp_path / "videos"),
            "data.batch_size": "2",
            "data.num_frames": "4",
            "data.size": "8",
            "model.config": json.dumps(PLAIN | {"num_tokens": 4, "latent_norm": "batch"}),
            "model.prior": json.dumps(PRIOR),
            "model.guide": json.dumps({"grid": [1, 2, 2], "parts": [1, 1, 1], "until": 2}),
            "model.discriminator": json.dumps(JUDGE),
            "model.discriminator_every": "2",
            "model.optimizer.warmup_steps": "1",
            **more,
        }
        return runs.fit_recipe(RECIPES / "nano.yaml", folder, **values)

    return run


def test_two_processes_train_one_model(fit, tmp_path):
    # Averages of what a process has seen; the first one's are given to the others before each step.
    averages = [f"tokenizer.encoder.norm.running_{name}" for name in ("mean", "var")]
    runs.require_two_processes(fit, tmp_path, apart=averages)


def test_a_killed_run_goes_on_to_the_same_bits(fit, tmp_path):
    dropped = {"transformer": PRIOR["transformer"] | {"dropout": 0.1}}
    # Curves go on with the last value of a loss that has ended, so the guide does not end here.
    guide = json.dumps({"grid": [1, 2, 2], "parts": [1, 1, 1], "until": 10})
    runs.require_resumes(partial(fit, **{"model.prior": json.dumps(dropped), "model.guide": guide}), tmp_path)
    state = runs.read(tmp_path / "killed")["state_dict"]
    assert state["lecam.real_mean"] != 0, "the discriminator has learned"
    assert len(runs.read(tmp_path / "killed")["optimizer_states"]) == 2


def test_the_nano_recipe_trains_two_networks(fit, tmp_path, capsys):
    config = json.dumps({**PLAIN, "num_tokens": 4, "quantizer": {"kind": "lfq", "num_bits": 4}})
    assert fit(tmp_path, **{"model.config": config}) == 0, capsys.readouterr().err
    last = str(tmp_path / "checkpoints/last.ckpt")
    assert main(["export", last, "-o", str(tmp_path / "model"), "--name", "larp.mine"]) == 0
    exported = zoo.load(tmp_path / "model")
    assert exported.encode(VIDEOS).ids.shape == (3, 4)
    assert "prior.head.weight" in zoo.training_parts(exported)
    more = LARPTraining(zoo.config.to_dict(exported.config), weights=last, prior=PRIOR, discriminator=JUDGE)
    state = torch.load(last, weights_only=True)["state_dict"]
    for name in ("prior.head.weight", "discriminator.project.weight", "lecam.real_mean"):
        assert torch.equal(more.state_dict()[name], state[name]), name
    assert state["lecam.real_mean"] != 0


def test_a_guide_tells_each_token_of_its_cell_and_then_leaves_it_alone():
    config = GuideConfig((2, 1, 2), parts=(1, 2, 1), until=4)
    guide = Guide(config, 4, 5, (4, 8, 8))
    clips = torch.zeros(1, 3, 4, 8, 8)
    clips[0, 1, 2:, 4:, :4] = 1.0  # the green of cell (1, 0, 0), its lower part: token 2, colour 1, part 1
    with torch.no_grad():
        guide.project.weight.zero_()
        guide.project.bias.zero_()
        assert float(guide(torch.zeros(1, 4, 5), clips)) == pytest.approx(1 / (4 * 6))
        guide.project.weight[1 * 2 + 1, 0] = 1.0
        vectors = torch.zeros(1, 4, 5)
        vectors[0, 2, 0] = 1.0
        assert float(guide(vectors, clips)) == 0.0
    assert [guide.weight(step) for step in (0, 1, 4, 9)] == [1.0, 0.75, 0.0, 0.0]


def test_the_guide_teaches_the_encoder_alone_and_ends(monkeypatch):
    guide = {"grid": [1, 2, 2], "parts": [1, 1, 1], "until": 10}
    module = LARPTraining(PLAIN | {"num_tokens": 4}, guide=guide)
    monkeypatch.setattr(module, "_trainer", FakeTrainer())
    monkeypatch.setattr(module, "_log", lambda *_, **__: None)
    monkeypatch.setattr(LARPTraining, "global_step", 0)
    module.losses(BATCH)["guide"].backward()
    own = module.tokenizer
    assert any(p.grad is not None and bool(p.grad.any()) for p in own.encoder.parameters())
    assert all(p.grad is None for p in [*own.decoder.parameters(), *own.quantizer.parameters()])
    monkeypatch.setattr(LARPTraining, "global_step", 10)
    assert "guide" not in module.losses(BATCH)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"grid": [1, 1, 1]}, "need as many cells"),
        ({"grid": [1, 2, 2], "parts": [1, 3, 1]}, "do not divide"),
        ({"grid": [0, 2, 2]}, "at least 1"),
        ({"grid": [1, 2, 2], "until": 0}, "at least 1"),
        ({"grid": [1, 2, 2], "colour": 1}, "colour"),
    ],
)
def test_a_guide_that_fits_no_clip_is_refused(values, complaint):
    with pytest.raises(ConfigError, match=complaint):
        LARPTraining(PLAIN | {"num_tokens": 4}, guide=values)
