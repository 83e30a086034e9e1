"""Statistics that can be gathered in parts, and the normalisation made from them."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.components.layers.normalization import RangeNormalizer
from zoo.components.statistics import RunningRange


def rows(count, width=3, seed=0):
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any), st.floats(0, 1), st.randoms())
def test_parts_in_any_order_equal_the_whole(sizes, q, random):
    data = rows(sum(sizes))
    parts = list(torch.split(data, sizes))
    random.shuffle(parts)
    whole = RunningRange().update(data)
    in_parts = RunningRange()
    merged = RunningRange()
    for part in parts:
        in_parts.update(part)
        merged.merge(RunningRange().update(part))
    for other in (in_parts, merged):
        assert other.count == len(data)
        assert torch.equal(other.low, data.amin(0))
        assert torch.equal(other.high, data.amax(0))
        assert torch.equal(other.quantile(q), whole.quantile(q))
    np.testing.assert_allclose(whole.quantile(q).numpy(), np.quantile(data.numpy(), q, axis=0), atol=1e-12)


def test_keeps_the_shape_of_vectors():
    data = rows(60, 6).view(60, 2, 3)
    seen = RunningRange().update(data[:20]).update(data[20:])
    assert seen.low.shape == seen.quantile(0.3).shape == (2, 3)
    assert seen.quantile(0.0).equal(seen.low)
    assert seen.quantile(1.0).equal(seen.high)
    assert seen.low.dtype == torch.float64
    assert RunningRange().update(data[:1]).quantile(0.7).equal(data[0])


@pytest.mark.parametrize("size", [1, 50, 333])
def test_beyond_capacity_a_uniform_sample_stays(size):
    data = torch.arange(20000, dtype=torch.float64)[:, None]
    seen = RunningRange(capacity=1000)
    for part in torch.split(data, size * 20):
        seen.update(part)
    assert seen.count == 20000
    assert [float(seen.low), float(seen.high)] == [0, 19999]  # these two stay exact
    for q in (0.1, 0.5, 0.9):
        assert abs(float(seen.quantile(q)) / 20000 - q) < 0.05
    assert sum(len(part) for _, part in seen._parts) <= 1000  # quantile cut it


def test_memory_stays_bounded():
    seen = RunningRange(capacity=10)
    for number in range(500):
        seen.update(rows(3, seed=number))
        assert sum(len(part) for _, part in seen._parts) <= 23


def test_merged_shards_are_sampled_independently():
    parts = [torch.arange(4000, dtype=torch.float64)[:, None] + 4000 * shard for shard in range(4)]
    merged = RunningRange(capacity=400)
    for part in parts:
        merged.merge(RunningRange(capacity=400).update(part))
    places = [part.flatten() for _, part in merged._parts]
    merged.quantile(0.5)
    kept = merged._parts[0][1].flatten()
    assert len(kept) == 400
    counts = torch.histc(kept, 4, 0, 16000)
    assert counts.min() > 60  # of 100 expected in each shard
    # Were the keys of all shards the same, the same places would stay in each of them.
    assert len((kept % 4000).unique()) > 350
    assert places


def test_the_same_data_gives_the_same_sample():
    first, second = (RunningRange(capacity=50).update(rows(500)) for _ in range(2))
    assert torch.equal(first.quantile(0.37), second.quantile(0.37))
    assert not torch.equal(RunningRange(capacity=50, seed=1).update(rows(500)).quantile(0.37), first.quantile(0.37))


def test_holds_copies():
    data = rows(10)
    expected = RunningRange().update(data.clone())
    seen = RunningRange().update(data)
    data += 100
    assert torch.equal(seen.high, expected.high)
    assert torch.equal(seen.quantile(0.5), expected.quantile(0.5))
    assert torch.equal(seen.update(rows(0)).quantile(0.5), expected.quantile(0.5))


def test_survives_pickling_and_goes_on_the_same():
    seen = RunningRange(capacity=20).update(rows(100))
    others = [copy.deepcopy(seen), pickle.loads(pickle.dumps(seen))]
    for each in (seen, *others):
        each.update(rows(100, seed=1))
    assert all(torch.equal(other.quantile(0.4), seen.quantile(0.4)) for other in others)


def test_nothing_seen():
    empty = RunningRange()
    for question in (lambda: empty.low, lambda: empty.high, lambda: empty.quantile(0.5)):
        with pytest.raises(ValueError, match="no data"):
            question()
    seen = RunningRange().update(rows(5))
    assert seen.merge(empty).count == 5
    assert empty.merge(seen).count == 5


# --------------------------------------------------------------------------------------------------- RangeNormalizer


def test_range_maps_to_one_and_back():
    normalizer = RangeNormalizer(3)
    assert normalizer.centre.isnan().all()
    low, high = torch.tensor([-1.0, 5.0, 1e-4]), torch.tensor([3.0, 5.5, 3e-4])
    normalizer.set_range(low, high)
    torch.testing.assert_close(normalizer(torch.stack([low, high])), torch.tensor([[-1.0] * 3, [1.0] * 3]).double())
    x = rows(50).float() * 10
    assert normalizer(x).abs().max() > 1  # nothing is clipped
    back = normalizer.restore(normalizer(x))
    torch.testing.assert_close(back, x.double())
    assert normalizer.restore(x).dtype == torch.float32
    assert torch.equal(torch.cat([normalizer(one[None]) for one in x]), normalizer(x))


def test_constant_channels_keep_their_scale():
    normalizer = RangeNormalizer(3)
    normalizer.set_range(torch.tensor([2.0, 0.0, -7.0]), torch.tensor([2.0, 5e-9, -7.0 + 1e-5], dtype=torch.float64))
    assert normalizer.half_range.tolist() == [1.0, 1.0, pytest.approx(5e-6)]
    assert normalizer(torch.tensor([[2.0, 0.0, -7.0]]).double()).isfinite().all()
