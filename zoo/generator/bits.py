"""Log-probabilities as information, in bits."""

from __future__ import annotations

import math

from torch import Tensor

from zoo.components.prior.causal import valid_positions

__all__ = ["bits_by_position", "bits_per_token"]


def bits_per_token(log_probs: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Return the mean information of a token, in bits; NaN if there is none.

    Args:
        log_probs: (B, T) or (B, T, K) of `TokenPrior.log_prob`. The K ids of a token are added.
        lengths: (B,) tokens of each item; all T if None.
    """
    per_token = log_probs if log_probs.ndim == 2 else log_probs.sum(2)
    return -per_token[valid_positions(lengths, per_token)].double().mean() / math.log(2)


def bits_by_position(log_probs: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Return the mean information at each position, in bits, float64 (T,) or (T, K); NaN where no item has a token.

    Arguments as of `bits_per_token`.
    """
    valid = valid_positions(lengths, log_probs)
    valid = valid.view(*valid.shape, *[1] * (log_probs.ndim - 2))
    total = log_probs.double().masked_fill(~valid, 0).sum(0)
    return -total / valid.sum(0) / math.log(2)
