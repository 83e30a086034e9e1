"""The random numbers of flow matching, all of them functions of a generator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.components.flow.warps import Linear, Warp
from zoo.errors import InputError
from zoo.process.random import require_generator

__all__ = ["draw_noise", "draw_times"]

_LINEAR = Linear()


def draw_times(
    num: int,
    warp: Warp = _LINEAR,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    *,
    is_stratified: bool = False,
) -> Tensor:
    """Draw training times in [0, 1].

    Args:
        num: B, how many.
        warp: Their distribution; uniform if not given.
        generator: Source of randomness; the device's default one if None.
        device: Where to put them.
        is_stratified: Draw one time in each of B equally likely parts of the distribution, in random order, so that no
            batch lacks early or late times.

    Returns:
        (B,) float32.
    """
    source = device if generator is None else generator.device
    u = torch.rand(num, dtype=torch.float32, generator=generator, device=source)
    if is_stratified:
        u = (torch.randperm(num, generator=generator, device=source) + u) / num
    return warp(u).to(device)


def draw_noise(
    shape: Sequence[int],
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw standard normal noise item by item, so that an item's does not depend on how many follow it.

    Args:
        shape: (B, ...).
        generator: Source of randomness, or one an item, which makes each item's noise its own whatever batch it is in;
            the device's default one if None.
        device: Where to put it. The numbers depend on the generator's device alone.

    Returns:
        (B, ...) float32.

    Raises:
        InputError: There are not as many generators as items, or one is none.
    """
    batch, *rest = shape
    sources = list(generator) if isinstance(generator, Sequence) else [generator] * batch
    if len(sources) != batch:
        raise InputError(f"one generator an item is needed: got {len(sources)} for {batch} items.")
    for source in sources:
        if source is not None:
            require_generator(source)
    noise = [
        torch.randn(rest, dtype=torch.float32, generator=source, device=device if source is None else source.device)
        for source in sources
    ]
    return torch.stack(noise).to(device) if noise else torch.empty(tuple(shape), dtype=torch.float32, device=device)
