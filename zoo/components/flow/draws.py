"""The random numbers of flow matching, all of them functions of a generator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.components.flow.warps import Linear, Warp
from zoo.errors import InputError, shown
from zoo.process.random import require_generator, seeded

__all__ = ["draw_noise", "draw_times", "start_noise"]

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


def start_noise(
    shape: Sequence[int],
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    noise: Tensor | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> Tensor:
    """Return the noise that a decoder starts from, as its caller wants it.

    Args:
        shape: (B, ...).
        generator: Its source, as of `draw_noise`.
        noise: The noise itself, of that shape, in place of a generator.
        seed: Where neither is given, every item's noise is drawn from a generator of its own that starts here, so that
            an item does not depend on the others.
        device: Where to put it.

    Returns:
        (B, ...) float32.

    Raises:
        InputError: Both are given, the noise is of another shape, or generators are of another number.
    """
    if noise is None:
        own = [seeded(seed) for _ in range(shape[0])] if generator is None else generator
        return draw_noise(shape, own, device)
    if generator is not None:
        raise InputError("the noise is given: pass no generator.")
    if not isinstance(noise, Tensor) or tuple(noise.shape) != tuple(shape) or not noise.is_floating_point():
        found = tuple(noise.shape) if isinstance(noise, Tensor) else shown(noise)
        raise InputError(f"noise for {shape[0]} items must be a float tensor {tuple(shape)}, got {found}.")
    return noise.to(device, torch.float32)
