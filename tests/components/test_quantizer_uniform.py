"""The uniform grid and the quantizer made of it: levels, ends, ties, clipping, bounds."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.components.quantizers import build
from zoo.components.quantizers.uniform import UniformGrid

few = settings(max_examples=100, deadline=None)
bounds = st.tuples(st.floats(-100, 100), st.floats(1e-3, 100)).map(lambda pair: (pair[0], pair[0] + pair[1]))
values = st.lists(st.floats(-300, 300), min_size=1, max_size=30)


def make(low=-1.0, high=1.0, size=256, shape=()):
    grid = UniformGrid(shape, size)
    grid.set_bounds(*(torch.as_tensor(bound, dtype=torch.float64) for bound in (low, high)))
    return grid


def doubles(x):
    return torch.tensor(x, dtype=torch.float64)


@few
@given(bounds, values, st.integers(2, 5000))
def test_the_nearest_level_is_chosen(bound, x, size):
    grid, x = make(*bound, size), doubles(x)
    ids = grid.ids(x)
    assert ids.dtype == torch.int64
    assert 0 <= ids.min() <= ids.max() < size
    error = (grid.values(ids, torch.float64) - x.clamp(*bound)).abs()
    assert (error <= grid.step / 2 * (1 + 1e-9) + 1e-12).all()
    assert torch.equal(ids[x.argsort()], ids[x.argsort()].sort().values)
    assert torch.equal(grid.is_clipped(x), (x < bound[0]) | (x > bound[1]))


@few
@given(bounds, st.integers(2, 5000))
def test_levels_include_both_ends_and_are_fixed_points(bound, size):
    grid = make(*bound, size)
    ids = torch.arange(size)
    levels = grid.values(ids, torch.float64)
    assert torch.equal(grid.ids(levels), ids)
    torch.testing.assert_close(levels[[0, -1]], doubles(bound))
    assert grid.ids(doubles([-1e9, 1e9])).tolist() == [0, size - 1]
    assert float(grid.step) == pytest.approx((bound[1] - bound[0]) / (size - 1))


def test_ties_go_to_the_even_id():
    grid = make(0.0, 7.0, 8)
    assert grid.ids(doubles([0.5, 1.5, 2.5, 3.5, 6.5])).tolist() == [0, 2, 2, 4, 6]


@settings(max_examples=300, deadline=None)
@given(st.floats(1e-9, 1e9), st.sampled_from([2, 4, 16, 64, 256, 1024, 4096]))
def test_zero_between_symmetric_bounds_is_a_tie_exactly(bound, size):
    grid = make(-bound, bound, size)
    assert grid.levels(doubles([0.0])).item() == (size - 1) / 2
    expected = size // 2 if size // 2 % 2 == 0 else size // 2 - 1
    assert grid.ids(doubles([0.0])).item() == expected
    assert size != 256 or expected == 128


def test_zero_is_a_level_of_an_odd_number():
    grid = make(-0.3, 0.3, 255)
    assert grid.ids(doubles([0.0])).item() == 127
    assert grid.values(torch.tensor(127)).item() == pytest.approx(0, abs=1e-9)


def test_every_slot_has_its_own_bounds():
    grid = make(doubles([[-1.0], [-2.0]]), doubles([1.0, 2.0, 4.0]), 3, (2, 3))
    assert grid.low.tolist() == [[-1, -1, -1], [-2, -2, -2]]
    assert grid.high.tolist() == [[1, 2, 4], [1, 2, 4]]
    x = torch.full((5, 2, 3), 0.6)
    assert grid.ids(x)[0].tolist() == [[2, 1, 1], [2, 1, 1]]
    torch.testing.assert_close(grid.values(grid.ids(x))[4], torch.tensor([[1, 0.5, 1.5], [1, 0, 1]]))
    assert grid.values(grid.ids(x)).dtype == torch.float32


def test_straight_through_gradient():
    grid = make()
    x = torch.tensor([0.1, -0.7, 3.0], requires_grad=True)
    codes, ids = grid(x)
    torch.testing.assert_close(codes, grid.values(ids))
    codes.sum().backward()
    assert x.grad.tolist() == [1, 1, 1]
    assert not grid(x.detach())[0].requires_grad
    assert codes.dtype == torch.float32


def test_state():
    fresh = UniformGrid((2,), 16)
    assert not fresh.is_set
    assert fresh.low.isnan().all()
    grid = make(doubles([-1.0, -2.0]), doubles([1.0, 3.0]), 16, (2,))
    assert grid.is_set
    assert set(grid.state_dict()) == {"low", "high"}
    x = torch.linspace(-3, 4, 201).double()[:, None].expand(-1, 2)
    fresh.load_state_dict(grid.state_dict())
    assert fresh.is_set
    for other in (fresh, copy.deepcopy(grid).half(), pickle.loads(pickle.dumps(grid))):
        assert torch.equal(other.ids(x), grid.ids(x))
        assert other.low.dtype == torch.float64
    assert not UniformGrid((2,), 16).to("meta").is_set


def test_an_id_depends_on_its_value_alone():
    grid = make(-0.7, 1.3, 256)
    x = torch.randn(4000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    near = (torch.arange(255).double() + 0.5) * grid.step + grid.low  # as close to ties as float64 gets
    x = torch.cat([x, near, torch.nextafter(near, doubles(9.0)), torch.nextafter(near, doubles(-9.0))])
    whole = grid.ids(x)
    assert torch.equal(torch.stack([grid.ids(one) for one in x]), whole)
    assert torch.equal(torch.cat([grid.ids(part) for part in torch.split(x, 7)]), whole)
    assert torch.equal(grid.ids(x.flip(0)).flip(0), whole)
    assert torch.equal(grid.ids(torch.stack([x, x], 1)[:, 1]), whole)
    # Ids of neighbouring float64 values around a tie never go down.
    below, at, above = whole[-255:], whole[4000:4255], whole[4255:4510]
    assert ((below <= at) & (at <= above) & (above - below <= 1)).all()


# The quantizer


def quantizer(**options):
    return build({"kind": "uniform", **options})


wide = st.tuples(st.floats(-10, 10), st.floats(0.5, 100)).map(lambda pair: (pair[0], pair[0] + pair[1]))
dimensions = st.lists(st.tuples(wide, st.integers(2, 3000)), min_size=2, max_size=6)


@settings(max_examples=40, deadline=None)
@given(dimensions, st.integers(0, 2**31))
def test_every_dimension_of_the_quantizer_is_a_grid(settings_of_each, seed):
    low, high, levels = zip(*((*bound, size) for bound, size in settings_of_each), strict=True)
    width = max(abs(bound) for bound in low + high)
    mine = quantizer(dim=len(levels), levels=levels, low=low, high=high)
    x = 2 * width * torch.randn(50, len(levels), generator=torch.Generator().manual_seed(seed))
    codes, ids, losses, *_ = mine(x)
    assert not losses
    for column, (bound, size) in enumerate(settings_of_each):
        grid = make(*bound, size)
        assert torch.equal(ids[:, column], grid.ids(x[:, column]))
        assert torch.equal(codes[:, column], grid.values(ids[:, column]))
        every = torch.zeros(size, len(levels), dtype=torch.int64)
        every[:, column] = torch.arange(size)
        assert torch.equal(mine.ids(mine.codes(every)), every), "every id is reached from its code"


@pytest.mark.parametrize("levels", [2, 255, 256, 4096])
def test_one_number_of_levels_for_all_gives_the_ids_of_one_a_dimension(levels):
    x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
    # A fourth dimension of other levels keeps the second from being taken for the first.
    one, several = quantizer(dim=3, levels=levels), quantizer(dim=4, levels=(levels,) * 3 + (levels + 1,))
    assert one.grid.last_ids is None
    assert several.grid.last_ids is not None
    assert torch.equal(several.ids(torch.cat([x, x[:, :1]], 1))[:, :3], one.ids(x))
    assert one.codebook_size == levels
    assert several.codebook_size == levels + 1


def test_a_single_dimension_is_a_single_codebook():
    mine = quantizer(dim=1, levels=5, low=0, high=4)
    assert mine.num_codebooks == 1
    x = torch.tensor([[-3.0], [1.4], [2.5], [9.0], [torch.nan], [torch.inf], [-torch.inf]])
    assert mine.ids(x).tolist() == [0, 1, 2, 4, 0, 4, 0]
    assert mine.codes(torch.tensor([[3, 0]])).tolist() == [[[3.0], [0.0]]]


def test_bounds_of_the_quantizer_are_settings_not_state():
    mine = quantizer(dim=2, levels=(3, 9), low=-2.0)
    assert not mine.state_dict()
    assert not list(mine.parameters())
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    for other in (copy.deepcopy(mine).half(), pickle.loads(pickle.dumps(mine))):
        assert torch.equal(other.ids(x), mine.ids(x))


def test_gradients_pass_beyond_the_bounds():
    x = torch.tensor([[0.3, -5.0], [4.0, 0.0]], requires_grad=True)
    quantizer(dim=2, levels=8)(x).codes.sum().backward()
    assert x.grad.tolist() == [[1, 1], [1, 1]]
