"""Transformer blocks against torch's own layers and their formulas."""

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.components.layers.block import BlockConfig
from zoo.components.layers.modulation import PARTS
from zoo.config import from_dict, to_dict
from zoo.errors import ConfigError, InputError


def filled(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def fill_theirs(theirs, attention, ours):
    theirs.in_proj_weight.copy_(torch.cat([getattr(ours, name).weight for name in "qkv"]))
    theirs.in_proj_bias.copy_(torch.cat([getattr(ours, name).bias for name in "qkv"]))
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    assert attention.num_heads == ours.num_heads


@torch.no_grad()
def test_a_block_is_torchs_encoder_layer():
    block = filled(BlockConfig(12, 3, 20, norm_eps=0.1).block())
    theirs = nn.TransformerEncoderLayer(
        12, 3, 20, dropout=0.0, activation="gelu", layer_norm_eps=0.1, batch_first=True, norm_first=True
    )
    fill_theirs(theirs.self_attn, theirs.self_attn, block.attention)
    for their, our in (
        (theirs.norm1, block.attention_norm),
        (theirs.norm2, block.mlp_norm),
        (theirs.linear1, block.mlp.up),
        (theirs.linear2, block.mlp.down),
    ):
        their.load_state_dict(our.state_dict())
    x, mask = torch.randn(2, 5, 12), torch.rand(5, 5) > 0.5
    mask |= torch.eye(5, dtype=torch.bool)
    torch.testing.assert_close(block(x), theirs(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(block(x, mask), theirs(x, ~mask), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(block(x, mask), block(x))


@torch.no_grad()
def test_a_cross_block_is_torchs_decoder_layer():
    block = filled(BlockConfig(12, 3, 20).cross_block())
    theirs = nn.TransformerDecoderLayer(12, 3, 20, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
    fill_theirs(theirs.self_attn, theirs.self_attn, block.attention)
    fill_theirs(theirs.multihead_attn, theirs.multihead_attn, block.memory)
    for their, our in (
        (theirs.norm1, block.attention_norm),
        (theirs.norm2, block.memory_norm),
        (theirs.norm3, block.mlp_norm),
        (theirs.linear1, block.mlp.up),
        (theirs.linear2, block.mlp.down),
    ):
        their.load_state_dict(our.state_dict())
    x, memory = torch.randn(2, 5, 12), torch.randn(2, 7, 12)
    causal, seen = torch.ones(5, 5, dtype=torch.bool).tril(), torch.arange(7) < torch.tensor([[7], [3]])
    keys, values = block.keys_values(x)
    got = block.attend(x, keys, values, block.memory.keys_values(memory), causal, seen[:, None, None])
    expected = theirs(x, memory, tgt_mask=~causal, memory_key_padding_mask=~seen)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_every_choice_by_the_formula():
    # FlexTok's decoder block, with its order of shifts, scales and gates, and parts of their own for two groups.
    names = ("gate_attention", "gate_mlp", "shift_attention", "scale_attention", "shift_mlp", "scale_mlp")
    config = BlockConfig(
        width=12,
        num_heads=3,
        mlp_size=20,
        norm_affine=False,
        activation="silu",
        is_gated=True,
        qkv_bias=False,
        out_bias=False,
        mlp_bias=False,
        qk_norm="layer",
        attention_scale=2.0,
        condition_size=6,
        modulated=names,
    )
    block = filled(config.block(num_groups=2)).double()
    assert {name for name, _ in block.named_parameters() if "bias" in name} == {"modulation.linear.bias"}
    x, condition, group = torch.randn(2, 5, 12).double(), torch.randn(2, 6).double(), torch.tensor([0, 0, 1, 1, 1])
    values = F.linear(F.silu(condition), block.modulation.linear.weight, block.modulation.linear.bias)
    gate_a, gate_m, shift_a, scale_a, shift_m, scale_m = values.view(2, 2, 6, 12)[:, group].unbind(2)  # (B, T, D) each

    rows = F.layer_norm(x, (12,)) * (1 + scale_a) + shift_a
    q, k, v = (
        linear(rows).view(2, 5, 3, 4).transpose(1, 2)
        for linear in (block.attention.q, block.attention.k, block.attention.v)
    )
    weights = (2.0 * F.layer_norm(q, (4,)) @ F.layer_norm(k, (4,)).transpose(2, 3)).softmax(-1)
    expected = x + gate_a * block.attention.out((weights @ v).transpose(1, 2).reshape(2, 5, 12))
    rows = F.layer_norm(expected, (12,)) * (1 + scale_m) + shift_m
    expected = expected + gate_m * block.mlp.down(F.silu(block.mlp.gate(rows)) * block.mlp.up(rows))
    torch.testing.assert_close(block(x, condition=condition, group=group), expected)


def test_a_modulated_block_starts_as_the_identity():
    block, x = BlockConfig(12, 3, 20, condition_size=6).block(), torch.randn(2, 5, 12)
    assert torch.equal(block(x, condition=torch.randn(2, 6)), x)


def test_parts_that_are_not_made_change_nothing():
    config = BlockConfig(12, 3, 20, condition_size=6, modulated=("shift_attention", "scale_attention"))
    block, plain, x = config.block(), BlockConfig(12, 3, 20).block(), torch.randn(2, 5, 12)
    plain.load_state_dict(
        {name: value for name, value in block.state_dict().items() if not name.startswith("modulation")}
    )
    # Zero at the start; and one condition a token is as good as one an item.
    assert torch.equal(block(x, condition=torch.randn(2, 5, 6)), plain(x))
    filled(block.modulation)
    assert not torch.allclose(block(x, condition=torch.randn(2, 5, 6)), plain(x))


def test_rows_in_ranges_are_rows_at_once():
    block, x = filled(BlockConfig(12, 3, 20, condition_size=6).block()), torch.randn(2, 7, 12)
    parts = block.modulate(torch.randn(2, 6))
    pieces = [block.keys_values(piece, parts) for piece in x.split([3, 4], 1)]
    keys, values = (torch.cat(each, 2) for each in zip(*pieces, strict=True))
    cut = torch.cat([block.attend(piece, keys, values, parts=parts) for piece in x.split([5, 2], 1)], 1)
    torch.testing.assert_close(cut, block.attend(x, *block.keys_values(x, parts), parts=parts), rtol=1e-4, atol=1e-5)


def test_dropout_is_of_both_branches_and_for_training():
    block, x = BlockConfig(32, 2, 64, dropout=0.5).block(), torch.randn(1, 64, 32)
    block.attention.dropout = 0.0
    with torch.no_grad():
        block.mlp.down.weight.zero_()
        block.mlp.down.bias.fill_(1.0)
        block.attention.out.weight.zero_()
        block.attention.out.bias.fill_(10.0)
        # Kept values count double: 0 or 20 of one branch, 0 or 2 of the other.
        added = (block(x) - x).round().unique().tolist()
        assert added == [0, 2, 20, 22]
        assert (block.eval()(x) - x).round().unique().tolist() == [11]


def test_conditions_that_are_missing_or_too_many():
    with pytest.raises(InputError, match="pass one"):
        BlockConfig(12, 3, 20, condition_size=6).block()(torch.randn(2, 5, 12))
    with pytest.raises(InputError, match="condition_size"):
        BlockConfig(12, 3, 20).block()(torch.randn(2, 5, 12), condition=torch.randn(2, 6))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_heads": 5}, "5 heads"),
        ({"width": 0}, "width must be at least 1"),
        ({"mlp_size": 0}, "mlp_size must be at least 1"),
        ({"dropout": 1.0}, "below 1"),
        ({"norm": "batch"}, "'layer', 'rms'"),
        ({"norm_eps": 0.0}, "positive"),
        ({"condition_size": 0}, "condition_size"),
        ({"modulated": ("shift_atention",)}, "did you mean 'shift_attention'"),
    ],
)
def test_configs_that_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        BlockConfig(**{"width": 12, "num_heads": 3, "mlp_size": 20} | changes)


def test_a_config_survives_json():
    config = BlockConfig(12, 3, 20, norm="rms", qk_norm="rms", condition_size=4, modulated=PARTS[:2])
    assert from_dict(BlockConfig, json.loads(json.dumps(to_dict(config)))) == config
