"""Alignment of hidden states with frozen features, against its formula."""

import pytest
import torch
from torch import nn

from zoo.components.losses.alignment import AlignmentHead, alignment_loss
from zoo.errors import ConfigError, InputError


def test_values():
    features = torch.tensor([[[3.0, 0.0], [0.0, 2.0], [1.0, 1.0]]])
    assert alignment_loss(5 * features, features).item() == pytest.approx(0, abs=1e-6)
    assert alignment_loss(-features, features).item() == pytest.approx(2)
    # Cosines of 0, 0.8 and 0.6 · 1/√2 + 0.8 · 1/√2.
    projected = torch.tensor([[[0.0, 1.0], [0.6, 0.8], [6.0, 8.0]]])
    assert alignment_loss(projected, features).item() == pytest.approx(1 - (0 + 0.8 + 1.4 / 2**0.5) / 3, rel=1e-6)


def test_only_projected_states_get_a_gradient():
    projected, features = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4, requires_grad=True)
    alignment_loss(projected, features).backward()
    assert features.grad is None
    # Of a cosine, nothing along the vector itself.
    along = (projected.grad * projected.detach()).sum(-1)
    torch.testing.assert_close(along, torch.zeros_like(along), atol=1e-6, rtol=0)
    assert projected.grad.abs().sum() > 0


def test_half_precision_is_compared_in_full():
    projected = torch.randn(4, 8, 16).bfloat16()
    assert alignment_loss(projected, projected).dtype == torch.float32
    assert alignment_loss(projected, projected).item() == pytest.approx(0, abs=1e-6)


def test_head():
    head = AlignmentHead(6, 10)
    assert [type(layer) for layer in head] == [nn.Linear, nn.SiLU, nn.Linear]
    assert head(torch.randn(2, 3, 6)).shape == (2, 3, 10)
    deeper = AlignmentHead(6, 10, hidden_dim=24, num_layers=3)
    shapes = [tuple(layer.weight.shape) for layer in deeper if isinstance(layer, nn.Linear)]
    assert shapes == [(24, 6), (24, 24), (10, 24)]


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="resize one grid"):
        alignment_loss(torch.zeros(1, 4, 8), torch.zeros(1, 9, 8))
    with pytest.raises(ConfigError, match="num_layers=0"):
        AlignmentHead(6, 10, num_layers=0)
