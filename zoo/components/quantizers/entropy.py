"""The entropy penalty of lookup-free quantization, without ever listing the codebook."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.components.quantizers.base import mean

__all__ = ["entropies"]

_EPSILON = 1e-5


def entropies(z: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return E[H(π)] and H(E[π]) in nats (arXiv 2310.05737, equation 4).

    π is the softmax over all codes c ∈ {±1}^d of 2 z·c / τ. It factorises into one Bernoulli a bit, P(bit j = 1) =
    σ(4 z_j / τ), so that H(π) is a sum of d binary entropies, and the mean of π over rows is a product of two tables,
    of the codes of the lower and of the upper half of the bits: 2^(d/2) columns each instead of one of 2^d.

    Args:
        z: (N, d).
        temperature: τ.
    """
    logits = z * (4 / temperature)
    size = logits.abs()
    # H_b(σ(x)) = ln(1 + e^-|x|) + |x| σ(-|x|), which neither overflows nor cancels.
    each = mean((F.softplus(-size) + size * torch.sigmoid(-size)).sum(-1))
    half = z.shape[1] // 2
    average = _table(logits[:, half:]).T @ _table(logits[:, :half]) / max(1, len(z))
    return each, -(average * (average + _EPSILON).log()).sum()


def _table(logits: Tensor) -> Tensor:
    """Return the probability of each of the 2^d codes of logits (N, d), (N, 2^d), bit 0 least significant."""
    table = logits.new_ones(len(logits), 1)
    for logit in logits.T:
        table = torch.cat([table * torch.sigmoid(-logit)[:, None], table * torch.sigmoid(logit)[:, None]], 1)
    return table
