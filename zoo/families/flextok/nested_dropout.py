"""Nested dropout: training keeps the first k tokens of each image, so that they learn to matter in their order.

Rippel et al., arXiv 1402.0915; FlexTok section 3.2. What is never kept in training is not a good length to decode.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

__all__ = ["NestedDropout", "draw_lengths", "trained_lengths"]

NestedDropout = Literal["uniform", "pow2", "uniform_pow2"]
"""Which lengths of up to N training keeps: any, evenly ("uniform"); powers of two, evenly ("pow2"); any, evenly, and
then up to the next power of two ("uniform_pow2"), so that half of all images keep everything. N counts as a power."""


def trained_lengths(mode: NestedDropout, most: int) -> tuple[int, ...]:
    """Return the lengths that training keeps of at most `most` tokens, ascending."""
    if mode == "uniform":
        return tuple(range(1, most + 1))
    return (*(1 << power for power in range((most - 1).bit_length())), most)


def draw_lengths(
    mode: NestedDropout,
    most: int,
    batch: int,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw how many tokens each image of a batch keeps, int64 (B,).

    Args:
        mode: How.
        most: N.
        batch: B.
        generator: Source of randomness; the device's default one if None.
        device: Where to put them.
    """
    source = device if generator is None else generator.device
    lengths = torch.tensor(trained_lengths(mode, most), device=source)
    if mode == "uniform_pow2":
        drawn = torch.randint(1, most + 1, (batch,), generator=generator, device=source)
        return lengths[torch.searchsorted(lengths, drawn)].to(device)
    return lengths[torch.randint(len(lengths), (batch,), generator=generator, device=source)].to(device)
