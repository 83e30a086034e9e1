"""The U-Net along time: what it predicts, lengths, its settings."""

import pytest
import torch

from zoo.components.layers.unet1d import UNetConfig, VelocityUNet
from zoo.errors import ConfigError


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def network(**changes):
    torch.manual_seed(0)
    sizes = {"channels": (16, 24), "num_layers": 1, "num_middle": 2, "num_heads": 3, "head_size": 4}
    return VelocityUNet(8, UNetConfig(**(sizes | changes))).eval()


def test_predicted_data_are_where_the_velocity_leads():
    plain, other = (network(predicts=kind) for kind in ("velocity", "data"))
    x, t = torch.randn(3, 8, 12, generator=seeded(0)), torch.tensor([0.0, 0.5, 0.99])
    conditions = (torch.randn(3, 8, 12, generator=seeded(1)), torch.zeros(3, 8), torch.zeros(3, 8, 12))
    with torch.no_grad():
        data, velocity = plain(x, t, *conditions), other(x, t, *conditions)
    left = (1 - t)[:, None, None]
    assert torch.allclose((x + left * velocity)[:2], data[:2], atol=1e-5)
    assert torch.allclose(velocity[2], (data - x)[2] / 0.05, atol=1e-4)  # not a hundredfold


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("channels", [(16,), (16, 24, 16)])
def test_every_length_comes_back(frames, channels):
    x = torch.randn(1, 8, frames)
    with torch.no_grad():
        made = network(channels=channels)(x, torch.rand(1), x, torch.randn(1, 8), torch.zeros_like(x))
    assert made.shape == x.shape
    assert made.isfinite().all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channels": ()}, "channels"),
        ({"channels": (256, 100)}, "multiples of 8"),
        ({"num_middle": -1}, "num_middle"),
        ({"predicts": "noise"}, "predicts"),
    ],
)
def test_bad_settings(values, message):
    with pytest.raises(ConfigError, match=message):
        UNetConfig(**values)
