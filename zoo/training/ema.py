"""Averaged weights: what validates and what is exported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from zoo.errors import ConfigError
from zoo.training.optim import EvaluationWeights

__all__ = ["EMA", "EMA_KEY", "EMAConfig"]

EMA_KEY = "zoo_ema"
"""Key of a checkpoint's callback states: `average`, the averaged parameters of the tokenizer, and `updates`."""


@dataclass(frozen=True)
class EMAConfig:
    """Averaged weights, as a recipe's section `ema` describes them.

    Attributes:
        decay: As of `EMA`.
        warmup: As of `EMA`.
        start: As of `EMA`.
    """

    decay: float = 0.999
    warmup: bool = True
    start: int = 0


class EMA(Callback):
    """Exponential moving average of the tokenizer's parameters, in place of them in validation and testing.

    The average is kept in float32 at least, whatever the parameters are in: a difference times 1 - γ is lost in the
    rounding of bfloat16.

    Buffers are not averaged: those of a quantizer are averages or counts already. Weights that other modules hold, such
    as a discriminator's, are not part of the tokenizer. Of a schedule-free optimiser, its averages are averaged again,
    not the weights that it trains. Parameters that are sharded over processes (FSDP) are not
    supported.

    Args:
        decay: γ of a ← γ a + (1 - γ) w after every optimiser step.
        warmup: Use min(γ, (1 + n) / (10 + n)) after n updates, so that a short run does not export its initial weights.
        start: The optimiser's steps before the first update; until then the average is a copy of the weights.
    """

    def __init__(self, decay: float = 0.999, warmup: bool = True, start: int = 0) -> None:
        if not 0 <= decay < 1 or start < 0:
            raise ConfigError(
                f"EMA: decay must be at least 0 and below 1, and start not negative, got {decay} and {start}."
            )
        self.start = start
        self.decay = decay
        self.warmup = warmup
        self._average: dict[str, Tensor] = {}
        self._kept: dict[str, Tensor] = {}  # the trained parameters, while the average is in their place
        self._updates = 0
        self._step = 0

    @property
    def state_key(self) -> str:
        """Name in checkpoints, whatever the arguments."""
        return EMA_KEY

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget an earlier run."""
        if stage == "fit":
            self._average, self._kept, self._updates = {}, {}, 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the initial weights, or from what a checkpoint had."""
        parameters = _parameters(pl_module)
        for name, parameter in parameters.items():
            start = self._average.get(name, parameter.detach())
            kind = torch.promote_types(parameter.dtype, torch.float32)
            self._average[name] = start.to(parameter.device, kind, copy=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note where the run is."""
        self._step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average, if the optimiser has made a step."""
        if trainer.global_step == self._step:
            return  # gradients are being accumulated
        self._step = trainer.global_step
        decay = min(self.decay, (1 + self._updates) / (10 + self._updates)) if self.warmup else self.decay
        if self._step <= self.start:
            decay = 0.0
        else:
            self._updates += 1
        parameters = _parameters(pl_module)
        with EvaluationWeights.of(trainer.optimizers):
            averages = [self._average[name] for name in parameters]
            weights = [p.detach().to(a.dtype) for p, a in zip(parameters.values(), averages, strict=True)]
            torch._foreach_lerp_(averages, weights, 1 - decay)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in place."""
        self._put(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained weights back."""
        self._put_back(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in place."""
        self._put(pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained weights back."""
        self._put_back(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the trained weights back, if a validation was interrupted."""
        self._put_back(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {"average": self._average, "updates": self._updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what a checkpoint holds."""
        self._average, self._updates = dict(state_dict["average"]), state_dict["updates"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write the trained weights as such, also if a validation is going on."""
        checkpoint["state_dict"].update({f"tokenizer.{name}": kept for name, kept in self._kept.items()})

    @torch.no_grad()
    def _put(self, module: LightningModule) -> None:
        if self._average and not self._kept:
            for name, parameter in _parameters(module).items():
                self._kept[name] = parameter.detach().clone()
                parameter.copy_(self._average[name])

    @torch.no_grad()
    def _put_back(self, module: LightningModule) -> None:
        parameters = _parameters(module)
        for name, kept in self._kept.items():
            parameters[name].copy_(kept)
        self._kept = {}


def _parameters(module: LightningModule) -> dict[str, nn.Parameter]:
    tokenizer = module.tokenizer
    if not isinstance(tokenizer, nn.Module):
        raise ConfigError(f"EMA averages the tokenizer of a TokenizerModule, and {type(module).__name__} is none.")
    return dict(tokenizer.named_parameters())
