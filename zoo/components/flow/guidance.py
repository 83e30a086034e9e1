"""Classifier-free guidance: away from what the network predicts without its conditions (arXiv 2207.12598)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.config import check_fields
from zoo.errors import ConfigError, InputError

__all__ = ["Adaptive", "Guidance", "Guide", "drop_conditions"]


@dataclass(frozen=True)
class Adaptive:
    """Adaptive projected guidance, which oversaturates less (arXiv 2410.02416).

    The difference of the branches is replaced, an item at a time, by d = a·min(1, r/|a|), where a ← difference + β·a
    runs along, and the part of d that is parallel to the conditional velocity is multiplied by η.

    Attributes:
        momentum: β; negative pushes away from earlier differences.
        threshold: r, the largest norm of d; None for no limit.
        parallel: η.

    Raises:
        ConfigError: The threshold is not positive.
    """

    momentum: float = -0.5
    threshold: float | None = 2.5
    parallel: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "adaptive guidance")
        if self.threshold is not None and self.threshold <= 0:
            raise ConfigError(f"adaptive guidance: threshold must be positive, got {self.threshold}.")


@dataclass(frozen=True)
class Guidance:
    """v = v_origin + w·(v_condition - v_null).

    Attributes:
        scale: w, or a function of the time t, e.g. one that guides only within an interval.
        origin: What w is counted from. "null": v_null + w·(v_condition - v_null), of no effect at w = 1. "condition":
            (1 + w)·v_condition - w·v_null, of no effect at w = 0, and the same as w + 1 from "null".
        adaptive: How to change the difference; as it is if None.

    Raises:
        ConfigError: The origin is neither.
    """

    scale: float | Callable[[float], float]
    origin: Literal["null", "condition"] = "null"
    adaptive: Adaptive | None = None

    def __post_init__(self) -> None:
        if self.origin not in ("null", "condition"):
            raise ConfigError(f"guidance: origin must be 'null' or 'condition', got {self.origin!r}.")

    def excess(self, t: float) -> float:
        """Return how many differences to add to the conditional velocity at time t; at 0 there is no guidance."""
        scale = self.scale(t) if callable(self.scale) else self.scale
        return scale - 1 if self.origin == "null" else scale


class Guide:
    """Guides the velocities of one run of a solver; it holds what adaptive guidance remembers of it.

    Args:
        adaptive: As `Guidance.adaptive`.
    """

    def __init__(self, adaptive: Adaptive | None) -> None:
        self.adaptive = adaptive
        self._running: Tensor | None = None

    def __call__(self, condition: Tensor, null: Tensor, excess: float) -> Tensor:
        """Return the guided velocity (B, ...) of those with and without conditions, (B, ...) each."""
        difference = condition - null
        if self.adaptive is not None:
            difference = self._adapt(difference, condition, self.adaptive)
        return condition + excess * difference

    def _adapt(self, difference: Tensor, condition: Tensor, options: Adaptive) -> Tensor:
        if self._running is not None:
            difference = difference + options.momentum * self._running
        self._running = difference
        # In float64, as the paper has it: the projection is a difference of nearly equal numbers.
        update = difference.flatten(1).double()
        if options.threshold is not None:
            norm = update.norm(dim=1, keepdim=True)
            update = update * (options.threshold / norm.clamp(min=1e-12)).clamp(max=1)
        direction = F.normalize(condition.flatten(1).double(), dim=1)
        along = (update * direction).sum(1, keepdim=True) * direction
        return (update + (options.parallel - 1) * along).view_as(condition).to(condition.dtype)


def drop_conditions(
    conditions: Sequence[Tensor],
    null: Sequence[Tensor],
    rate: float,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, ...]:
    """Replace, for training, all conditions of an item by those that mean none, with probability `rate`.

    Args:
        conditions: (B, ...) each.
        null: What stands for no condition, broadcast to each; gradients reach it.
        rate: The probability.
        generator: Source of randomness; the device's default one if None.

    Raises:
        InputError: There are more or fewer conditions than null ones.
    """
    if len(conditions) != len(null):
        raise InputError(f"every condition needs a null one: got {len(conditions)} and {len(null)}.")
    if not conditions:
        return ()
    first = conditions[0]
    source = first.device if generator is None else generator.device
    is_dropped = (torch.rand(len(first), dtype=torch.float32, generator=generator, device=source) < rate).to(
        first.device
    )
    return tuple(
        torch.where(is_dropped.view(-1, *[1] * (condition.ndim - 1)), nothing, condition)
        for condition, nothing in zip(conditions, null, strict=True)
    )
