"""The optimiser and its schedule, from plain values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from zoo.errors import ConfigError

__all__ = ["OptimizerConfig", "build_optimizer", "build_schedule"]


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW and a schedule of its learning rate.

    Attributes:
        lr: The highest learning rate.
        betas: Decays of the moving averages of gradients and of their squares.
        eps: Added to the denominator.
        weight_decay: Of matrices and larger; biases, norms and other vectors do not decay.
        schedule: After the warm-up: `constant`; `cosine`, half a cosine down to `final_ratio`; `one_cycle`, the same
            after a warm-up that is half a cosine, too; `inverse_sqrt`, √(warmup_steps / step), which knows no last
            step.
        warmup_steps: Optimiser steps from `initial_ratio` to 1, linear but for `one_cycle`.
        initial_ratio: Share of `lr` that the first step has, if there is a warm-up.
        final_ratio: Share of `lr` that the last step has.
        total_steps: Optimiser steps of the whole schedule; those of the trainer if None. Give it where a run is to be
            extended later, since the schedule must not change with the length of the run.
    """

    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.01
    schedule: Literal["constant", "cosine", "one_cycle", "inverse_sqrt"] = "cosine"
    warmup_steps: int = 0
    initial_ratio: float = 0.0
    final_ratio: float = 0.0
    total_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("lr", "eps"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"optimizer: {name} must be above 0, got {getattr(self, name)}.")
        if self.weight_decay < 0:
            raise ConfigError(f"optimizer: weight_decay must not be negative, got {self.weight_decay}.")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optimizer: betas must be at least 0 and below 1, got {self.betas}.")
        for name in ("initial_ratio", "final_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"optimizer: {name} is a share of lr, from 0 to 1, got {getattr(self, name)}.")
        if self.warmup_steps < 0:
            raise ConfigError(f"optimizer: warmup_steps must not be negative, got {self.warmup_steps}.")
        if self.total_steps is not None and self.total_steps <= self.warmup_steps:
            raise ConfigError(
                f"optimizer: total_steps must be more than warmup_steps ({self.warmup_steps}), got {self.total_steps}."
            )

    def ratio(self, step: int, total: float) -> float:
        """Return the share of `lr` that a step has.

        Args:
            step: Number of the step, from 0.
            total: Steps of the whole schedule; infinity never comes down.
        """
        if step < self.warmup_steps:
            # The first step is not at 0, where it would do nothing.
            progress = (step + 1) / (self.warmup_steps + 1)
            return _between(self.initial_ratio, 1.0, progress, is_smooth=self.schedule == "one_cycle")
        if self.schedule == "inverse_sqrt":
            return math.sqrt(max(1, self.warmup_steps) / (step + 1))
        if self.schedule == "constant" or math.isinf(total):
            return 1.0
        progress = min(1.0, (step - self.warmup_steps) / max(1.0, total - 1 - self.warmup_steps))
        return _between(1.0, self.final_ratio, progress, is_smooth=True)


def build_optimizer(config: OptimizerConfig, modules: Iterable[nn.Module]) -> AdamW:
    """Return the optimiser of all parameters of some modules that are trained."""
    trained = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], lr=config.lr, betas=config.betas, eps=config.eps)


def build_schedule(config: OptimizerConfig, optimizer: AdamW, estimated_steps: float) -> LambdaLR:
    """Return the schedule, to be stepped after every optimiser step.

    Args:
        config: Its values.
        optimizer: Whose learning rate it sets.
        estimated_steps: Steps of the run, for a config that does not say.
    """
    total = estimated_steps if config.total_steps is None else config.total_steps
    return LambdaLR(optimizer, lambda step: config.ratio(step, total))


def _between(start: float, end: float, progress: float, *, is_smooth: bool) -> float:
    weight = (1 - math.cos(math.pi * progress)) / 2 if is_smooth else progress
    return start + (end - start) * weight
