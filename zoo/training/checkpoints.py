"""When training checkpoints are written, and how: between steps, whole or not at all, also when told to stop."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import distributed

from zoo.errors import CheckpointError, ConfigError
from zoo.training.integrity import require_intact

__all__ = ["LAST", "Checkpoints"]

LAST = "last.ckpt"

_STAGING = ".saving.ckpt"
_STOPPING = (signal.SIGINT, signal.SIGTERM)


class Checkpoints(Checkpoint):
    """Writes `last.ckpt`, from which a run goes on exactly where it was.

    It is written every so many optimiser steps, after the last one, and when a signal asks for it, which takes effect
    at the end of the step that is being made:

    * SIGTERM, and Ctrl-C: write, and stop with the exit code 143 or 130. A second one stops at once.
    * SIGUSR1, where nobody else uses it: write, and go on.

    The processes of a distributed run agree: it is enough that one gets the signal. A validation that is due at the
    very step of a checkpoint is not made up for by the run that goes on from it.

    Args:
        every_n_steps: Optimiser steps between two checkpoints.
        keep_every_n_steps: Keep a copy, `step=N.ckpt`, at these steps, a multiple of the above; none if None.
        folder: Where to; `checkpoints` in the trainer's `default_root_dir` if None.

    Raises:
        ConfigError: The numbers of steps do not fit.
    """

    def __init__(
        self, every_n_steps: int = 1000, keep_every_n_steps: int | None = None, folder: str | None = None
    ) -> None:
        if every_n_steps < 1:
            raise ConfigError(f"checkpoints: every_n_steps must be at least 1, got {every_n_steps}.")
        if keep_every_n_steps is not None and (keep_every_n_steps < 1 or keep_every_n_steps % every_n_steps):
            raise ConfigError(
                f"checkpoints: keep_every_n_steps must be a multiple of every_n_steps ({every_n_steps}), got "
                f"{keep_every_n_steps}."
            )
        self.every_n_steps = every_n_steps
        self.keep_every_n_steps = keep_every_n_steps
        self._folder = folder
        self._step = 0
        self._written: int | None = None
        self._signal = 0
        self._handlers: dict[int, Any] = {}

    def folder(self, trainer: Trainer) -> Path:
        """Return where the checkpoints of a trainer go."""
        return Path(trainer.default_root_dir, "checkpoints") if self._folder is None else Path(self._folder)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Look at the checkpoint to go on from before anything of it is used.

        Raises:
            CheckpointError: It is damaged.
        """
        if trainer.ckpt_path is not None and Path(trainer.ckpt_path).is_file():
            require_intact(trainer.ckpt_path)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to signals.

        Raises:
            CheckpointError: The folder has a checkpoint of another run, which would be overwritten.
        """
        last = self.folder(trainer) / LAST
        if trainer.ckpt_path is None and last.exists() and not _is_trial(trainer):
            raise CheckpointError(
                f"{last} is there already, from an earlier run: go on from it (--ckpt_path last), delete it, or choose "
                "another default_root_dir."
            )
        self._step, self._written, self._signal = trainer.global_step, None, 0
        if threading.current_thread() is not threading.main_thread():
            return
        wanted = list(_STOPPING)
        if hasattr(signal, "SIGUSR1") and signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL:
            wanted.append(signal.SIGUSR1)
        self._handlers = {number: signal.signal(number, self._note) for number in wanted}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write if it is time to."""
        step, before = trainer.global_step, self._step
        if step == before:
            return  # accumulated gradients are not in a checkpoint
        self._step = step
        number = self._agreed(trainer)
        # A module that optimises by hand may count several steps at once.
        is_due = step // self.every_n_steps != before // self.every_n_steps
        if is_due or number or _is_last(trainer):
            self._write(trainer)
        if number in _STOPPING:
            self._forget_signals()
            raise SystemExit(128 + number)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write again what was written right before a validation, with what that found.

        A run that goes on from there does not validate once more, and its curve would lack the point.
        """
        if trainer.state.fn == "fit" and not trainer.sanity_checking and self._written == trainer.global_step:
            self._write(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what a run that was stopped early has."""
        self._forget_signals()
        if trainer.global_step not in (0, self._written):
            self._write(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the signals to others."""
        self._forget_signals()

    def _write(self, trainer: Trainer) -> None:
        if _is_trial(trainer):
            return
        folder = self.folder(trainer)
        staged = folder / _STAGING
        trainer.save_checkpoint(staged, weights_only=False)  # on all processes; the first writes
        if trainer.is_global_zero:
            if not staged.is_file():
                raise CheckpointError(f"{type(trainer.strategy).__name__} does not write a checkpoint as one file.")
            _flush(staged)
            step = trainer.global_step
            if self.keep_every_n_steps and step % self.keep_every_n_steps == 0:
                _keep(staged, folder / f"step={step}.ckpt")
            # In place of the old one at one stroke, so that there always is a whole one.
            staged.replace(folder / LAST)
            _flush(folder)
        trainer.strategy.barrier("zoo.training.Checkpoints")
        self._written = trainer.global_step

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: remember it, and leave the next one to whoever had it before."""
        self._signal = number
        if number in _STOPPING:
            signal.signal(number, self._handlers.pop(number))

    def _agreed(self, trainer: Trainer) -> int:
        """Return the signal that any process has got since the last time, 0 if none."""
        number, self._signal = self._signal, 0
        if trainer.world_size == 1:
            return number
        shared = torch.tensor(number, device=trainer.strategy.root_device)
        distributed.all_reduce(shared, distributed.ReduceOp.MAX)
        return int(shared.item())

    def _forget_signals(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def _is_trial(trainer: Any) -> bool:
    """Whether the run only shows that it can be made, and leaves nothing behind."""
    return bool(trainer.fast_dev_run)


def _is_last(trainer: Trainer) -> bool:
    """Whether the run is over with this step."""
    if trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps:
        return True
    epochs = trainer.max_epochs
    return epochs not in (None, -1) and trainer.is_last_batch and trainer.current_epoch + 1 >= epochs


def _keep(path: Path, kept: Path) -> None:
    """Give a file a second name, or a copy where the file system (exFAT, FUSE, SMB) has no second names."""
    kept.unlink(missing_ok=True)
    try:
        os.link(path, kept)
    except (OSError, NotImplementedError):
        staged = kept.with_name(f".{kept.name}")  # beside it, so that `kept` is whole whenever it is there
        shutil.copyfile(path, staged)
        _flush(staged)
        staged.replace(kept)


def _flush(path: Path) -> None:
    """Have the system write a file or the names in a folder to the disk, where it can be asked to."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    except OSError:
        if path.is_file():  # a folder of SMB or FUSE cannot be flushed
            raise
    finally:
        os.close(handle)
