"""Windows that a long sequence is made in."""

import itertools

import pytest
import torch

from zoo.components.windows import Windows
from zoo.errors import ConfigError


@pytest.mark.parametrize("length", [1, 7, 20, 21, 26, 27, 100, 113])
def test_windows_cover_a_sequence_once_but_for_their_overlaps(length):
    windows = Windows(20, 6, 2)
    spans = windows.spans(length)
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    for (start, stop), (later, _) in itertools.pairwise(spans):
        assert stop - start == 20
        assert stop - later == 6
    assert all(stop - start > 6 for start, stop in spans[1:]), "a window gives something of its own"


@pytest.mark.parametrize("length", [1, 19, 20, 21, 64, 101])
def test_windows_that_agree_are_put_together_unchanged(length):
    whole = torch.randn(3, 2, length, generator=torch.Generator().manual_seed(0))
    made = Windows(20, 6, 2).blended(length, lambda start, stop: whole[..., start:stop])
    torch.testing.assert_close(made, whole)


def test_one_window_is_given_as_it_is():
    whole = torch.randn(20)
    calls = []
    made = Windows(20, 6, 2).blended(20, lambda start, stop: calls.append((start, stop)) or whole)
    assert made is whole
    assert calls == [(0, 20)]


def test_one_window_fades_into_the_next_between_the_margins():
    numbers = iter(range(9))
    made = Windows(20, 8, 2).blended(32, lambda start, stop: torch.full((stop - start,), float(next(numbers))))
    assert made.tolist()[:14] == [0.0] * 14, "all but its own end is the first window's"
    assert made[14:18].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert made[18:24].tolist() == [1.0] * 6
    assert (made.diff().abs() <= 0.2 + 1e-6).all()


def test_work_grows_with_the_length():
    windows = Windows(100, 20, 5)
    lengths = [sum(stop - start for start, stop in windows.spans(length)) for length in (1000, 10_000, 100_000)]
    assert lengths[1] < 10.5 * lengths[0]
    assert lengths[2] < 10.5 * lengths[1]


@pytest.mark.parametrize("sizes", [(10, 6, 1), (10, 4, 2), (10, 0, 0), (10, 4, -1)])
def test_unusable_windows(sizes):
    with pytest.raises(ConfigError, match="twice"):
        Windows(*sizes)
