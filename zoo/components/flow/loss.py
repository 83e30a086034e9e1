"""How far predicted velocities are off."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.errors import InputError

__all__ = ["flow_loss", "item_errors"]


def item_errors(predicted: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return each item's mean squared error over its valid elements, in float32 at least.

    Args:
        predicted: (B, ...).
        target: (B, ...).
        mask: bool, broadcast to (B, ...), False where there is padding, which may hold anything; all valid if None.

    Returns:
        (B,), 0 for an item that is padding alone.

    Raises:
        InputError: Shapes or the mask's dtype do not fit.
    """
    error, counts = _errors(predicted, target, mask)
    return error / counts.clamp(min=1)


def flow_loss(
    predicted: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    by_size: bool = False,
) -> Tensor:
    """Return the weighted mean of the items' errors, Σ w·e / Σ w; 0 if no item counts.

    Args:
        predicted: (B, ...), the network's output.
        target: (B, ...), `Path.velocity`.
        mask: As in `item_errors`.
        weights: w (B,), of each item, not negative, e.g. a function of its time; 1 if None.
        by_size: Multiply the weights by the items' numbers of valid elements: the mean is over elements, not items.

    Raises:
        InputError: Shapes or the mask's dtype do not fit.
    """
    error, counts = _errors(predicted, target, mask)
    if weights is not None and weights.shape != counts.shape:
        raise InputError(f"one weight an item is needed: {tuple(counts.shape)}, got {tuple(weights.shape)}.")
    # An item of padding alone has no error to average, so it does not count either.
    shares = counts if by_size else (counts > 0).float()
    shares = shares if weights is None else shares * weights
    total = shares.sum()
    return (shares * error / counts.clamp(min=1)).sum() / torch.where(total > 0, total, 1)


def _errors(predicted: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return each item's sum of squared errors, and over how many elements it is, (B,) each."""
    if predicted.shape != target.shape or predicted.ndim < 1:
        raise InputError(f"prediction {tuple(predicted.shape)} and target {tuple(target.shape)} differ in shape.")
    dtype = torch.promote_types(predicted.dtype, torch.float32)
    difference = predicted.to(dtype) - target.to(dtype)
    if mask is None:
        counts = difference.new_full((len(difference),), difference[:1].numel())
    else:
        if mask.dtype != torch.bool or mask.ndim != target.ndim or mask.shape[0] != len(target):
            raise InputError(
                f"the mask must be bool, of a shape that broadcasts to {tuple(target.shape)} and has its batch axis, "
                f"got {mask.dtype} of {tuple(mask.shape)}."
            )
        mask = mask.expand_as(difference)
        # Filled before it is squared: the gradient of NaN² is NaN even where it is multiplied by zero.
        difference = difference.masked_fill(~mask, 0)
        counts = mask.flatten(1).sum(1).float() if mask.ndim > 1 else mask.float()
    squares = difference.square()
    return (squares.flatten(1).sum(1) if squares.ndim > 1 else squares), counts
