"""The scalars of a run, kept in its checkpoints, so that they come along with the weights that it makes."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

__all__ = ["HISTORY_KEY", "Curves", "History"]

HISTORY_KEY = "zoo_history"
"""Key of a checkpoint's callback states: `curves`."""

Curves = dict[str, tuple[list[int], list[float]]]
"""Optimiser steps and values of each scalar, by name."""

_MOST = 1000


class History(Callback):
    """Remembers what is logged: each `log_every_n_steps` of training with the learning rate, and each validation.

    A run that was stopped and goes on has one curve, whatever its loggers made of it. Of a long run, every second
    value is forgotten as often as it has too many.
    """

    def __init__(self) -> None:
        self._curves: Curves = {}

    @property
    def state_key(self) -> str:
        """Name in checkpoints."""
        return HISTORY_KEY

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget an earlier run."""
        if stage == "fit":
            self._curves = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember what was logged, if it is time to."""
        every = getattr(trainer, "log_every_n_steps", 0)
        if every and trainer.global_step % every == 0:
            self._remember(trainer, "train/")
            if trainer.optimizers:
                self._add("train/learning_rate", trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember what was found."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._remember(trainer, "val/")

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {"curves": self._curves}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what a checkpoint holds."""
        self._curves = {name: (list(steps), list(values)) for name, (steps, values) in state_dict["curves"].items()}

    def _remember(self, trainer: Trainer, beginning: str) -> None:
        for name, value in trainer.callback_metrics.items():
            if name.startswith(beginning):
                self._add(name, trainer.global_step, float(value))

    def _add(self, name: str, step: int, value: float) -> None:
        steps, values = self._curves.setdefault(name, ([], []))
        if steps and steps[-1] == step:  # a step of accumulated gradients is of several batches
            values[-1] = value
            return
        steps.append(step)
        values.append(value)
        if len(steps) > _MOST:
            del steps[:-1:2], values[:-1:2]
