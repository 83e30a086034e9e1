"""Adversarial losses and what regularises discriminators, against their formulas."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.components.losses.adversarial import LeCam, discriminator_loss, feature_loss, generator_loss, r1_penalty
from zoo.errors import ConfigError, InputError

REAL, MADE = [torch.tensor([[2.0, 0.5]]), torch.tensor([-1.0])], [torch.tensor([[-2.0, 0.5]]), torch.tensor([3.0])]


def softplus(x):
    return math.log1p(math.exp(x))


def test_values():
    expected = {
        "least_squares": (((1 + 0.25) / 2 + (4 + 0.25) / 2) + (4 + 9)) / 2,
        "hinge": ((0.25 + 0.75) + (2 + 4)) / 2,
        "non_saturating": (
            (softplus(-2) + softplus(-0.5)) / 2 + (softplus(-2) + softplus(0.5)) / 2 + softplus(1) + softplus(3)
        )
        / 2,
    }
    for kind, value in expected.items():
        assert discriminator_loss(REAL, MADE, kind).item() == pytest.approx(value, rel=1e-6), kind
    expected = {
        "least_squares": ((9 + 0.25) / 2 + 4) / 2,
        "hinge": (0.75 - 3) / 2,
        "non_saturating": ((softplus(2) + softplus(-0.5)) / 2 + softplus(-3)) / 2,
    }
    for kind, value in expected.items():
        assert generator_loss(MADE, kind).item() == pytest.approx(value, rel=1e-6), kind


def test_soft_labels_are_cross_entropy():
    real, made = torch.randn(5, 7), torch.randn(5, 7)
    torch.manual_seed(4)
    found = discriminator_loss([real], [made], "non_saturating", label_noise=0.15)
    torch.manual_seed(4)
    of_real, of_made = ((0.15 * torch.randn(5, 7).abs()).clamp(max=0.3) for _ in range(2))
    expected = F.binary_cross_entropy_with_logits(real, 1 - of_real) + F.binary_cross_entropy_with_logits(made, of_made)
    torch.testing.assert_close(found, expected)
    assert found != discriminator_loss([real], [made], "non_saturating")


def test_no_label_is_softer_than_the_most():
    zero = [torch.full((4,), 2.0)], [torch.full((4,), 1.0)]
    found = discriminator_loss(*zero, "non_saturating", label_noise=1e6, most_noise=0.25)
    assert found.item() == pytest.approx(softplus(-2) + 0.25 * 2 + softplus(1) - 0.25 * 1, rel=1e-6)


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'hinge'"):
        discriminator_loss(REAL, MADE, "hing")
    with pytest.raises(ConfigError, match="there is no adversarial loss"):
        generator_loss(MADE, "wasserstein")
    with pytest.raises(ConfigError, match="only the labels of non_saturating"):
        discriminator_loss(REAL, MADE, "hinge", label_noise=0.1)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        discriminator_loss(REAL, MADE, "non_saturating", label_noise=0.1, most_noise=1.5)
    with pytest.raises(ConfigError, match="decay"):
        LeCam(1.0)
    for call in (
        lambda: generator_loss([]),
        lambda: discriminator_loss(REAL, MADE[:1]),
        lambda: feature_loss([REAL], []),
    ):
        with pytest.raises(InputError, match="equally many"):
            call()


def test_features_are_compared_relative_to_their_size():
    # Half as large everywhere: half of the real features' mean size, whatever their scale.
    real = [[torch.full((2, 4), 3.0)], [torch.full((7,), 0.01), torch.full((1,), 8.0)]]
    assert feature_loss(real, [[x / 2 for x in each] for each in real]).item() == pytest.approx(0.5)


@pytest.mark.parametrize("of_means", [False, True])
def test_lecam_is_the_formula(of_means):
    penalty, generator = LeCam(0.75, of_means), torch.Generator().manual_seed(0)
    real_mean = made_mean = 0.0
    for _ in range(3):
        real, made = torch.randn(6, 1, generator=generator) + 1, torch.randn(6, 1, generator=generator) - 1
        r, m = ([real.mean()], [made.mean()]) if of_means else (real.flatten(), made.flatten())
        expected = sum(max(x.item() - made_mean, 0) ** 2 for x in r) / len(r)
        expected += sum(max(real_mean - x.item(), 0) ** 2 for x in m) / len(m)
        assert penalty(real, made).item() == pytest.approx(expected, rel=1e-5)
        real_mean = 0.75 * real_mean + 0.25 * real.mean().item()
        made_mean = 0.75 * made_mean + 0.25 * made.mean().item()
    assert penalty.state_dict().keys() == {"real_mean", "made_mean"}
    assert penalty.real_mean.item() == pytest.approx(real_mean, rel=1e-5)
    assert penalty.made_mean.item() == pytest.approx(made_mean, rel=1e-5)
    penalty.eval()(real, made)
    assert penalty.real_mean.item() == pytest.approx(real_mean, rel=1e-5)


def test_lecam_has_the_gradient_of_its_formula():
    penalty = LeCam(0.0)
    penalty(torch.tensor([3.0]), torch.tensor([1.0]))  # averages of 3 and 1
    real, made = torch.tensor([2.0, 0.0], requires_grad=True), torch.tensor([5.0, 2.5], requires_grad=True)
    penalty(real, made).backward()
    assert real.grad.tolist() == [1.0, 0.0]  # 2 (2 - 1) / 2
    assert made.grad.tolist() == [0.0, -0.5]  # -2 (3 - 2.5) / 2


def test_r1_of_a_linear_discriminator_is_its_squared_norm():
    layer, real = nn.Linear(12, 1), torch.randn(5, 3, 4, requires_grad=True)
    penalty = r1_penalty(layer(real.flatten(1)), real)
    assert penalty.item() == pytest.approx(layer.weight.square().sum().item(), rel=1e-6)
    penalty.backward()
    torch.testing.assert_close(layer.weight.grad, 2 * layer.weight.detach())
    with pytest.raises(InputError, match="requires_grad_"):
        r1_penalty(layer(real.detach().flatten(1)), real.detach())


def test_r1_is_the_mean_over_items():
    real = torch.tensor([[1.0], [2.0], [-3.0]], requires_grad=True)
    # D = x³ / 3, of which the gradient is x².
    assert r1_penalty(real**3 / 3, real).item() == pytest.approx((1 + 16 + 81) / 3)
