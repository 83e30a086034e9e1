"""How far two signals are apart in the features of a frozen network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.components.features import STLPIPS, FeatureNetwork, build
from zoo.errors import ConfigError, InputError

__all__ = ["PerceptualDistance", "distance_of"]


class PerceptualDistance(nn.Module):
    """The distance of LPIPS (Zhang et al., arXiv 1801.03924, equation 1) over any frozen network's layers.

    The channels at each position are brought to length 1, differences squared, weighted by channel and summed, averaged
    over the positions, and summed over the layers. With `unit_channels=False` features are compared as they are, and
    channels are averaged: the mean square difference of features, as losses on a classifier's logits or VGG have it.

    The same object is loss and metric: it returns one distance an item, of which a loss takes the mean and
    `zoo.metrics.bootstrap` the rows. It has no weights of its own to train or save.

    Args:
        network: Whose features, of all its `layers`.
        channel_weights: Of each layer, (C,), not negative; None counts each channel once.
        unit_channels: Whether to bring the channels to length 1.
        eps: Added to the square of the length, so that the gradient of empty features is a number.

    Raises:
        ConfigError: Weights are not of the network's layers, or negative, or used with `unit_channels=False`.
    """

    def __init__(
        self,
        network: FeatureNetwork,
        channel_weights: Mapping[str, Tensor] | None = None,
        *,
        unit_channels: bool = True,
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        if channel_weights is not None:
            if set(channel_weights) != set(network.layers):
                raise ConfigError(
                    f"channel_weights must be of the layers {list(network.layers)}, got {sorted(channel_weights)}."
                )
            if not unit_channels:
                raise ConfigError("channel_weights weigh channels of length 1: leave out unit_channels=False.")
            if any(weight.ndim != 1 or bool((weight < 0).any()) for weight in channel_weights.values()):
                raise ConfigError("channel_weights must be vectors of numbers of at least 0.")
        self.network = network
        self.unit_channels = unit_channels
        self.eps = eps
        self._weighted = channel_weights is not None
        if channel_weights is not None:
            for index, layer in enumerate(network.layers):
                weight = channel_weights[layer].detach().float().clone()
                self.register_buffer(f"weight_{index}", weight, persistent=False)

    @property
    def name(self) -> str:
        """What results call it."""
        return f"{'unit' if self.unit_channels else 'mean square'} difference of {self.network.name}"

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """Compare two batches as the network takes them, and return the distance of each item, (B,) float32.

        Raises:
            InputError: Their shapes differ.
            ConfigError: A layer has another number of channels than its weights.
        """
        if x.shape != target.shape:
            raise InputError(f"what is compared must have one shape, got {list(x.shape)} and {list(target.shape)}.")
        found, wanted = self.network.features(x), self.network.features(target)
        with torch.autocast(x.device.type, enabled=False):
            distances = [
                self._layer(index, found[name], wanted[name]) for index, name in enumerate(self.network.layers)
            ]
            return torch.stack(distances).sum(0)

    def _layer(self, index: int, found: Tensor, wanted: Tensor) -> Tensor:
        """Return the distance (B,) of one layer's features, (B, C, ...) or (B, C)."""
        # One position, if the layer has none.
        found, wanted = (features.reshape(*features.shape[:2], -1) for features in (found, wanted))
        if not self.unit_channels:
            return (found - wanted).square().flatten(1).mean(1)
        differences = (self._unit(found) - self._unit(wanted)).square()
        if self._weighted:
            weight = self.get_buffer(f"weight_{index}")
            if len(weight) != differences.shape[1]:
                raise ConfigError(
                    f"{self.network.layers[index]} has {differences.shape[1]} channels and weights for {len(weight)}."
                )
            differences = differences * weight[:, None]
        return differences.sum(1).mean(1)

    def _unit(self, features: Tensor) -> Tensor:
        squared = features.square().sum(1, keepdim=True)
        return features / (squared + self.eps).sqrt()


def distance_of(
    values: Mapping[str, Any] | None, where: str = "perceptual", *, unit_channels: bool = True
) -> PerceptualDistance | None:
    """Return the distance that a recipe names by its network, weighted if that has learned weights; None of None.

    Args:
        values: As `zoo.components.features.build` takes them.
        where: What the values were read from, for error messages.
        unit_channels: As of `PerceptualDistance`.

    Raises:
        ZooError: As of `build`.
    """
    if values is None:
        return None
    network = build(values, where)
    weights = network.channel_weights if isinstance(network, STLPIPS) and unit_channels else None
    return PerceptualDistance(network, weights, unit_channels=unit_channels)
