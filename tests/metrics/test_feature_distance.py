"""Fréchet and paired distances of features, on closed forms and against a matrix square root."""

import numpy as np
import pytest
import torch
from scipy import linalg

from zoo.components.features import TimmNetwork
from zoo.errors import ConfigError, InputError
from zoo.metrics.bootstrap import bootstrap_interval
from zoo.metrics.feature_distance import (
    feature_rows,
    feature_vectors,
    frechet_distance,
    frechet_distance_of_rows,
    frechet_distance_of_statistics,
    paired_distance,
)


def drawn(n, d, seed=0, scale=1.0):
    generator = np.random.default_rng(seed)
    return scale * generator.normal(size=(n, d)) @ generator.normal(size=(d, d)) + generator.normal(size=d)


def by_square_root(a, b):
    """The formula as it is written."""
    covariances = [np.cov(x, rowvar=False) for x in (a, b)]
    root = linalg.sqrtm(covariances[0] @ covariances[1])
    return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(covariances[0] + covariances[1] - 2 * root).real


def test_in_one_dimension_it_is_means_and_deviations():
    a, b = np.array([[1.0], [3.0]]), np.array([[10.0], [16.0], [13.0]])
    expected = (2 - 13) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_of_diagonal_gaussians_it_is_the_sum_over_dimensions():
    means, deviations = np.array([[0.0, 1.0, 5.0], [2.0, 1.0, 4.0]]), np.array([[1.0, 2.0, 0.0], [3.0, 2.0, 0.5]])
    expected = np.square(means[0] - means[1]).sum() + np.square(deviations[0] - deviations[1]).sum()
    sides = [value for m, s in zip(means, deviations, strict=True) for value in (m, np.diag(s**2))]
    assert frechet_distance_of_statistics(*sides) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_it_is_the_formula(scale):
    a, b = drawn(200, 6, 0, scale), drawn(150, 6, 1, scale)
    assert frechet_distance(a, b) == pytest.approx(by_square_root(a, b), rel=1e-9)


def test_features_and_their_statistics_agree():
    a, b = drawn(60, 5, 0), drawn(40, 5, 1)
    sides = [value for x in (a, b) for value in (x.mean(0), np.cov(x, rowvar=False))]
    assert frechet_distance_of_statistics(*sides) == pytest.approx(frechet_distance(a, b), rel=1e-9)


@pytest.mark.parametrize("n", [2, 5, 100])
def test_a_set_is_no_distance_from_itself(n):
    a = drawn(n, 30)
    size = np.square(a - a.mean(0)).sum()
    assert 0 <= frechet_distance(a, a[::-1]) <= 1e-12 * size


def test_a_shift_is_all_of_the_distance():
    a = drawn(50, 8)
    step = np.linspace(-1, 1, 8)
    assert frechet_distance(a, a + step) == pytest.approx(np.square(step).sum(), rel=1e-9)


def test_a_turn_of_both_changes_nothing():
    a, b = drawn(50, 4, 0), drawn(50, 4, 1)
    turn = linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))[0]
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(frechet_distance(a, b), rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-12)


def test_fewer_items_than_dimensions_are_exact():
    # Two sets on two orthogonal lines: nothing is shared, so the distance is all the variance there is.
    line = np.array([-1.0, 0.0, 1.0])[:, None]
    a, b = line * np.eye(40)[3], 2 * line * np.eye(40)[7]
    assert frechet_distance(a, b) == pytest.approx(1 + 4, rel=1e-12)


def test_large_means_do_not_drown_the_spread():
    a, b = drawn(100, 3, 0), drawn(100, 3, 1)
    assert frechet_distance(a + 1e6, b + 1e6) == pytest.approx(frechet_distance(a, b), rel=1e-6)


def test_tensors_are_taken_in_double():
    a, b = torch.from_numpy(drawn(30, 3, 0)).float(), torch.from_numpy(drawn(30, 3, 1)).float()
    assert frechet_distance(a, b) == frechet_distance(a.double().numpy(), b.double().numpy())


def test_rows_have_items_beside_originals():
    rows = feature_rows(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [3.0, 4.0]]))
    assert rows.shape == (2, 2, 2)
    assert rows.dtype == np.float64
    assert paired_distance(rows) == (4 + 25) / 2


def test_the_frechet_distance_of_rows_forgets_the_pairs():
    a, b = drawn(40, 3, 0), drawn(40, 3, 1)
    rows, mixed = feature_rows(a, b), feature_rows(a, b[::-1])
    assert frechet_distance_of_rows(rows) == frechet_distance(a, b)
    assert frechet_distance_of_rows(mixed) == pytest.approx(frechet_distance(a, b), rel=1e-9)
    assert paired_distance(mixed) != pytest.approx(paired_distance(rows), rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_at_least_as_far_apart_as_the_sets(seed):
    # Of all couplings of two sets the optimal one is at least the Gaussians' distance (Gelbrich 1990). Covariances
    # here are unbiased, which makes that distance larger by n / (n - 1) at most.
    generator = np.random.default_rng(seed)
    a = drawn(50, 4, seed)
    b = a + generator.normal(size=a.shape)
    assert frechet_distance(a, b) <= paired_distance(feature_rows(a, b)) * 50 / 49


def test_both_are_statistics_of_the_bootstrap():
    a = drawn(60, 3, 0)
    rows = feature_rows(a + 1 + 0.1 * drawn(60, 3, 1), a)
    for statistic in (paired_distance, frechet_distance_of_rows):
        interval = bootstrap_interval(rows, statistic, num_resamples=200)
        assert interval.estimate == statistic(rows)
        assert 0 < interval.low < interval.high
        assert interval.low < interval.estimate * 1.2


def test_vectors_are_features_averaged_over_positions():
    network = TimmNetwork("test_resnet", ["layer1", "pooled"], pretrained=False)
    x = torch.rand(2, 3, 32, 32, requires_grad=True)
    found = feature_vectors(network, x, "layer1")
    assert not found.requires_grad
    torch.testing.assert_close(found, network.features(x)["layer1"].mean((2, 3)).detach())
    torch.testing.assert_close(feature_vectors(network, x, "pooled"), network.features(x)["pooled"].detach())
    with pytest.raises(ConfigError, match="'layer1'"):
        feature_vectors(network, x, "layer")


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((1, 3)), np.zeros((4, 3)), "at least 2"),
        (np.zeros(3), np.zeros((4, 3)), r"\(n, D\)"),
        (np.zeros((4, 3)), np.zeros((4, 2)), "one width"),
        (np.full((4, 3), np.nan), np.zeros((4, 3)), "NaN"),
    ],
)
def test_what_is_no_set_of_features_is_refused(a, b, message):
    with pytest.raises(InputError, match=message):
        frechet_distance(a, b)


def test_rows_need_an_original_each():
    with pytest.raises(InputError, match="its original"):
        feature_rows(np.zeros((3, 2)), np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (np.array([[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
        (np.diag([1.0, -1.0]), "negative"),
        (np.eye(3), r"\(D, D\)"),
        (np.full((2, 2), np.inf), "finite"),
    ],
)
def test_what_is_no_covariance_is_refused(covariance, message):
    with pytest.raises(InputError, match=message):
        frechet_distance_of_statistics(np.zeros(2), covariance, np.zeros(2), np.eye(2))


def test_statistics_of_two_dimensions_are_refused():
    with pytest.raises(InputError, match="one dimension"):
        frechet_distance_of_statistics(np.zeros(2), np.eye(2), np.zeros(3), np.eye(3))
