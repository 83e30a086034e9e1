"""Training of SSDD with a judge of its estimates: losses by hand, whose gradient is whose, clipping, and a real run."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import training_runs as runs
from pictures import photographs_in
from tiny_ssdd import CONTINUOUS, fill

import zoo
from zoo.components.discriminators.noisy import NoisyDiscriminator, NoisyDiscriminatorConfig
from zoo.errors import ConfigError
from zoo.families.ssdd.training import SSDDTraining

RECIPES = Path(__file__).parents[3] / "recipes/ssdd"
PLAIN = zoo.config.to_dict(CONTINUOUS)
JUDGE = {"channels": 4, "num_layers": 2, "condition_size": 8}


class FakeTrainer:
    """The one thing that the losses ask a trainer."""

    training, testing, world_size = True, False, 1


class Batch:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def module(monkeypatch):
    torch.manual_seed(0)
    made = SSDDTraining(PLAIN, discriminator=JUDGE)
    fill(made.tokenizer)
    monkeypatch.setattr(made, "_trainer", FakeTrainer())
    return made


def test_losses_are_cross_entropies_of_what_the_judge_says_beside_the_noisy_picture(module):
    pair = module.reconstruct(Batch)
    assert torch.equal(pair.real, 2 * Batch.images - 1)
    t = pair.flow.t.view(4, 1, 1, 1)
    torch.testing.assert_close(pair.flow.x, (1 - t) * pair.real + t * pair.flow.noise)
    module.discriminator.eval()  # in which its largest singular values stay as they are
    real, made = (module.discriminator(pictures, pair.flow.x, pair.flow.t) for pictures in (pair.real, pair.made))
    expected = F.softplus(-real).mean() + F.softplus(made).mean()
    torch.testing.assert_close(module.discriminator_losses(pair)["discriminator"], expected)
    torch.testing.assert_close(module.adversarial_losses(pair)["adversarial"], F.softplus(-made).mean())
    assert (module.loss_weights["adversarial"], module.loss_weights["discriminator"]) == (0.5, 1.0)
    assert module.adversarial_from == 50_000


def test_what_the_judge_says_teaches_encoder_and_decoder(module):
    module.adversarial_losses(module.reconstruct(Batch))["adversarial"].backward()
    for part in (module.tokenizer.encoder, module.tokenizer.decoder):
        assert any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())


def test_a_judge_too_large_for_the_pictures_is_refused():
    with pytest.raises(ConfigError, match=r"16×16 pixels are too small .* need 32"):
        SSDDTraining(PLAIN, discriminator=JUDGE | {"num_layers": 5})


def test_no_layer_of_the_judge_stretches_anything():
    torch.manual_seed(0)
    judge = NoisyDiscriminator(NoisyDiscriminatorConfig())
    pictures, noisy, t = torch.rand(2, 3, 32, 32), torch.randn(2, 3, 32, 32), torch.tensor([0.1, 0.9])
    for _ in range(8):
        judge(pictures, noisy, t)
    judge.eval()
    assert judge(pictures, noisy, t).shape == (2,)
    for layer in (*judge.layers, judge.judge):
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1.0, abs=0.05)
    assert [layer.weight.shape[:2] for layer in judge.layers] == [(64, 6), (128, 64), (256, 128), (512, 256)]
    later = judge(pictures, noisy, 1 - t)
    assert not torch.allclose(later, judge(pictures, noisy, t)), "it sees the time"
    assert not torch.allclose(judge(pictures, -noisy, t), judge(pictures, noisy, t)), "and the noisy picture"


@pytest.mark.parametrize(
    ("values", "message"),
    [({"channels": 0}, "channels must be from 1"), ({"condition_size": 7}, "must be even"), ({"layers": 4}, "layers")],
)
def test_settings_that_make_no_judge(values, message):
    with pytest.raises(ConfigError, match=message):
        SSDDTraining(PLAIN, discriminator=values)


@pytest.fixture
def fit(tmp_path, quiet_lightning):
    """`fit(folder, **more)` makes some steps of the nano recipe of a tiny model with a judge."""
    photographs = photographs_in(tmp_path / "photographs")

    def run(folder, **more):
        values = {
            "data.folder": str(photographs),
            "data.batch_size": "4",
            "data.repeat": "null",
            "data.transforms": json.dumps([{"name": "RandomCrop", "size": 16}]),
            "data.eval_transforms": json.dumps([{"name": "CenterCrop", "size": 16}]),
            "model.config": json.dumps(PLAIN),
            "model.perceptual": "null",
            "model.optimizer.warmup_steps": "1",
            "model.discriminator": json.dumps(JUDGE),
            "model.adversarial_from": "1",
            **more,
        }
        return runs.fit_recipe(RECIPES / "nano.yaml", folder, **values)

    return run


def test_a_killed_run_with_a_judge_goes_on_to_the_same_bits(fit, tmp_path):
    runs.require_resumes(fit, tmp_path)
    assert len(runs.read(tmp_path / "killed")["optimizer_states"]) == 2


def test_gradients_of_either_network_are_clipped_by_themselves(fit, tmp_path):
    kept = json.dumps([{"class_path": "toy_training.KeepWeights", "init_args": {"folder": str(tmp_path)}}])

    def ends(clip):
        assert fit(tmp_path / f"{clip}", **{"trainer.gradient_clip_val": clip, "trainer.callbacks": kept}) == 0
        return torch.load(tmp_path / "rank-0.pt", weights_only=True)

    free, clipped = ends("null"), ends("1e-9")
    for network in ("tokenizer.decoder", "discriminator"):
        names = [name for name, tensor in free.items() if name.startswith(network) and tensor.is_floating_point()]
        assert any(not torch.equal(free[name], clipped[name]) for name in names), network
