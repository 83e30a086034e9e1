"""Blocks that see a window: the same numbers in bands as with the bias of the whole grid, and less memory."""

import pytest
import torch
from torch import nn

from zoo.components.layers.attention import Attention
from zoo.components.layers.block import Block
from zoo.components.layers.mlp import GatedMLP
from zoo.components.layers.modulation import AdaLN
from zoo.components.layers.positions import RelativePositionBias2d
from zoo.components.layers.windowed import WindowedBlock


def make(window=3, width=8, heads=2):
    torch.manual_seed(0)
    modulation = AdaLN(4, width, ("shift_attention", "scale_attention"), is_zero=False)
    block = Block(
        nn.LayerNorm(width), Attention(width, heads), nn.LayerNorm(width), GatedMLP(width, 12), modulation=modulation
    )
    made = WindowedBlock(block, RelativePositionBias2d(heads, window)).eval()
    nn.init.normal_(made.bias.table)
    return made


@pytest.mark.parametrize("grid", [(1, 1), (2, 5), (6, 4), (7, 3), (16, 5), (17, 2)])
@pytest.mark.parametrize("one_for_all", [False, True])
def test_bands_are_the_whole_grid(grid, one_for_all):
    layer, count = make(), grid[0] * grid[1]
    x = torch.randn(2, count, 8, requires_grad=True)
    condition = torch.randn(2, 4) if one_for_all else torch.randn(2, count, 4)
    parts = layer.block.modulate(condition)
    dense = layer.block(x, layer.bias(grid), condition=condition)
    found = layer(x, grid, parts)
    assert torch.allclose(found, dense, atol=1e-5)
    weights = torch.randn_like(dense)
    of = [x, layer.bias.table, layer.block.attention.k.weight]
    expected = torch.autograd.grad((dense * weights).sum(), of, retain_graph=True)
    for one, other in zip(torch.autograd.grad((found * weights).sum(), of), expected, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_no_bias_is_of_all_pairs(monkeypatch):
    layer, sizes = make(window=8, width=4, heads=1), []
    between = layer.bias.between
    monkeypatch.setattr(layer.bias, "between", lambda *a: sizes.append(between(*a).shape) or between(*a))
    with torch.no_grad():
        layer(torch.randn(1, 64 * 64, 4), (64, 64))
    assert len(sizes) == 8
    assert max(q * k for _, q, k in sizes) == 8 * 64 * 22 * 64


def test_the_table_counts_at_once():
    layer = make()
    x, grid = torch.randn(1, 12, 8), (3, 4)
    before = layer(x, grid)
    with torch.no_grad():
        layer.bias.table[2, 3] += 1.0
    assert not torch.allclose(before, layer(x, grid))


def test_it_computes_in_half_precision():
    layer, x = make().bfloat16(), torch.randn(1, 12, 8)
    assert layer(x.bfloat16(), (3, 4)).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert make()(x, (3, 4)).isfinite().all()
