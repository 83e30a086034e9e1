"""Correlation over few tokenizers: the exact p-values of STAB's specification (sections 7 and 10), and scipy."""

from __future__ import annotations

import doctest
import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from zoo.errors import InputError
from zoo.metrics.tokens import correlation
from zoo.metrics.tokens.correlation import correlate, holm, pearson, spearman

pairs = st.integers(3, 5).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 5), min_size=n, max_size=n)] * 2))
few = settings(max_examples=20, deadline=None)


class TestExact:
    @pytest.mark.parametrize(("n", "wanted"), [(4, 0.0833), (5, 0.0167), (6, 0.0028), (7, 0.0004)])
    def test_a_perfect_order(self, n, wanted):
        found = correlate(range(n), [x**3 for x in range(n)], num_resamples=20)
        assert (found.rho, found.num_tokenizers) == (pytest.approx(1), n)
        assert found.p_value == pytest.approx(2 / math.factorial(n))
        assert found.p_value == pytest.approx(wanted, abs=5e-5)
        assert (found.rho_least, found.rho_most) == (pytest.approx(1), pytest.approx(1))

    @pytest.mark.parametrize(("n", "rho", "p"), [(5, 0.9, 0.0833), (6, 0.942857, 0.0167)])
    def test_one_swap(self, n, rho, p):
        found = correlate(range(n), [1, 0, *range(2, n)], num_resamples=20)
        assert found.rho == pytest.approx(rho, abs=1e-6)
        assert found.p_value == pytest.approx(p, abs=5e-5)
        assert found.rho_least < found.rho < found.rho_most == pytest.approx(1)

    @given(pair=pairs)
    @few
    def test_scipy_agrees(self, pair):
        x, y = pair
        assume(len(set(x)) > 1 and len(set(y)) > 1)
        assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)
        assert pearson(x, y) == pytest.approx(scipy.stats.pearsonr(x, y).statistic, abs=1e-12)
        found = correlate(x, y, num_resamples=1)
        extreme = [abs(spearman(x, order)) >= abs(found.rho) - 1e-9 for order in itertools.permutations(y)]
        assert found.p_value == pytest.approx(sum(extreme) / len(extreme))

    @given(pair=pairs)
    @few
    def test_turning_a_metric_turns_the_sign_only(self, pair):
        x, y = pair
        there, back = correlate(x, y, num_resamples=20), correlate([-value for value in x], y, num_resamples=20)
        assert back.rho == pytest.approx(-there.rho, nan_ok=True)
        assert back.p_value == pytest.approx(there.p_value, nan_ok=True)
        assert back.low == pytest.approx(-there.high, nan_ok=True)

    def test_more_tokenizers_than_orders_can_be_listed_of(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=14)
        y = x + 1.2 * rng.normal(size=14)
        found = correlate(x, y, num_resamples=50)
        wanted = scipy.stats.spearmanr(x, y)
        assert found.rho == pytest.approx(wanted.statistic)
        assert found.p_value == pytest.approx(wanted.pvalue, rel=0.2, abs=2e-3)
        assert found == correlate(x, y, num_resamples=50)
        assert found.low < found.rho < found.high


class TestEdges:
    def test_a_constant_says_nothing(self):
        for x, y in (([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [0.1] * 3), ([0.1] * 7, [0.3] * 7)):
            found = correlate(x, y, num_resamples=10)
            assert all(math.isnan(value) for value in found[:-1])

    @pytest.mark.parametrize("n", [0, 1])
    def test_nothing_to_correlate(self, n):
        found = correlate([1.0] * n, [2.0] * n, num_resamples=3)
        assert all(math.isnan(value) for value in found[:-1])
        assert found.num_tokenizers == n

    def test_bad_arguments(self):
        for x, y in (([1, 2], [1]), ([1, math.nan], [1, 2]), ([[1]], [[2]])):
            for measure in (pearson, spearman, correlate):
                with pytest.raises(InputError, match="finite numbers on both sides"):
                    measure(x, y)
        with pytest.raises(InputError, match="num_resamples"):
            correlate([1, 2], [1, 2], num_resamples=0)


class TestHolm:
    def test_by_hand(self):
        found = holm([0.01, math.nan, 0.04, 0.03])
        assert [found[0], *found[2:]] == pytest.approx([0.03, 0.06, 0.06])
        assert math.isnan(found[1])
        assert holm([]) == []
        with pytest.raises(InputError, match=r"0\.\.1"):
            holm([1.5])

    @given(values=st.lists(st.floats(0, 1), min_size=1, max_size=8))
    @few
    def test_bounds_and_order(self, values):
        found = holm(values)
        assert all(p <= corrected <= 1 for p, corrected in zip(values, found, strict=True))
        assert [found[i] for i in np.argsort(values, kind="stable")] == sorted(found)
        assert min(found) == pytest.approx(min(1, len(values) * min(values)))


def test_docstring_examples():
    result = doctest.testmod(correlation)
    assert (result.attempted, result.failed) == (2, 0)
