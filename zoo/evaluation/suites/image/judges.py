"""The measures of a picture beside its original, each of which may lack the weights it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from zoo import resources
from zoo.components.features import STLPIPS, FeatureNetwork, build
from zoo.components.losses.perceptual import PerceptualDistance
from zoo.errors import CheckpointError, ConfigError, HubError, InputError, MissingExtraError
from zoo.evaluation.suites.image.config import Network
from zoo.metrics.feature_distance import feature_vectors
from zoo.metrics.image import exact, psnr, ssim

__all__ = ["OF_FEATURES", "Judged", "Judges"]

Judge = Callable[[Tensor, Tensor], Tensor]

OF_FEATURES = ("feature_distance", "frechet_distance")
"""Measures that are made of features of all pictures."""

_PIXELS: Mapping[str, Judge] = MappingProxyType({"psnr": psnr, "exact": exact, "ssim": ssim})


class Asked(Protocol):
    """A suite, as far as it says what pictures are judged by."""

    @property
    def measures(self) -> tuple[str, ...]:
        """What is measured."""

    @property
    def features(self) -> Network | None:
        """The network of the distances of features."""

    @property
    def st_lpips(self) -> str | None:
        """Weights of ST-LPIPS."""

    @property
    def device(self) -> str:
        """Where networks are."""


class Judges:
    """Measures pictures with all that a suite names and that can be had.

    Args:
        suite: What to measure.
        size: Height and width of the pictures.

    Attributes:
        measures: What the suite asks for, and with PSNR how many are `exact`, whose ratio is a bound.
        missing: Why a measure cannot be made, by name.
        networks: Name, licence and SHA-256 of the weights of each network, by the measure.
    """

    def __init__(self, suite: Asked, size: tuple[int, int]) -> None:
        self.measures = (*suite.measures, *(["exact"] if "psnr" in suite.measures else []))
        self.missing: dict[str, str] = {}
        self.networks: dict[str, dict[str, Any]] = {}
        self._judges: dict[str, Judge] = {}
        self._features: FeatureNetwork | None = None
        # Asked once before there is any work, so that what is not there is known from the start.
        grey = self.grey(size).to(suite.device)
        for name in self.measures:
            try:
                if name not in OF_FEATURES:
                    self._judges[name] = self._ready(name, suite)
                    self.judged(name, grey, grey)
                elif self._features is None and suite.features is not None:
                    self._features = _network(suite.features).to(suite.device)
                    self.features(grey)
            except (MissingExtraError, CheckpointError, HubError, InputError) as error:
                self._judges.pop(name, None)
                is_of_features = name in OF_FEATURES
                made_by = suite.features.made_by if is_of_features and suite.features else ""
                self.missing[name] = f"{error} Make it with `{made_by}`." if made_by else str(error)
                self._features = None if is_of_features else self._features
        if self._features is not None:
            facts = _facts(self._features)
            self.networks |= {measure: facts for measure in OF_FEATURES if measure in suite.measures}

    def _ready(self, name: str, suite: Asked) -> Judge:
        if name in _PIXELS:
            return _PIXELS[name]
        network = STLPIPS(None if suite.st_lpips is None else resources.expanded(suite.st_lpips, CheckpointError))
        self.networks[name] = _facts(network)
        return PerceptualDistance(network, network.channel_weights).to(suite.device)

    @property
    def names(self) -> list[str]:
        """Measures of single pictures that can be made, without those of features."""
        return list(self._judges)

    def grey(self, size: tuple[int, int]) -> Tensor:
        """Return something of the kind that is measured, (1, …, H, W)."""
        return torch.full((1, 3, *size), 0.5)

    def judged(self, name: str, made: Tensor, originals: Tensor) -> Tensor:
        """Return one of `names` for each picture, (B,)."""
        return self._judges[name](made, originals)

    def features(self, pictures: Tensor) -> Tensor | None:
        """Return the features (B, D) of pictures (B, 3, H, W); None without a network."""
        if self._features is None:
            return None
        return feature_vectors(self._features, pictures, self._features.layers[0]).cpu()

    def against(self, originals: Tensor) -> Judged:
        """Return what judges pictures by these originals (B, 3, H, W)."""
        return Judged(self, originals, self.features(originals))

    def compare(self, made: Tensor, originals: Tensor) -> list[dict[str, float]]:
        """Return each of `names` for each picture."""
        with torch.no_grad():
            found = {name: self.judged(name, made, originals).tolist() for name in self._judges}
        return [{name: values[i] for name, values in found.items()} for i in range(len(originals))]


class Judged:
    """The originals of a batch, whose features are computed once.

    Args:
        judges: The measures.
        originals: (B, 3, H, W) in 0…1.
        features: (B, D); None if there is no network.
    """

    def __init__(self, judges: Judges, originals: Tensor, features: Tensor | None) -> None:
        self._judges = judges
        self.originals = originals
        self.features = features

    def first(self, count: int) -> Judged:
        """Return what judges by the first originals alone."""
        return Judged(self._judges, self.originals[:count], None if self.features is None else self.features[:count])

    def __call__(self, made: Tensor) -> tuple[list[dict[str, float]], Tensor | None]:
        """Return the measures of each picture (B, 3, H, W), and its features beside the original's, (B, 2, D).

        The latter are None without a network.
        """
        made = made.to(self.originals.device)
        features = self._judges.features(made)
        pairs = None if features is None or self.features is None else torch.stack([features, self.features], 1)
        return self._judges.compare(made, self.originals), pairs


def _network(source: Network) -> FeatureNetwork:
    """Return the network of a suite.

    Raises:
        ConfigError: It returns several layers, or its values are unusable.
    """
    network = build(source.resolved(), "features")
    if len(network.layers) != 1:
        raise ConfigError(f"features must be of one layer, got {list(network.layers)}.")
    return network


def _facts(network: FeatureNetwork) -> dict[str, Any]:
    layers = list(network.layers)
    return {"name": network.name, "layers": layers, "licence": network.licence, "sha256": network.digest}
