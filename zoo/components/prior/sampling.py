"""Drawing ids from logits."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.errors import InputError

__all__ = ["draw_ids"]


def draw_ids(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw an id of each row of logits (..., V), int64 (...).

    Args:
        logits: Unnormalised log-probabilities.
        temperature: What to divide them by.
        top_k: Keep only the k largest logits, and those that equal the smallest of them; all if None. 1 is greedy.
        generator: Source of randomness; the device's default one if None.

    Raises:
        InputError: The temperature or k is not positive.
    """
    if not temperature > 0:
        raise InputError(f"temperature must be positive, got {temperature}; for the most likely ids use top_k=1.")
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k must be at least 1, got {top_k}.")
    logits = logits.float() / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        smallest = logits.topk(top_k, -1).values[..., -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    # A race of exponential clocks, which is how torch.multinomial draws one sample, and draws the same; but on the
    # generator's device, whichever the logits are on.
    source = logits.device if generator is None else generator.device
    clocks = torch.empty(logits.shape, dtype=logits.dtype, device=source).exponential_(generator=generator)
    # A clock may be rounded to 0, and 0 / 0 would win.
    clocks = clocks.clamp_(min=torch.finfo(torch.float32).tiny).to(logits.device)
    return (logits.softmax(-1) / clocks).argmax(-1)
