"""Use of a vocabulary and divergences: STAB's specification (section 10), bounds, scipy."""

from __future__ import annotations

import math

import pytest
import scipy.spatial.distance
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_processes import agree

from zoo.errors import InputError, TokenError
from zoo.metrics.tokens.vocabulary import (
    VocabularyUse,
    expected_coverage,
    jensen_shannon,
    kl_divergence,
    subsample_counts,
    token_counts,
    vocabulary_overlap,
    vocabulary_use,
)

few = settings(max_examples=40, deadline=None)
counts = st.lists(st.integers(0, 50), min_size=4, max_size=4).filter(any)


def use(values):
    return {name: value.item() for name, value in vocabulary_use(torch.tensor(values)).items()}


class TestUse:
    def test_a_constant(self):
        found = use([0, 0, 9, 0])
        assert (found["coverage"], found["entropy"], found["perplexity"]) == (0.25, 0, 1)
        assert (found["num_tokens"], found["num_used"], found["renyi_efficiency"]) == (9, 1, 0)

    def test_all_alike(self):
        found = use([3] * 16)
        assert (found["coverage"], found["entropy"], found["perplexity"]) == (1, 4, 16)
        assert found["entropy_share"] == found["renyi_efficiency"] == pytest.approx(1)

    def test_by_hand(self):
        assert use([4, 2, 1, 1])["renyi_efficiency"] == pytest.approx(0.730167, abs=1e-6)
        assert use([4, 2, 1, 1])["entropy_share"] == 0.875
        assert use([1, 1])["entropy_corrected"] == pytest.approx(1 + 1 / (4 * math.log(2)))

    def test_few_tokens_for_the_vocabulary(self):
        """Uniform draws of 8192 ids; 12.17 is 13 less the mean of x log2 x for a Poisson variable of mean 1."""
        ids = torch.randint(8192, (100_000,), generator=torch.Generator().manual_seed(0))
        for number, entropy, coverage in ((8192, 12.17, 0.63), (40_960, 12.85, 0.99), (100_000, 12.94, 1.0)):
            found = use(torch.bincount(ids[:number], minlength=8192).tolist())
            assert found["entropy"] == pytest.approx(entropy, abs=0.02)
            assert found["coverage"] == pytest.approx(coverage, abs=0.01)
            assert expected_coverage(8192, number) == pytest.approx(coverage, abs=0.01)
            if number == 40_960:
                assert found["entropy_corrected"] == pytest.approx(12.99, abs=0.01)

    @given(values=counts)
    @few
    def test_bounds_and_scipy(self, values):
        found = use(values)
        assert found["entropy"] == pytest.approx(scipy.stats.entropy(values, base=2), abs=1e-9)
        assert -1e-12 <= found["renyi_efficiency"] <= found["entropy_share"] + 1e-9  # falls with the order
        assert found["entropy_share"] <= 1 + 1e-9
        assert found["entropy"] <= found["entropy_corrected"]

    def test_nothing_and_one_id(self):
        found = use([0, 0])
        assert (found["num_tokens"], found["num_used"], found["coverage"]) == (0, 0, 0)
        assert all(math.isnan(found[name]) for name in ("entropy", "entropy_corrected", "entropy_share", "perplexity"))
        assert (use([5])["entropy"], use([5])["coverage"]) == (0, 1)
        assert math.isnan(use([5])["entropy_share"])

    def test_bad_arguments(self):
        for bad in (torch.zeros(2, 2), torch.tensor([-1, 2]), torch.zeros(0)):
            with pytest.raises(InputError, match=r"counts must be \[V\]"):
                vocabulary_use(bad)
        with pytest.raises(InputError, match="vocab_size"):
            token_counts([[0]], 0)
        with pytest.raises(TokenError, match=r"0\.\.3"):
            token_counts([[4]], 4)
        with pytest.raises(InputError, match="num_tokens"):
            expected_coverage(4, -1)

    def test_expected_coverage(self):
        assert expected_coverage(8192, 8192) == pytest.approx(0.632, abs=1e-3)
        assert (expected_coverage(5, 0), expected_coverage(5, 1)) == (0, pytest.approx(0.2))


class TestSubsample:
    @given(values=counts, seed=st.integers(0, 99), data=st.data())
    @few
    def test_it_takes_what_is_there(self, values, seed, data):
        number = data.draw(st.integers(0, sum(values)))
        drawn = subsample_counts(torch.tensor(values), number, seed)
        assert int(drawn.sum()) == number
        assert bool((drawn <= torch.tensor(values)).all())
        assert torch.equal(drawn, subsample_counts(torch.tensor(values), number, seed))

    def test_every_token_is_as_likely(self):
        values = torch.tensor([60, 30, 10])
        total = sum(subsample_counts(values, 10, seed) for seed in range(300))
        assert scipy.stats.chisquare(total.numpy(), [1800, 900, 300]).pvalue > 1e-3

    def test_there_must_be_enough(self):
        with pytest.raises(InputError, match=r"0\.\.3"):
            subsample_counts(torch.tensor([1, 2]), 4)


class TestDivergences:
    def test_by_hand(self):
        js = lambda p, q: jensen_shannon(torch.tensor(p), torch.tensor(q)).item()  # noqa: E731
        assert js([0.5, 0.5, 0.0], [0.0, 0.5, 0.5]) == pytest.approx(0.5)
        assert js([1.0, 0.0], [0.5, 0.5]) == pytest.approx(0.311278, abs=1e-6)
        assert js([3, 0], [0, 5]) == 1
        assert js([3, 1], [6, 2]) == 0
        assert math.isnan(js([0, 0], [1, 2]))

    @given(p=counts, q=counts)
    @few
    def test_jensen_shannon_is_scipys(self, p, q):
        found = jensen_shannon(torch.tensor(p), torch.tensor(q)).item()
        distance = scipy.spatial.distance.jensenshannon(p, q, base=2)
        assert found == pytest.approx(distance**2, abs=1e-7)
        assert 0 <= found <= 1
        assert found == jensen_shannon(torch.tensor(q), torch.tensor(p)).item()

    @given(p=counts, q=counts)
    @few
    def test_kullback_leibler_is_scipys(self, p, q):
        found = kl_divergence(torch.tensor(p), torch.tensor(q)).item()
        wanted = scipy.stats.entropy([x + 0.5 for x in p], [x + 0.5 for x in q], base=2)
        assert found == pytest.approx(wanted, abs=1e-9)

    def test_without_smoothing_it_can_be_infinite(self):
        p, q = torch.tensor([1, 1]), torch.tensor([1, 0])
        assert kl_divergence(p, q, smoothing=0) == math.inf
        assert kl_divergence(q, p, smoothing=0) == 1
        with pytest.raises(InputError, match="smoothing"):
            kl_divergence(p, q, smoothing=-1)

    def test_overlap(self):
        assert vocabulary_overlap(torch.tensor([1, 2, 0, 0]), torch.tensor([0, 1, 1, 0])).item() == pytest.approx(1 / 3)
        assert vocabulary_overlap(torch.zeros(2), torch.zeros(2)).isnan()
        for measure in (vocabulary_overlap, jensen_shannon, kl_divergence):
            with pytest.raises(InputError, match="one vocabulary"):
                measure(torch.ones(2), torch.ones(3))


class TestMetric:
    def test_over_a_data_set(self):
        found = agree(
            lambda **options: VocabularyUse(4, **options),
            [lambda metric: metric.update([[0, 1], []]), lambda metric: metric.update([[1, 3, 3]])],
        )
        assert found == vocabulary_use(torch.tensor([1, 2, 0, 2]))

    def test_by_language(self):
        found = agree(
            lambda **options: VocabularyUse(4, ("en", "zh", "fr"), **options),
            [
                lambda metric: metric.update([[0, 1], [2, 2]], ["en", "zh"]),
                lambda metric: metric.update([[1]], ["zh"]),
            ],
        )
        assert found["coverage"] == 0.75
        assert found["coverage_by_language"][:2].tolist() == [0.5, 0.5]
        assert found["coverage_by_language"][2].isnan()
        assert found["overlap"][0, 1].item() == pytest.approx(1 / 3)
        wanted = jensen_shannon(torch.tensor([1, 1, 0, 0]), torch.tensor([0, 1, 2, 0]))
        assert found["jensen_shannon"][0, 1] == found["jensen_shannon"][1, 0] == wanted
        assert found["jensen_shannon"][0, 2].isnan()

    def test_languages_it_does_not_know(self):
        metric = VocabularyUse(4, ("en", "zh"))
        with pytest.raises(InputError, match="give the utterances' languages"):
            metric.update([[1]])
        with pytest.raises(InputError, match="'de' is not declared"):
            metric.update([[1]], ["de"])
        with pytest.raises(InputError, match="as many languages"):
            metric.update([[1]], ["en", "zh"])
        with pytest.raises(InputError, match="vocab_size"):
            VocabularyUse(0)
