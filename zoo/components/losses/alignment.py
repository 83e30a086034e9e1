"""How well hidden states agree with a frozen network's features of the same data (REPA)."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ConfigError, InputError

__all__ = ["AlignmentHead", "alignment_loss", "grid_alignment_loss"]

_EPS = 1e-5


class AlignmentHead(nn.Sequential):
    """Hidden states (..., D) → what is compared with features (..., F): linear layers with SiLU between them.

    It is trained with the tokenizer and is no part of it (Yu et al., arXiv 2410.06940, section 3).

    Args:
        dim: D, width of the hidden states.
        feature_dim: F, width of the features.
        hidden_dim: Width between the layers; that of the hidden states if None.
        num_layers: How many linear layers.

    Raises:
        ConfigError: A width or the number of layers is below 1.
    """

    def __init__(self, dim: int, feature_dim: int, hidden_dim: int | None = None, num_layers: int = 2) -> None:
        hidden_dim = dim if hidden_dim is None else hidden_dim
        if min(dim, feature_dim, hidden_dim, num_layers) < 1:
            raise ConfigError(
                "an alignment head needs widths and a number of layers of at least 1, got "
                f"dim={dim}, feature_dim={feature_dim}, hidden_dim={hidden_dim}, num_layers={num_layers}."
            )
        widths = [dim, *[hidden_dim] * (num_layers - 1), feature_dim]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.SiLU(), nn.Linear(before, after)]
        super().__init__(*layers[1:])


def alignment_loss(projected: Tensor, features: Tensor) -> Tensor:
    """Return one minus the mean cosine between projected hidden states and frozen features, in float32.

    Negative cosine similarity (Yu et al., arXiv 2410.06940, equation 8), raised by one, so that it ends at 0.

    Args:
        projected: (..., T, F), a vector for each of T tokens or patches.
        features: (..., T, F) of a frozen network, which get no gradient.

    Raises:
        InputError: Shapes differ.
    """
    if projected.shape != features.shape:
        raise InputError(
            f"projected states {tuple(projected.shape)} and features {tuple(features.shape)} must have the same shape: "
            "resize one grid to the other, and project to the features' width."
        )
    return 1 - F.cosine_similarity(projected.float(), features.detach().float(), dim=-1, eps=_EPS).mean()


def grid_alignment_loss(head: nn.Module, states: Tensor, grid: tuple[int, int], features: Tensor) -> Tensor:
    """Return `alignment_loss` of hidden states on a grid, which is brought to that of the features if it is another.

    Args:
        head: Hidden states → what is compared, `AlignmentHead`.
        states: (B, N, D), row by row.
        grid: Rows and columns of the N states.
        features: (B, F, h, w) of a frozen network.
    """
    if tuple(features.shape[2:]) != grid:
        maps = states.transpose(1, 2).reshape(len(states), -1, *grid).float()
        maps = F.interpolate(maps, features.shape[2:], mode="bilinear", antialias=True)
        states = maps.flatten(2).transpose(1, 2).to(states.dtype)
    return alignment_loss(head(states), features.flatten(2).transpose(1, 2))
