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

    The curve of a loss that has ended ends too. Lightning repeats what was logged once until the epoch ends, to its
    loggers, and in `callback_metrics` for ever: after each value that is remembered it is made to forget it, so that
    the next one has been logged since.
    """

    def __init__(self) -> None:
        self._curves: Curves = {}
        self._is_told = False  # whether what was logged is in the curves

    @property
    def state_key(self) -> str:
        """Name in checkpoints."""
        return HISTORY_KEY

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget an earlier run."""
        if stage == "fit":
            self._curves, self._is_told = {}, False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Forget what was logged before, now that loggers and bars have had it."""
        if self._is_told:
            self._is_told = False
            _forget(trainer, "train/")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what the validation before has found."""
        if trainer.state.fn == "fit":
            _forget(trainer, "val/")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember what was logged, if it is time to."""
        every = getattr(trainer, "log_every_n_steps", 0)
        if every and trainer.global_step % every == 0:
            self._remember(trainer, "train/")
            self._is_told = True
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


def _forget(trainer: Trainer, beginning: str) -> None:
    """Make Lightning forget figures of single steps, and what it keeps of any; there is no public way."""
    results = trainer._results
    for metric in () if results is None else results.result_metrics:
        if metric.meta.name.startswith(beginning) and not metric.meta.on_epoch:
            metric.reset()
    for kept in (trainer.callback_metrics, trainer.logged_metrics):
        for name in [name for name in kept if name.startswith(beginning)]:
            del kept[name]
