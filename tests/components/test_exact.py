"""Sums that do not depend on their order, and modules whose tensors keep their dtype."""

import copy
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from zoo.components.exact import precision as exact
from zoo.components.exact.precision import ExactTimeMap, KeepsPrecision
from zoo.errors import InputError


def make(outputs=10, steps=50, channels=7, seed=0, gain=1.0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, steps, dtype=torch.float64, generator=generator) * gain
    return ExactTimeMap(weight, channels), weight


def inputs(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 40), st.integers(1, 3), st.integers(0, 99), st.floats(1e-3, 1e3))
def test_sums_are_exact(outputs, steps, channels, seed, size):
    linear, _ = make(outputs, steps, channels, seed)
    centre, scale = inputs(channels, seed=seed), inputs(channels, seed=seed).abs() + 0.1
    linear.set_scale(torch.full((channels,), size), centre, scale)
    x = inputs(2, steps, channels, seed=seed + 1).clamp(-1, 1) * size
    integers = (x.double() * linear.input_scale.double()).round()
    y = linear(x)
    for b, n, d in [(0, 0, 0), (1, outputs - 1, channels - 1)]:
        pairs = zip(linear.weight[n].tolist(), integers[b, :, d].tolist(), strict=True)
        total = sum(Fraction(w) * Fraction(v) for w, v in pairs)
        # Then two operations, each rounded once.
        assert y[b, n, d].item() == float(total) * linear.gain[n, d].item() + linear.bias[n, d].item()


def test_is_the_weighted_sum_of_centred_inputs():
    linear, weight = make()
    centre, scale = torch.linspace(-3, 3, 7), torch.linspace(0.5, 2, 7)
    linear.set_scale(torch.full((7,), 10.0), centre, scale)
    x = inputs(32, 50, 7) + centre
    expected = weight @ ((x - centre).double() / scale)
    # 2^-23 of 16, and 2^-17 of a weight, over 50 summands of random sign
    assert (linear(x) - expected).abs().max() < 1e-3
    torch.testing.assert_close(linear.exact_weight, weight, rtol=0, atol=2.0**-17)


def test_any_order_of_summation_gives_the_same_bits():
    linear, weight = make(channels=3)
    x = inputs(64, 50, 3) * 10 ** torch.linspace(-4, 1, 50)[:, None]  # float32 sums of these depend on their order
    order = torch.randperm(50, generator=torch.Generator().manual_seed(2))
    shuffled = ExactTimeMap(weight[:, order], 3)
    plain = [(w.float() @ v).numpy().tobytes() for w, v in ((weight, x), (weight[:, order], x[:, order]))]
    assert plain[0] != plain[1]
    assert torch.equal(linear(x), shuffled(x[:, order]))


@pytest.mark.parametrize("size", [1, 2, 7, 32, 999])
def test_batches_blocks_and_layouts_give_the_same_bits(size, monkeypatch):
    linear, _ = make()
    x = inputs(1000, 50, 7)
    whole = linear(x)
    assert x.numel() > exact._BLOCK
    assert torch.equal(torch.cat([linear(part) for part in torch.split(x, size)]), whole)
    assert torch.equal(linear(x.flip(0)).flip(0), whole)
    assert torch.equal(linear(x.transpose(1, 2).contiguous().transpose(1, 2)), whole)
    monkeypatch.setattr(exact, "_BLOCK", 10**9)
    assert torch.equal(linear(x), whole)


def test_threads_give_the_same_bits():
    linear, _ = make(30, 200, 14)
    x = inputs(600, 200, 14)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            results.append(linear(x))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_inputs_up_to_the_limit_are_exact_and_more_is_refused():
    linear, _ = make(2, 5, 2, gain=100.0)
    linear.set_scale(torch.tensor([1.0, 3.0]), torch.zeros(2), torch.ones(2))
    assert linear.input_scale[0].tolist() == [2.0**23, 2.0**21]  # 3 counts as 4
    x = torch.zeros(1, 5, 2)
    x[0, :, 0], x[0, :, 1] = ExactTimeMap.LIMIT, -4 * ExactTimeMap.LIMIT
    largest = linear.weight.abs().sum(1).max() * ExactTimeMap.LIMIT * 2.0**23
    assert largest < 2**53
    linear(x)
    x[0, 3, 1] *= 1.01
    with pytest.raises(InputError, match=r"DoF 1 reaches 258\.6, some 64\.6 times"):
        linear(x)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_refuses_what_is_not_finite(value):
    linear, _ = make()
    x = inputs(3, 50, 7)
    x[2, 41, 5] = value
    with pytest.raises(InputError, match=f"item 2, step 41, DoF 5 is {value}"):
        linear(x)


def test_powers_of_two_are_their_own_scale():
    linear, _ = make(2, 3, 1)
    for exponent in range(-40, 40):
        for factor, power in ((1.0, exponent), (1.0000001, exponent + 1), (0.9999999, exponent)):
            linear.set_scale(torch.tensor([factor * 2.0**exponent]).double(), torch.zeros(1), torch.ones(1))
            assert linear.input_scale[0, 0].item() == 2.0 ** (23 - power)
    linear.set_scale(torch.zeros(1), torch.zeros(1), torch.ones(1))
    assert linear.input_scale.isfinite().all()


# ---------------------------------------------------------------------------------------------------- KeepsPrecision


class Parent(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.map, _ = make()


@pytest.mark.parametrize(
    "convert", [nn.Module.half, nn.Module.double, nn.Module.bfloat16, lambda m: m.to("cpu", torch.float16)]
)
def test_keeps_its_dtypes_inside_a_converted_parent(convert):
    parent = Parent()
    before = copy.deepcopy(parent.map.state_dict()) | dict(parent.map.named_buffers())
    converted = convert(parent)
    assert converted.layer.weight.dtype != torch.float32
    after = dict(converted.map.named_buffers())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items())


def test_moves_where_its_parent_moves():
    parent = Parent().to("meta")
    assert all(tensor.is_meta for tensor in parent.map.buffers())
    assert parent.map.weight.dtype == torch.float64
    assert not parent.to_empty(device="cpu").map.weight.is_meta
    shared = Parent().share_memory()
    assert all(tensor.is_shared() for tensor in shared.map.buffers())
    assert isinstance(shared.map, KeepsPrecision)


def test_a_gradient_is_no_obstacle():
    linear, _ = make()
    with torch.no_grad():
        assert not linear(inputs(2, 50, 7).requires_grad_()).requires_grad
    assert "50 → 10, 7 channels" in repr(linear)
