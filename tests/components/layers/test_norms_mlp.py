"""Norms and MLPs against torch's own and their formulas."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.components.layers.mlp import MLP, GatedMLP
from zoo.components.layers.norms import RMSNorm, make_norm
from zoo.errors import ConfigError


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("name", "theirs"), [("layer", nn.LayerNorm), ("rms", nn.RMSNorm)])
def test_norms_are_those_of_torch(name, theirs, affine):
    norm, other = make_norm(name, 12, eps=0.1, affine=affine), theirs(12, eps=0.1, elementwise_affine=affine)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    other.load_state_dict(norm.state_dict())
    assert bool(norm.state_dict()) == affine
    x = torch.randn(3, 5, 12)
    torch.testing.assert_close(norm(x), other(x))


def test_rms_statistic_is_float32():
    x = torch.full((1, 64), 300.0, dtype=torch.float16)  # its square is past float16's range
    normed = RMSNorm(64, affine=False)(x)
    assert normed.dtype == torch.float16
    torch.testing.assert_close(normed, torch.ones_like(x))


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'rms'"):
        make_norm("rmss", 4)
    for kind in (MLP, GatedMLP):
        with pytest.raises(ConfigError, match="did you mean 'gelu'"):
            kind(4, 8, activation="gelo")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["gelu", "silu"])
def test_mlps_are_their_formulas(name, bias):
    activation = {"gelu": lambda y: y * (1 + torch.erf(y / 2**0.5)) / 2, "silu": lambda y: y * y.sigmoid()}[name]
    x = torch.randn(2, 3, 6)
    plain, gated = (kind(6, 10, activation=name, bias=bias) for kind in (MLP, GatedMLP))
    assert (plain.up.bias is not None) == (gated.gate.bias is not None) == (gated.down.bias is not None) == bias
    up = F.linear(x, plain.up.weight, plain.up.bias)
    torch.testing.assert_close(plain(x), F.linear(activation(up), plain.down.weight, plain.down.bias))
    gate, up = (F.linear(x, part.weight, part.bias) for part in (gated.gate, gated.up))
    expected = F.linear(activation(gate) * up, gated.down.weight, gated.down.bias)
    torch.testing.assert_close(gated(x), expected)
