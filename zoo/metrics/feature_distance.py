"""How far pictures, clips or speech are from their originals in the features of a frozen network.

Two numbers of the same rows, which have an item's features beside its original's: how far the items are from their own
originals (`paired_distance`), and how far the sets are apart as Gaussians (`frechet_distance`), which does not see
whose original is whose. In expectation the second is at most the first. Over few items, or over pieces of few
pictures, the second depends on which fell into the set: quote it of the same items on both sides, which rows have, and
never beside figures of other sets or of another network.

    rows = feature_rows(feature_vectors(network, made, "pooled"), feature_vectors(network, originals, "pooled"))
    bootstrap_interval(rows, paired_distance)

Of a distance that is not one of vectors, as `PerceptualDistance`, the distances (B,) are themselves the rows, and
their mean is the statistic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.components.features.base import FeatureNetwork
from zoo.errors import ConfigError, InputError, near_matches

__all__ = [
    "feature_rows",
    "feature_vectors",
    "frechet_distance",
    "frechet_distance_of_rows",
    "frechet_distance_of_statistics",
    "paired_distance",
]

Array = NDArray[np.float64]


def feature_vectors(network: FeatureNetwork, x: Tensor, layer: str) -> Tensor:
    """Return a layer's features averaged over positions: (B, C) float32, without gradients.

    Raises:
        ConfigError: The network does not return this layer.
        InputError: The batch is not what the network takes.
    """
    if layer not in network.layers:
        raise ConfigError(f"{network.name} does not return {layer!r}; {near_matches(layer, network.layers)}")
    with torch.no_grad():
        found = network.features(x)[layer]
    return found.flatten(2).mean(2) if found.ndim > 2 else found


def feature_rows(found: Any, originals: Any) -> Array:
    """Return the rows of items: features (n, D) beside those of the originals, (n, 2, D) float64.

    Raises:
        InputError: They are not finite, of one shape and (n, D).
    """
    a, b = _checked(found, 1), _checked(originals, 1)
    if a.shape != b.shape:
        raise InputError(
            f"each item needs its original, got features of the shapes {list(a.shape)} and {list(b.shape)}."
        )
    return np.stack([a, b], axis=1)


def paired_distance(rows: Array) -> float:
    """Return the mean square distance of items from their originals, of rows (n, 2, D)."""
    return float(np.square(rows[:, 0] - rows[:, 1]).sum(1).mean())


def frechet_distance_of_rows(rows: Array) -> float:
    """Return the Fréchet distance of items from originals, of rows (n, 2, D).

    As a statistic for the bootstrap it costs two decompositions a resample, and is biased upwards by the repeated rows,
    the more so the fewer items there are for a dimension: its interval says how stable the figure is, not where the
    figure of endlessly many items lies.
    """
    return frechet_distance(rows[:, 0], rows[:, 1])


def frechet_distance(a: Any, b: Any) -> float:
    """Return the (squared) Fréchet distance of two sets of features as Gaussians (Heusel et al., arXiv 1706.08500).

    ‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^½, in float64, with unbiased covariances. The last trace is the sum of the
    singular values of F₁F₂ᵀ where FᵀF = Σ; the factors are had from the features, not from the covariances, so that
    fewer items than dimensions do no harm and no square root is taken of rounding errors.

    Args:
        a: Features (n, D), n of at least 2.
        b: Features (m, D).

    Raises:
        InputError: They are not finite, (n, D) of one D, or fewer than two.
    """
    return _distance(*_gaussian(_checked(a, 2)), *_gaussian(_checked(b, 2)))


def frechet_distance_of_statistics(mean_a: Any, covariance_a: Any, mean_b: Any, covariance_b: Any) -> float:
    """Return the (squared) Fréchet distance of two Gaussians, of which published statistics have mean and covariance.

    Args:
        mean_a: (D,).
        covariance_a: (D, D), symmetric, without negative eigenvalues but for rounding.
        mean_b: (D,).
        covariance_b: (D, D).

    Raises:
        InputError: Shapes do not fit, or a covariance is not one.
    """
    sides = []
    for mean, covariance in ((mean_a, covariance_a), (mean_b, covariance_b)):
        center, spread = _array(mean), _array(covariance)
        if center.ndim != 1 or spread.shape != (len(center), len(center)) or not np.isfinite(spread).all():
            raise InputError(f"(D,) and (D, D) are needed, finite, got {list(center.shape)} and {list(spread.shape)}.")
        scale = float(np.abs(spread).max(initial=0.0))
        values, vectors = np.linalg.eigh((spread + spread.T) / 2)
        if np.abs(spread - spread.T).max(initial=0.0) > 1e-6 * scale or values.min(initial=0.0) < -1e-6 * scale:
            raise InputError(
                "a covariance must be symmetric and have no negative eigenvalues; these numbers are not one."
            )
        sides.append((center, (vectors * np.sqrt(values.clip(min=0.0))).T))
    (mean_1, factor_1), (mean_2, factor_2) = sides
    if mean_1.shape != mean_2.shape:
        raise InputError(f"both sides must have one dimension, got {len(mean_1)} and {len(mean_2)}.")
    return _distance(mean_1, factor_1, mean_2, factor_2)


def _gaussian(features: Array) -> tuple[Array, Array]:
    """Return the mean (D,) of features (n, D) and a factor F (min(n, D), D) of their covariance FᵀF."""
    mean = features.mean(0)
    factor = (features - mean) / np.sqrt(len(features) - 1)
    if len(factor) > factor.shape[1]:
        factor = np.linalg.qr(factor, mode="r")
    return mean, factor


def _distance(mean_a: Array, factor_a: Array, mean_b: Array, factor_b: Array) -> float:
    if mean_a.shape != mean_b.shape:
        raise InputError(f"both sets must have features of one width, got {len(mean_a)} and {len(mean_b)}.")
    shared = np.linalg.svd(factor_a @ factor_b.T, compute_uv=False).sum()
    spread = np.square(factor_a).sum() + np.square(factor_b).sum() - 2 * shared
    # The exact value is not negative.
    return float(np.square(mean_a - mean_b).sum() + max(spread, 0.0))


def _checked(features: Any, least: int) -> Array:
    array = _array(features)
    if array.ndim != 2 or len(array) < least or array.shape[1] == 0:
        raise InputError(f"features must be (n, D), n of at least {least}, got the shape {list(array.shape)}.")
    if not np.isfinite(array).all():
        raise InputError("features have NaN or infinite values: look at the network's input.")
    return array


def _array(values: Any) -> Array:
    return np.asarray(values.detach().double().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)
