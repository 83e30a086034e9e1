"""The discriminator of whole images: its published sizes, and that it judges each alone."""

from __future__ import annotations

import pytest
import torch

from zoo.components.discriminators.images import ImageDiscriminator, ImageDiscriminatorConfig
from zoo.components.losses.adversarial import r1_penalty
from zoo.errors import ConfigError


def small(**values):
    torch.manual_seed(0)
    return ImageDiscriminator(
        ImageDiscriminatorConfig(**{"image_size": 16, "channels": 4, "multipliers": (1, 2)} | values)
    )


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (ImageDiscriminatorConfig(), 24_192_385),
        (ImageDiscriminatorConfig(512, multipliers=(0.5, 1, 2, 4, 4, 4, 4)), 24_229_377),
    ],
    ids=["256", "512"],
)
def test_published_sizes(config, parameters):
    with torch.device("meta"):
        judge = ImageDiscriminator(config)
        assert judge(torch.zeros(2, 3, config.image_size, config.image_size)).shape == (2,)
    assert sum(p.numel() for p in judge.parameters()) == parameters
    assert config.last_size == 4


@pytest.mark.parametrize("is_blurred", [True, False])
def test_a_judgement_is_of_the_item_alone(is_blurred):
    judge = small(is_blurred=is_blurred)
    x = torch.rand(3, 3, 16, 16)
    assert torch.allclose(judge(x)[1:2], judge(x[1:2]), atol=1e-6)
    real = x.clone().requires_grad_()
    penalty = r1_penalty(judge(real), real)
    penalty.backward()
    assert penalty > 0
    assert judge.first.weight.grad.abs().sum() > 0, "the penalty has a gradient"


def test_a_stage_is_the_formula():
    judge = small()
    stage, x = judge.stages[1], torch.rand(1, 4, 8, 8)
    leaky = torch.nn.functional.leaky_relu
    made = leaky(stage.outer(stage.halve(leaky(stage.inner(x), 0.2))), 0.2)
    expected = (made + stage.shortcut(stage.halve(x))) / 2**0.5
    torch.testing.assert_close(stage(x), expected)
    assert expected.shape == (1, 8, 4, 4)


def test_halving_blurs_and_keeps_what_is_even():
    halved = small().stages[0].halve(torch.full((1, 2, 8, 8), 0.7))
    assert torch.allclose(halved[:, :, 1:-1, 1:-1], torch.tensor(0.7))
    ramp = torch.arange(8.0).expand(1, 1, 8, 8).contiguous()
    assert torch.allclose(small().stages[0].halve(ramp)[0, 0, 1, 1:-1], torch.tensor([2.5, 4.5]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": 18}, "must halve 18 pixels"),
        ({"multipliers": ()}, "1 to 12 stages"),
        ({"multipliers": (0.1,)}, "of 1 to 32768 channels each"),
        ({"channels": 0}, "channels must be from 1"),
        ({"image_size": 1024}, "at most 64"),
    ],
)
def test_what_cannot_be_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        small(**values)
