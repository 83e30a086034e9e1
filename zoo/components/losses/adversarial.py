"""What a discriminator and the network that it judges learn from one another: least squares and feature matching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import InputError

__all__ = ["discriminator_loss", "feature_loss", "generator_loss"]


def discriminator_loss(real: Sequence[Tensor], made: Sequence[Tensor]) -> Tensor:
    """Return how far several discriminators are from saying 1 of what is real and 0 of what is made.

    Least squares (Mao et al., arXiv 1611.04076), the mean over the discriminators.

    Args:
        real: The judgement of each on real data, of any shape.
        made: The same on what was made.

    Raises:
        InputError: There are none, or not as many of the one as of the other.
    """
    pairs = _paired(real, made)
    return torch.stack([(1 - r.float()).square().mean() + m.float().square().mean() for r, m in pairs]).mean()


def generator_loss(made: Sequence[Tensor]) -> Tensor:
    """Return how far several discriminators are from saying 1 of what was made, the mean over them.

    Raises:
        InputError: There are none.
    """
    pairs = _paired(made, made)
    return torch.stack([(1 - m.float()).square().mean() for m, _ in pairs]).mean()


def feature_loss(real: Sequence[Sequence[Tensor]], made: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return the mean difference of discriminators' inner features, relative to the real ones' mean size.

    Feature matching (Larsen et al., arXiv 1512.09300), with the normalisation of arXiv 2210.13438 (equation 3), without
    which the deepest features count as much as they happen to be large.

    Args:
        real: Features of each layer of each discriminator on real data, which get no gradient.
        made: The same on what was made.

    Raises:
        InputError: There are none, or not as many of the one as of the other.
    """
    differences = [
        F.l1_loss(m.float(), r.detach().float()) / r.detach().float().abs().mean().clamp(min=1e-6)
        for all_real, all_made in _paired(real, made)
        for r, m in _paired(all_real, all_made)
    ]
    return torch.stack(differences).mean()


def _paired(real: Sequence[Any], made: Sequence[Any]) -> list[tuple[Any, Any]]:
    if not real or len(real) != len(made):
        raise InputError(f"equally many judgements of real and made data are needed, got {len(real)} and {len(made)}.")
    return list(zip(real, made, strict=True))
