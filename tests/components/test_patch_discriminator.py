"""The judge of patches: what it sees, and what it starts from."""

from __future__ import annotations

import pytest
import torch

from zoo.components.discriminators.patches import PatchDiscriminator, PatchDiscriminatorConfig
from zoo.components.losses.adversarial import r1_penalty
from zoo.errors import ConfigError


def test_the_published_one_has_its_size_and_sees_70_pixels():
    judge = PatchDiscriminator(PatchDiscriminatorConfig()).eval()
    # 4×4 convolutions 3-64-128-256-512-1, biases in the first and last, two numbers a channel in three norms.
    wanted = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 64 + 1 + 2 * (128 + 256 + 512)
    assert sum(p.numel() for p in judge.parameters()) == wanted
    x = torch.rand(1, 3, 128, 128, requires_grad=True)
    logits = judge(x)
    assert logits.shape == (1, 1, 14, 14)
    (gradient,) = torch.autograd.grad(logits[0, 0, 7, 7], x)
    seen = gradient.abs().sum((0, 1)).nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [70, 70]


@pytest.mark.parametrize("norm", ["group", "none"])
def test_a_judgement_is_of_the_item_alone_without_batch_norm(norm):
    judge = PatchDiscriminator(PatchDiscriminatorConfig(channels=8, norm=norm))
    x = torch.rand(3, 3, 32, 32)
    assert torch.allclose(judge(x)[1:2], judge(x[1:2]), atol=1e-6)
    real = x.clone().requires_grad_()
    assert r1_penalty(judge(real), real).item() > 0


def test_it_takes_the_smallest_it_says_and_no_smaller():
    for layers in (1, 2, 3):
        judge = PatchDiscriminator(PatchDiscriminatorConfig(channels=4, num_layers=layers, norm="none"))
        side = judge.smallest
        assert 0 not in judge(torch.rand(1, 3, side, side)).shape
        with pytest.raises(RuntimeError):
            judge(torch.rand(1, 3, side - 1, side - 1))


def test_weights_start_small_and_biases_at_zero():
    torch.manual_seed(0)
    judge = PatchDiscriminator(PatchDiscriminatorConfig(channels=32))
    first, last = judge.layers[0], judge.layers[-1]
    assert abs(first.weight.std().item() - 0.02) < 0.002
    assert not first.bias.any()
    assert not last.bias.any()


@pytest.mark.parametrize("values", [{"channels": 0}, {"num_layers": 9}, {"norm": "layer"}, {"image_channels": 0}])
def test_configs_that_cannot_be_built_are_refused(values):
    with pytest.raises(ConfigError, match="patch discriminator"):
        PatchDiscriminator(PatchDiscriminatorConfig(**values))
