"""Distances in features whose values are known in closed form."""

import math

import pytest
import torch
from torch import nn

from zoo.components.features import FeatureNetwork, TimmNetwork
from zoo.components.losses.perceptual import PerceptualDistance
from zoo.errors import ConfigError, InputError
from zoo.metrics.bootstrap import bootstrap_interval


class Shown(FeatureNetwork):
    """What goes in is what comes out, whole and averaged over positions."""

    def __init__(self, layers=("whole",)):
        super().__init__(nn.Identity(), "shown", "none", layers)

    def _prepared(self, x):
        return x

    def _features(self, x):
        return {"whole": self.network(x), "mean": x.flatten(2).mean(2)}


def channels(*values):
    return torch.tensor(values).view(1, -1, 1, 1)


def test_equal_signals_are_no_distance_apart():
    x = torch.rand(3, 4, 5, 5)
    assert PerceptualDistance(Shown(("whole", "mean")))(x, x).tolist() == [0.0, 0.0, 0.0]


def test_only_the_direction_of_the_channels_counts():
    distance = PerceptualDistance(Shown())
    assert distance(channels(3.0, 4.0), channels(30.0, 40.0)).item() == pytest.approx(0, abs=1e-9)
    # Between unit vectors: 2 - 2 cos.
    assert distance(channels(1.0, 0.0), channels(0.0, 5.0)).item() == pytest.approx(2, rel=1e-6)
    assert distance(channels(1.0, 0.0), channels(3.0, 3.0)).item() == pytest.approx(2 - math.sqrt(2), rel=1e-6)
    assert distance(channels(1.0, 0.0), channels(-1.0, 0.0)).item() == pytest.approx(4, rel=1e-6)


def test_positions_are_averaged_and_layers_added():
    x = torch.tensor([[[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]])
    y = torch.tensor([[[0.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]]])
    assert PerceptualDistance(Shown())(x, y).item() == pytest.approx(2 / 4, rel=1e-6)
    # The second layer has the one direction (1, 0) against (3/4, 1/4).
    second = 2 - 2 * 3 / math.sqrt(10)
    assert PerceptualDistance(Shown(("whole", "mean")))(x, y).item() == pytest.approx(2 / 4 + second, rel=1e-6)


def test_channels_are_weighted():
    distance = PerceptualDistance(Shown(), {"whole": torch.tensor([3.0, 0.5])})
    assert distance(channels(1.0, 0.0), channels(0.0, 1.0)).item() == pytest.approx(3.5, rel=1e-6)


def test_weights_belong_to_their_layers():
    weights = {"mean": torch.tensor([10.0, 10.0]), "whole": torch.tensor([1.0, 1.0])}
    distance = PerceptualDistance(Shown(("whole", "mean")), weights)
    assert distance(channels(1.0, 0.0), channels(0.0, 1.0)).item() == pytest.approx(2 + 20, rel=1e-6)


def test_features_as_they_are_have_a_mean_square_difference():
    distance = PerceptualDistance(Shown(("whole", "mean")), unit_channels=False)
    x, y = torch.zeros(2, 3, 2, 2), torch.full((2, 3, 2, 2), 2.0)
    y[1] = 1.0
    assert distance(x, y).tolist() == [4.0 + 4.0, 1.0 + 1.0]


def test_an_item_does_not_depend_on_its_neighbours():
    distance = PerceptualDistance(Shown())
    x, y = torch.rand(3, 4, 5), torch.rand(3, 4, 5)
    torch.testing.assert_close(distance(x, y)[1:2], distance(x[1:2], y[1:2]))


def test_empty_features_have_a_gradient():
    x = torch.zeros(1, 3, 2, 2, requires_grad=True)
    PerceptualDistance(Shown())(x, torch.ones(1, 3, 2, 2)).sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0


def test_the_gradient_brings_features_together():
    distance = PerceptualDistance(TimmNetwork("test_resnet", ["layer1", "layer2"], pretrained=False))
    target, x = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.03)
    values = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = distance(x, target).mean()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.5 * values[0]


def test_it_is_whole_in_float32_under_autocast():
    distance = PerceptualDistance(Shown())
    x, y = torch.rand(2, 4, 5), torch.rand(2, 4, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(distance(x, y), distance(x, y).float())
        inside = distance(x, y)
    assert torch.equal(inside, distance(x, y))


def test_it_adds_nothing_to_a_checkpoint():
    distance = PerceptualDistance(Shown(), {"whole": torch.ones(2)})
    assert not distance.state_dict()
    assert not list(distance.parameters())
    assert distance.to("meta").get_buffer("weight_0").is_meta


def test_distances_are_rows_of_the_bootstrap():
    x, y = torch.rand(6, 4, 5), torch.rand(6, 4, 5)
    rows = PerceptualDistance(Shown())(x, y)
    interval = bootstrap_interval(rows)
    assert interval.low < interval.estimate < interval.high
    assert interval.estimate == pytest.approx(rows.mean().item(), rel=1e-6)


def test_the_name_tells_network_and_kind():
    assert PerceptualDistance(Shown()).name != PerceptualDistance(Shown(), unit_channels=False).name
    assert "shown" in PerceptualDistance(Shown()).name


@pytest.mark.parametrize(
    ("weights", "arguments", "message"),
    [
        ({"other": torch.ones(2)}, {}, "layers"),
        ({"whole": torch.tensor([1.0, -1.0])}, {}, "at least 0"),
        ({"whole": torch.ones(2, 2)}, {}, "vectors"),
        ({"whole": torch.ones(2)}, {"unit_channels": False}, "unit_channels"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, arguments, message):
    with pytest.raises(ConfigError, match=message):
        PerceptualDistance(Shown(), weights, **arguments)


def test_weights_of_other_channels_are_refused():
    with pytest.raises(ConfigError, match="2 channels and weights for 3"):
        PerceptualDistance(Shown(), {"whole": torch.ones(3)})(channels(1.0, 0.0), channels(0.0, 1.0))


def test_signals_of_two_shapes_are_refused():
    with pytest.raises(InputError, match="one shape"):
        PerceptualDistance(Shown())(torch.rand(2, 3, 4), torch.rand(1, 3, 4))
