"""adaLN and adaGN: order of the parts, groups of tokens, a start that changes nothing."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.components.layers.modulation import PARTS, AdaGN, AdaLN, modulate
from zoo.errors import ConfigError, InputError


def filled(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def test_parts_are_rows_of_the_linear_map_in_order():
    names = ("gate_attention", "scale_mlp", "shift_attention")
    layer, condition = filled(AdaLN(5, 4, names)), torch.randn(3, 5)
    rows = F.linear(F.silu(condition), layer.linear.weight, layer.linear.bias)
    parts = layer(condition)
    assert tuple(parts) == names
    for number, name in enumerate(names):
        torch.testing.assert_close(parts[name], rows[:, None, 4 * number : 4 * number + 4])


def test_a_condition_a_token():
    layer, condition = filled(AdaLN(5, 4)), torch.randn(2, 7, 5)
    parts = layer(condition)
    assert set(parts) == set(PARTS)
    for token in range(7):
        for name, part in layer(condition[:, token]).items():
            torch.testing.assert_close(parts[name][:, token], part[:, 0])


@pytest.mark.parametrize("shape", [(2, 5), (2, 6, 5)])
def test_groups_have_rows_of_their_own(shape):
    layer, condition = filled(AdaLN(5, 4, ("shift_mlp", "gate_mlp"), num_groups=2)), torch.randn(*shape)
    group = torch.tensor([0, 1, 1, 0, 0, 1])
    parts = layer(condition, group)
    for number in range(2):
        alone = AdaLN(5, 4, ("shift_mlp", "gate_mlp"))
        own = slice(8 * number, 8 * number + 8)
        alone.linear.load_state_dict({"weight": layer.linear.weight[own], "bias": layer.linear.bias[own]})
        for name, part in alone(condition).items():
            torch.testing.assert_close(parts[name][:, group == number], part.expand(2, 6, 4)[:, group == number])
    with pytest.raises(InputError, match="group"):
        layer(condition)


def test_it_starts_at_zero_and_can_be_told_not_to():
    assert all(not part.any() for part in AdaLN(5, 4)(torch.randn(3, 5)).values())
    assert all(part.any() for part in AdaLN(5, 4, is_zero=False)(torch.randn(3, 5)).values())


@pytest.mark.parametrize("parts", [(), ("shift_mlp", "shift_mlp")])
def test_parts_that_are_refused(parts):
    with pytest.raises(ConfigError, match="each once"):
        AdaLN(5, 4, parts)


def test_modulate():
    x, shift, scale = torch.randn(3, 2, 5, 4).unbind()
    torch.testing.assert_close(modulate(x, shift, scale), x + x * scale + shift)
    assert modulate(x, None, None) is x


@pytest.mark.parametrize("affine", [True, False])
def test_adagn_of_a_map_takes_the_nearest_cells(affine):
    layer = filled(AdaGN(8, nn.Conv2d(3, 16, 1), num_groups=2, affine=affine))
    x, condition = torch.randn(2, 8, 6, 6), torch.randn(2, 3, 3, 3)
    grouped = x.view(2, 2, -1)
    normed = (grouped - grouped.mean(2, True)) / (grouped.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
    normed = normed.view_as(x)
    if affine:
        normed = normed * layer.norm.weight[:, None, None] + layer.norm.bias[:, None, None]
    values = layer.projection(condition).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(layer(x, condition), normed * (1 + values[:, :8]) + values[:, 8:])


@pytest.mark.parametrize("rank", [3, 4, 5])
def test_adagn_of_a_vector(rank):
    layer = filled(AdaGN(8, nn.Sequential(nn.SiLU(), nn.Linear(3, 16)), num_groups=4))
    x, condition = torch.randn(2, 8, *[3] * (rank - 2)), torch.randn(2, 3)
    values = layer.projection(condition).view(2, 16, *[1] * (rank - 2))
    expected = F.group_norm(x, 4) * (1 + values[:, :8]) + values[:, 8:]
    torch.testing.assert_close(layer(x, condition), expected)


def test_groups_must_divide_the_channels():
    with pytest.raises(ConfigError, match=r"32 groups .* 8 channels"):
        AdaGN(8, nn.Identity())
