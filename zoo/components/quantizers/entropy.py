"""The entropy penalty of lookup-free quantization, without ever listing the codebook."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["MOST_SUMMED_BITS", "entropies", "entropies_of", "entropy_sums"]

MOST_SUMMED_BITS = 20
"""Most bits whose 2^d probabilities are worth keeping from batch to batch."""

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
    return entropies_of(*entropy_sums(z, temperature))


def entropy_sums(z: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return Σ H(π), Σ π as (2^⌈d/2⌉, 2^⌊d/2⌋), and the number of rows, which all add up over batches.

    Args:
        z: (N, d).
        temperature: τ.
    """
    logits = z * (4 / temperature)
    size = logits.abs()
    # H_b(σ(x)) = ln(1 + e^-|x|) + |x| σ(-|x|), which neither overflows nor cancels.
    total = (F.softplus(-size) + size * torch.sigmoid(-size)).sum(-1).sum()
    half = z.shape[1] // 2
    return total, _table(logits[:, half:]).T @ _table(logits[:, :half]), z.new_tensor(float(len(z)))


def entropies_of(total: Tensor, table: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    """Return E[H(π)] and H(E[π]) of `entropy_sums`."""
    average = table / number.clamp(min=1)
    return total / number.clamp(min=1), -(average * (average + _EPSILON).log()).sum()


def _table(logits: Tensor) -> Tensor:
    """Return the probability of each of the 2^d codes of logits (N, d), (N, 2^d), bit 0 least significant."""
    table = logits.new_ones(len(logits), 1)
    for logit in logits.T:
        table = torch.cat([table * torch.sigmoid(-logit)[:, None], table * torch.sigmoid(logit)[:, None]], 1)
    return table
