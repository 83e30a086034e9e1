"""How a run is doing, as lines of text, where there is no terminal for a bar."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from torch import Tensor

__all__ = ["ProgressLines"]


class ProgressLines(ProgressBar):
    """Writes a line to stderr every `log_every_n_steps`: step, loss, learning rate, time left; and what is validated.

    What a batch system's log wants in place of a bar.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_on = True
        self._begun = (0, 0.0)  # step and time
        self._said = -1

    def disable(self) -> None:
        """Write nothing, as Lightning wants it of all processes but the first."""
        self._is_on = False

    def enable(self) -> None:
        """Write again."""
        self._is_on = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note when the run began."""
        self._begun, self._said = (trainer.global_step, time.monotonic()), trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a line, if it is time to."""
        every = getattr(trainer, "log_every_n_steps", 0)
        step = trainer.global_step
        if not every or step == self._said or step % every:
            return
        self._said = step
        total = trainer.estimated_stepping_batches
        is_endless = total in (-1, float("inf"))
        rates = [f"{optimizer.param_groups[0]['lr']:.3g}" for optimizer in trainer.optimizers]
        parts = [f"step {step:,}" if is_endless else f"step {step:,} of {int(total):,}"]
        parts += [f"loss {value:.4g}" for value in _numbers(trainer.callback_metrics, "train/loss").values()]
        parts += [f"learning rate {' and '.join(rates)}"]
        first, begun = self._begun
        if not is_endless:
            parts.append(f"{_duration((time.monotonic() - begun) / (step - first) * (total - step))} left")
        self._write(", ".join(parts))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what was found."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            found = _numbers(trainer.callback_metrics, "val/")
            if found:
                figures = ", ".join(f"{name.removeprefix('val/')} {value:.4g}" for name, value in found.items())
                self._write(f"step {trainer.global_step:,}, validation: {figures}")

    def _write(self, text: str) -> None:
        if self._is_on:
            print(text, file=sys.stderr, flush=True)


def _numbers(metrics: dict[str, Tensor], beginning: str) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if name.startswith(beginning)}


def _duration(seconds: float) -> str:
    """Return seconds as people say them: `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"
