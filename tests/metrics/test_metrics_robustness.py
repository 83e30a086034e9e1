"""Robustness of tokens: bounds and degenerate tokenizers of STAB's specification (section 10)."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.perturbations.noise import ColourNoise
from zoo.errors import InputError
from zoo.metrics.rows import bootstrap_rows, ratio
from zoo.metrics.tokens import robustness as module
from zoo.metrics.tokens.edits import unit_edit_distance
from zoo.metrics.tokens.robustness import (
    curve_mean,
    excess_distance,
    length_bound,
    overall_robustness,
    robustness,
    robustness_rows,
)

corpora = st.lists(st.tuples(*[st.lists(st.integers(0, 2), max_size=8)] * 2), max_size=4)


def measure(noisy, clean):
    return {name: value.item() for name, value in robustness(noisy, clean).items()}


class TestDistances:
    def test_nothing_changed(self):
        assert set(measure([[1, 1, 2], [3]], [[1, 1, 2], [3]]).values()) == {0}

    def test_by_hand(self):
        """One of four tokens more and one changed; of the other utterance nothing but a run's length."""
        found = measure([[1, 2, 3, 4, 4], [5, 5]], [[1, 2, 3, 0], [5]])
        assert found["ued"] == pytest.approx(100 * (2 + 1) / 5)
        assert found["ued_collapsed"] == pytest.approx(100 * 1 / 5)
        assert found["ned"] == pytest.approx((2 / 5 + 1 / 2) / 2)
        assert found["ned_collapsed"] == pytest.approx((1 / 4 + 0) / 2)
        bound = (1 / 5 + 1 / 2) / 2
        assert found["excess"] == pytest.approx((found["ned"] - bound) / (1 - bound))

    def test_long_utterances_weigh_more_in_one_of_them(self):
        clean = [list(range(10)), list(range(90))]
        found = measure([[*range(5), *range(90, 95)], clean[1]], clean)
        assert (found["ued"], found["ned"]) == (5, 0.25)

    @given(corpus=corpora)
    @settings(max_examples=30, deadline=None)
    def test_properties(self, corpus):
        noisy, clean = ([pair[side] for pair in corpus] for side in (0, 1))
        found = measure(noisy, clean)
        assert found["ued"] == pytest.approx(unit_edit_distance(noisy, clean).item(), nan_ok=True)
        for name in ("ned", "ned_collapsed"):
            assert 0 <= found[name] <= 1 or not corpus
        rows = robustness_rows(noisy, clean)
        assert all(row["bound"] <= row["distance"] for row in rows)

    @pytest.mark.parametrize(("rate", "wanted"), [(0.8, 0.2), (0.9, 0.0991), (1.1, 0.09), (1.25, 0.2)])
    def test_speed_changes_a_constant_by_its_bound(self, rate, wanted):
        clean, noisy = [7] * 100, [7] * round(100 / rate)
        found = measure([noisy], [clean])
        assert found["ned"] == length_bound(len(noisy), 100) == pytest.approx(wanted, abs=1e-4)
        assert found["ned_collapsed"] == found["excess"] == 0

    def test_excess(self):
        assert excess_distance(0.2, 0.2) == 0
        assert excess_distance(1, 0.2) == 1
        assert math.isnan(excess_distance(1, 1))
        assert length_bound(0, 0) == 0
        assert length_bound(0, 3) == 1

    def test_nothing_to_measure(self):
        assert all(math.isnan(value) for value in measure([], []).values())
        found = measure([[1]], [[]])
        assert math.isnan(found["ued"])
        assert math.isnan(found["excess"])
        assert found["ned"] == found["ned_collapsed"] == 1
        assert measure([[]], [[]])["ned"] == 0

    def test_bad_arguments(self):
        with pytest.raises(InputError, match="1 items to compare with 2"):
            robustness([[1]], [[1], [2]])

    def test_intervals_come_from_rows(self):
        rows = robustness_rows([[1, 2], [1], [3]], [[1, 1], [1], [4]])
        found = bootstrap_rows(rows, ratio("edits", "tokens", 100), num_resamples=50)
        assert found.estimate == measure([[1, 2], [1], [3]], [[1, 1], [1], [4]])["ued"] == 50
        assert found.low < 50 < found.high


class TestToys:
    def test_signs_do_not_hear_loudness(self):
        wave = torch.randn(4000, generator=torch.Generator().manual_seed(0))
        signs = [(x.reshape(-1, 40).sum(1) > 0).long() for x in (0.2 * wave, wave)]
        assert set(measure(signs[:1], signs[1:]).values()) == {0}

    def test_energies_change_more_in_more_noise(self):
        rng = np.random.default_rng(0)
        loudness = torch.tensor(rng.uniform(0.05, 1, 100), dtype=torch.float32).repeat_interleave(160)
        wave = loudness * torch.randn(16_000, generator=torch.Generator().manual_seed(1))

        def tokenize(x):
            return (x.reshape(-1, 160).square().mean(1).log() * 2).round().long()

        means = []
        for snr in (30, 20, 10, 5, 0):
            noisy = [tokenize(ColourNoise(snr)(wave, torch.Generator().manual_seed(n))) for n in range(5)]
            means.append(measure(noisy, [tokenize(wave)] * 5)["ned_collapsed"])
        assert means == sorted(means)
        assert means[0] < means[-1]


class TestSummaries:
    def test_curves_by_hand(self):
        assert curve_mean([2], [0.3]) == 0.3
        assert curve_mean([10, 0], [1.0, 0.0]) == 0.5
        assert curve_mean([0.25, 0.5, 4], [0.0, 1.0, 1.0], "log") == pytest.approx((0.5 * 1 + 3) / 4)

    @given(values=st.lists(st.floats(0, 1), min_size=2, max_size=6))
    @settings(max_examples=30, deadline=None)
    def test_a_curves_mean_lies_within(self, values):
        strengths = [2.0**n for n in range(len(values))]
        for scale in ("linear", "log"):
            assert min(values) - 1e-9 <= curve_mean(strengths, values, scale) <= max(values) + 1e-9

    def test_curves_that_are_none(self):
        for arguments in (([], []), ([1], []), ([1, 1], [0.1, 0.2])):
            with pytest.raises(InputError, match="one value for each"):
                curve_mean(*arguments)
        with pytest.raises(InputError, match="logarithms"):
            curve_mean([0, 1], [0.1, 0.2], "log")

    def test_kinds_weigh_alike(self):
        assert overall_robustness({"a": [0.0] * 9, "b": [1.0]}) == 0.5
        assert overall_robustness({"a": [0.0]}) == 1
        assert math.isnan(overall_robustness({}))
        assert math.isnan(overall_robustness({"a": []}))


def test_docstring_examples():
    result = doctest.testmod(module)
    assert (result.attempted, result.failed) == (3, 0)
