"""The optimiser and its schedule, from plain values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from zoo.errors import ConfigError, MissingExtraError, near_matches

__all__ = ["EvaluationWeights", "OptimizerConfig", "build_optimizer", "build_schedule"]

OptimizerKind = Literal["adamw", "adam", "schedule_free_radam"]


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimiser and a schedule of its learning rate.

    Attributes:
        kind: `adamw`; `adam`, whose weight decay is part of the gradient; `schedule_free_radam` (Defazio et al., arXiv
            2405.15682, with the rectification of Liu et al., arXiv 1908.03265, as the package `schedulefree` has it),
            which averages weights itself instead of lowering the rate, and wants the schedule `constant`.
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

    kind: OptimizerKind = "adamw"
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
        if self.kind not in get_args(OptimizerKind):
            raise ConfigError(
                f"optimizer: there is no kind {self.kind!r}; {near_matches(self.kind, get_args(OptimizerKind))}"
            )
        if self.kind == "schedule_free_radam" and (self.schedule != "constant" or self.betas[0] == 0):
            raise ConfigError(
                "optimizer: schedule_free_radam needs `schedule: constant`, since its averaging takes the place of a "
                f"schedule, and a first beta above 0; got {self.schedule} and {self.betas[0]}."
            )
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

    @property
    def follows_run(self) -> bool:
        """Whether the schedule depends on how many steps the run has."""
        return self.total_steps is None and self.schedule in ("cosine", "one_cycle")

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


def build_optimizer(
    config: OptimizerConfig,
    modules: Iterable[nn.Module],
    without: nn.Module | None = None,
    faster: Sequence[tuple[nn.Module, float]] = (),
) -> Optimizer:
    """Return the optimiser of all parameters of some modules that are trained.

    Args:
        config: Its values.
        modules: Whose parameters it changes.
        without: Part of them that another optimiser has.
        faster: Parts of them whose learning rate is so many times that of the config, throughout the schedule.

    Raises:
        MissingExtraError: It is of a package that is not installed.
    """
    left_out = set() if without is None else set(without.parameters())
    trained = [p for module in modules for p in module.parameters() if p.requires_grad and p not in left_out]
    factors = {parameter: factor for part, factor in faster for parameter in part.parameters()}
    groups: Any = []
    for factor in dict.fromkeys(factors.get(parameter, 1.0) for parameter in trained):
        own = [parameter for parameter in trained if factors.get(parameter, 1.0) == factor]
        rate = {} if factor == 1 else {"lr": config.lr * factor}
        both = [
            {"params": [p for p in own if p.ndim >= 2], "weight_decay": config.weight_decay, **rate},
            {"params": [p for p in own if p.ndim < 2], "weight_decay": 0.0, **rate},
        ]
        groups += [group for group in both if group["params"]]
    if config.kind == "schedule_free_radam":
        return _schedule_free_radam(groups, config)
    kind = AdamW if config.kind == "adamw" else Adam
    return kind(groups, lr=config.lr, betas=config.betas, eps=config.eps)


def build_schedule(config: OptimizerConfig, optimizer: Optimizer, estimated_steps: float) -> LambdaLR:
    """Return the schedule, to be stepped after every optimiser step.

    Args:
        config: Its values.
        optimizer: Whose learning rate it sets.
        estimated_steps: Steps of the run, for a config that does not say.
    """
    total = estimated_steps if config.total_steps is None else config.total_steps
    return LambdaLR(optimizer, lambda step: config.ratio(step, total))


class EvaluationWeights:
    """Puts the weights that schedule-free optimisers evaluate in place of those that they train, and back bit for bit.

    Such an optimiser trains weights y and keeps what it takes to find their averages x, which are those to use. It can
    turn either into the other, but rounds; here y is kept meanwhile, so that a look at x does not change the run.
    Optimisers of other kinds are left alone.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[_Switching, list[tuple[nn.Parameter, Tensor]]]] = []

    @property
    def kept(self) -> dict[nn.Parameter, Tensor]:
        """The trained weights whose averages are in place now."""
        return {parameter: tensor for _, pairs in self._kept for parameter, tensor in pairs}

    @torch.no_grad()
    def put(self, optimizers: Sequence[Optimizer]) -> None:
        """Put the averages in place, where they are not yet."""
        for optimizer in optimizers:
            if isinstance(optimizer, _Switching) and optimizer.param_groups[0]["train_mode"]:
                parameters = [p for group in optimizer.param_groups for p in group["params"]]
                self._kept.append((optimizer, [(p, p.detach().clone()) for p in parameters]))
                optimizer.eval()

    @torch.no_grad()
    def put_back(self) -> None:
        """Put the trained weights back."""
        for optimizer, pairs in self._kept:
            optimizer.train()
            for parameter, tensor in pairs:
                parameter.copy_(tensor)
        self._kept = []

    @staticmethod
    def train(optimizers: Sequence[Optimizer]) -> None:
        """Have those train that were left evaluating; those that train already stay as they are."""
        for optimizer in optimizers:
            if isinstance(optimizer, _Switching):
                optimizer.train()

    @classmethod
    @contextmanager
    def of(cls, optimizers: Sequence[Optimizer]) -> Iterator[EvaluationWeights]:
        """Have the averages in place for a while."""
        weights = cls()
        weights.put(optimizers)
        try:
            yield weights
        finally:
            weights.put_back()


@runtime_checkable
class _Switching(Protocol):
    """An optimiser that holds two sets of weights, of which one is in place."""

    param_groups: list[dict[str, Any]]

    def train(self) -> None: ...

    def eval(self) -> None: ...


def _schedule_free_radam(groups: Any, config: OptimizerConfig) -> Optimizer:
    try:
        from schedulefree import RAdamScheduleFree
    except ImportError as error:
        raise MissingExtraError(
            "optimizer: schedule_free_radam needs the package schedulefree: pip install 'tokenizer-zoo[train]'."
        ) from error
    optimizer: Any = RAdamScheduleFree(groups, lr=config.lr, betas=config.betas, eps=config.eps)
    optimizer.train()
    return optimizer  # type: ignore[no-any-return]


def _between(start: float, end: float, progress: float, *, is_smooth: bool) -> float:
    weight = (1 - math.cos(math.pi * progress)) / 2 if is_smooth else progress
    return start + (end - start) * weight
