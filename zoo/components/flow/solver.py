"""From noise to data: the ordinary differential equation dx/dt = v(x, t), solved in few steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from zoo.components.flow.guidance import Guidance, Guide
from zoo.components.flow.path import Path
from zoo.components.flow.warps import Linear, Warp
from zoo.config import check_fields
from zoo.errors import ConfigError, InputError

__all__ = ["Solver", "Velocity", "sample"]

Velocity = Callable[..., Tensor]
"""A network, called with x (B, ...), times (B,) and the conditions (B, ...); returns velocities (B, ...)."""


@dataclass(frozen=True)
class Solver:
    """How to solve.

    Attributes:
        num_steps: N.
        method: "euler", one velocity a step; or "heun", two of them, with an error that falls with N² instead of N.
        warp: Where the steps are: at the warp of equally spaced times.

    Raises:
        ConfigError: There is no step, or another field holds none of its values.
    """

    num_steps: int
    method: Literal["euler", "heun"] = "euler"
    warp: Warp = field(default_factory=Linear)

    def __post_init__(self) -> None:
        check_fields(self, "solver")
        if self.num_steps < 1:
            raise ConfigError(f"solver: num_steps must be at least 1, got {self.num_steps}.")

    def times(self, path: Path) -> list[float]:
        """Return the N + 1 times from noise to data."""
        # Division of integers, which is exact at both ends, where linspace need not be.
        u = torch.arange(self.num_steps + 1, dtype=torch.float64, device="cpu") / self.num_steps
        times: list[float] = self.warp(u).tolist()
        return times if path.noise_time == 0 else times[::-1]


def sample(
    velocity: Velocity,
    noise: Tensor,
    path: Path,
    solver: Solver,
    *,
    conditions: Sequence[Tensor] = (),
    null: Sequence[Tensor] | None = None,
    guidance: Guidance | None = None,
) -> Tensor:
    """Turn noise into data, a function of the arguments alone; each item's path is its own.

    Gradients are recorded unless the caller prevents it.

    Args:
        velocity: The network. With guidance it is called once a time with twice the batch: first the items with their
            conditions, then the same ones with null conditions.
        noise: (B, ...), `draw_noise`. x stays in its dtype; times are float32, or float64 if it is.
        path: What the network was trained with.
        solver: Number and kind of steps.
        conditions: (B, ...) each.
        null: What stands for no condition, broadcast to each condition. Needed for guidance.
        guidance: None, or without effect at some time, calls the network with conditions alone.

    Returns:
        (B, ...).

    Raises:
        InputError: Guidance lacks null conditions, or they or the conditions do not fit.
    """
    slope = _slope(velocity, path, conditions, null, guidance, len(noise))
    x = noise
    for now, later in pairwise(solver.times(path)):
        step = later - now
        first = slope(x, now)
        ahead = x + step * first
        x = ahead if solver.method == "euler" else x + step / 2 * (first + slope(ahead, later))
    return x


def _slope(
    velocity: Velocity,
    path: Path,
    conditions: Sequence[Tensor],
    null: Sequence[Tensor] | None,
    guidance: Guidance | None,
    batch: int,
) -> Callable[[Tensor, float], Tensor]:
    """Return dx/dt as a function of x and t, guided."""
    for number, condition in enumerate(conditions):
        if len(condition) != batch:
            raise InputError(f"condition {number} is of {len(condition)} items, the noise of {batch}.")
    both: list[Tensor] = []
    guide = None
    if guidance is not None:
        if null is None or len(null) != len(conditions) or not conditions:
            raise InputError(
                f"guidance compares with null conditions, one a condition: got {len(conditions)} conditions and "
                f"{0 if null is None else len(null)} null ones."
            )
        both = [
            torch.cat([condition, nothing.to(condition.dtype).expand_as(condition)])
            for condition, nothing in zip(conditions, null, strict=True)
        ]
        guide = Guide(guidance.adaptive)

    def slope(x: Tensor, t: float) -> Tensor:
        excess = 0.0 if guidance is None else guidance.excess(t)
        dtype = torch.promote_types(x.dtype, torch.float32)
        if guide is None or excess == 0:
            times = torch.full((batch,), t, dtype=dtype, device=x.device)
            return path.slope(velocity(x, times, *conditions)).to(x.dtype)
        times = torch.full((2 * batch,), t, dtype=dtype, device=x.device)
        guided, unguided = velocity(torch.cat([x, x]), times, *both).to(x.dtype).chunk(2)
        return path.slope(guide(guided, unguided, excess))

    return slope
