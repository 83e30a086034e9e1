"""Log-probabilities as information, in bits."""

from __future__ import annotations

import math

from torch import Tensor

from zoo.components.prior.causal import valid_positions

__all__ = ["bits_by_position", "bits_of_items", "bits_per_token"]


def bits_of_items(log_probs: Tensor) -> Tensor:
    """Return the information of each item, its end included, in bits, float64 (B,).

    Args:
        log_probs: (B, T) or (B, T, K) of `TokenGenerator.log_prob`, 0 where there is padding.
    """
    return -log_probs.double().flatten(1).sum(1) / math.log(2)


def bits_per_token(log_probs: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Return the mean information of a token, in bits, that of ends shared out among tokens; NaN if there is none.

    Args:
        log_probs: As of `bits_of_items`. The K ids of a token are added.
        lengths: (B,) tokens of each item; all T if None.
    """
    bits = bits_of_items(log_probs).sum()
    return bits / (log_probs.shape[0] * log_probs.shape[1] if lengths is None else lengths.sum())


def bits_by_position(log_probs: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Return the mean information at each position, in bits, float64 (T,) or (T, K); NaN where no item has a token.

    Arguments as of `bits_per_token`; ends do not count.
    """
    valid = valid_positions(lengths, log_probs)
    valid = valid.view(*valid.shape, *[1] * (log_probs.ndim - 2))
    total = log_probs.double().masked_fill(~valid, 0).sum(0)
    return -total / valid.sum(0) / math.log(2)
