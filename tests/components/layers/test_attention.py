"""Attention against torch.nn.MultiheadAttention and the formula."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.components.layers.attention import Attention, scaled_dot_product
from zoo.errors import ConfigError


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def theirs(attention, width):
    """torch's own attention with the same weights."""
    other = nn.MultiheadAttention(width, attention.num_heads, batch_first=True)
    linears = (attention.q, attention.k, attention.v)
    with torch.no_grad():
        other.in_proj_weight.copy_(torch.cat([linear.weight for linear in linears]))
        biases = [torch.zeros(width) if linear.bias is None else linear.bias for linear in linears]
        other.in_proj_bias.copy_(torch.cat(biases))
    other.out_proj.load_state_dict(attention.out.state_dict())
    return other


@pytest.mark.parametrize("key_bias", [None, False])
def test_self_and_cross_attention_are_those_of_torch(key_bias):
    attention = Attention(24, 3, key_bias=key_bias)
    other = theirs(attention, 24)
    x, memory = rows(2, 5, 24), rows(2, 7, 24, seed=1)
    mask = rows(2, 7, seed=2) > -0.5
    for source, padding in ((x, None), (memory, None), (memory, mask)):
        expected, _ = other(x, source, source, None if padding is None else ~padding)
        got = attention(x, *attention.keys_values(source), None if padding is None else padding[:, None, None])
        torch.testing.assert_close(got, expected)


def test_causal_is_a_lower_triangle():
    attention, x = Attention(8, 2), rows(1, 6, 8)
    keys, values = attention.keys_values(x)
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    torch.testing.assert_close(
        attention(x, keys, values, is_causal=True), attention(x, keys, values, mask), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(attention(x, keys, values, is_causal=True)[:, 0], attention.out(attention.v(x))[:, 0])


@pytest.mark.parametrize("qk_norm", ["layer", "rms"])
def test_every_option_by_the_formula(qk_norm):
    attention = Attention(10, 2, head_size=4, bias=False, out_bias=False, qk_norm=qk_norm, scale=0.3).double()
    assert set(attention.state_dict()) == {"q.weight", "k.weight", "v.weight", "out.weight"}
    x, bias = rows(3, 5, 10).double(), rows(2, 5, 5, seed=1).double()
    bias[:, 0, 3] = -math.inf
    expected = []
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        q, k, v = (x @ linear.weight[part].T for linear in (attention.q, attention.k, attention.v))
        if qk_norm == "layer":
            q, k = ((y - y.mean(-1, True)) / (y.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt() for y in (q, k))
        else:
            q, k = (y / (y.square().mean(-1, True) + 1e-5).sqrt() for y in (q, k))
        expected.append((0.3 * q @ k.transpose(1, 2) + bias[head]).softmax(-1) @ v)
    expected = torch.cat(expected, -1) @ attention.out.weight.T
    # RMSNorm rounds its statistic to float32.
    torch.testing.assert_close(attention(x, *attention.keys_values(x), bias), expected, rtol=1e-5, atol=1e-6)


def test_ranges_of_rows_give_the_same():
    attention, x = Attention(16, 4), rows(2, 9, 16)
    pieces = [attention.keys_values(piece) for piece in x.split([4, 5], 1)]
    keys, values = (torch.cat(each, 2) for each in zip(*pieces, strict=True))
    cut = torch.cat([attention(piece, keys, values) for piece in x.split([2, 7], 1)], 1)
    torch.testing.assert_close(cut, attention(x, *attention.keys_values(x)))


def test_dropout_is_for_training():
    attention, x = Attention(8, 2, dropout=0.5), rows(1, 6, 8)
    memory = attention.keys_values(x)
    assert not torch.equal(attention(x, *memory), attention(x, *memory))
    attention.eval()
    assert torch.equal(attention(x, *memory), attention(x, *memory))
    plain = Attention(8, 2)
    plain.load_state_dict(attention.state_dict())
    assert torch.equal(attention(x, *memory), plain(x, *memory))


def test_gradients_reach_every_tensor():
    attention, x = Attention(8, 2, qk_norm="layer"), rows(1, 6, 8).requires_grad_()
    attention(x, *attention.keys_values(x)).square().sum().backward()
    assert x.grad.abs().sum() > 0
    for name, parameter in attention.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match=r"3 heads .* 16"):
        Attention(16, 3)
    with pytest.raises(ConfigError, match="did you mean 'layer'"):
        Attention(16, 2, qk_norm="layers")


def test_attention_of_equal_keys_is_the_mean():
    attention, x = Attention(4, 1), rows(1, 3, 4)
    keys, values = attention.keys_values(x)
    expected = F.linear(values.mean(2), attention.out.weight, attention.out.bias).expand(1, 3, 4)
    torch.testing.assert_close(attention(x, torch.zeros_like(keys), values), expected)


@pytest.mark.parametrize("num_keys", [8, 600])
def test_autocast_of_few_keys_is_in_float32_on_the_cpu(num_keys):
    torch.manual_seed(0)
    queries, keys, values = (torch.randn(1, 2, count, 8, requires_grad=True) for count in (4, num_keys, num_keys))
    halves = [each.bfloat16() for each in (queries, keys, values)]
    bias = torch.randn(4, num_keys).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = scaled_dot_product(*halves, bias)
    wanted = F.scaled_dot_product_attention(*(each.float() for each in halves), bias.float())
    assert torch.equal(found, wanted) == (num_keys == 8)
    torch.testing.assert_close(found.float(), wanted, rtol=0.05, atol=0.02)
    found.float().sum().backward()
    assert all(each.grad.isfinite().all() for each in (queries, keys, values))


def test_what_is_not_trained_keeps_its_dtype():
    halves = [torch.randn(1, 2, 8, 8, dtype=torch.bfloat16) for _ in range(3)]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert scaled_dot_product(*halves).dtype == torch.bfloat16
    assert torch.equal(scaled_dot_product(*halves), F.scaled_dot_product_attention(*halves))
