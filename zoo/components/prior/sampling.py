"""Drawing ids from logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.errors import InputError

__all__ = ["check_draws", "draw_ids"]


def draw_ids(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
) -> Tensor:
    """Draw an id of each row of logits (..., V), int64 (...).

    Args:
        logits: Unnormalised log-probabilities.
        temperature: What to divide them by.
        top_k: Keep only the k largest logits, and those that equal the smallest of them; all if None. 1 is greedy.
        top_p: Of what is left, keep only the likeliest ids up to the one with which their probabilities exceed p
            (Holtzman et al., arXiv 1904.09751); all if None.
        generator: Source of randomness, or one for each item of the first axis, which then draws the same whatever is
            beside it; the device's default one if None.

    Raises:
        InputError: An argument is out of range.
    """
    check_draws(temperature, top_k, top_p)
    logits = logits.float() / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        smallest = logits.topk(top_k, -1).values[..., -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if top_p is not None and top_p < 1:
        ordered, places = logits.sort(stable=True, dim=-1, descending=True)
        probabilities = ordered.softmax(-1)
        before = probabilities.cumsum(-1) - probabilities
        dropped = torch.zeros_like(before, dtype=torch.bool).scatter_(-1, places, before > top_p)
        logits = logits.masked_fill(dropped, -torch.inf)
    # A race of exponential clocks, which is how torch.multinomial draws one sample, and draws the same; but on the
    # generator's device, whichever the logits are on. A clock may be rounded to 0, and 0 / 0 would win.
    clocks = _clocks(logits, generator).clamp_(min=torch.finfo(torch.float32).tiny).to(logits.device)
    return (logits.softmax(-1) / clocks).argmax(-1)


def check_draws(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise `InputError` if there is nothing to draw from with such arguments of `draw_ids`."""
    if not temperature > 0:
        raise InputError(f"temperature must be positive, got {temperature}; for the most likely ids use top_k=1.")
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k must be at least 1, got {top_k}.")
    if top_p is not None and not 0 < top_p <= 1:
        raise InputError(f"top_p must be above 0 and at most 1, got {top_p}.")


def _clocks(logits: Tensor, generator: torch.Generator | Sequence[torch.Generator] | None) -> Tensor:
    """Return exponential numbers of the shape of the logits."""
    if isinstance(generator, Sequence):
        if len(generator) != len(logits):
            raise InputError(f"{len(logits)} items need as many generators, got {len(generator)}.")
        return torch.stack([_clocks(row, each) for row, each in zip(logits, generator, strict=True)])
    source = logits.device if generator is None else generator.device
    return torch.empty(logits.shape, dtype=logits.dtype, device=source).exponential_(generator=generator)
