"""What Lightning's checkpoints lack for a run to go on exactly: the random generators, and the position in the data."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import distributed

from zoo.data.loader import ResumableLoader
from zoo.errors import ConfigError
from zoo.process.random import capture, derive_seed, from_primitive, restore, seed_all, to_primitive

__all__ = ["POSITION", "RANDOM_STATES", "ExactResume"]

POSITION = "zoo_position"
"""Key of a checkpoint: where the training data is, as `ResumableLoader.state_dict` says it."""

RANDOM_STATES = "zoo_random_states"
"""Key of a checkpoint: the generators' states after the last training step, one a process."""

_VALIDATION_SEED = 0


class ExactResume(Callback):
    """Goes on where a run was stopped: the same batches, the same random numbers.

    Keeps the random numbers of training to training steps, and their state in every checkpoint.

    Each training step starts with the generators as the step before it left them, whatever validation, logging or
    loading drew in between. So a run that was stopped and resumed draws what one that was never stopped draws. Every
    validation and test starts from the same seed, so that their results can be compared.

    The processes of a distributed run draw different numbers; their initial weights are those of the first.
    """

    def __init__(self) -> None:
        self._state: dict[str, Any] | None = None
        self._position: dict[str, Any] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget an earlier run."""
        self._state = self._position = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from what the run was seeded with."""
        if self._state is None:
            if trainer.global_rank:
                # Lightning seeds all processes alike, and so would give them the same noise.
                seed_all(derive_seed(torch.initial_seed(), trainer.global_rank))
            self._state = capture()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the position.

        Raises:
            ConfigError: The data or how it is dealt out has changed.
        """
        # Lightning would do it, but not if anything has asked how many steps the run will have, as schedules do.
        loader = trainer.train_dataloader
        if self._position is not None and isinstance(loader, ResumableLoader):
            loader.load_state_dict(self._position)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Set the generators."""
        if self._state is not None:
            restore(self._state)
        # Lightning does not count an epoch as begun if the run was stopped before its first batch, and then takes a
        # second stop within it for one between epochs.
        epochs: Any = trainer.fit_loop.epoch_progress
        for counter in (epochs.total, epochs.current):
            counter.ready = max(counter.ready, counter.processed + 1)
            counter.started = max(counter.started, counter.processed + 1)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the generators' state."""
        self._state = capture()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed the generators."""
        seed_all(derive_seed(_VALIDATION_SEED, trainer.global_rank))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed the generators."""
        seed_all(derive_seed(_VALIDATION_SEED, trainer.global_rank))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put position and states of all processes into a checkpoint, which Lightning collects on each of them."""
        if isinstance(trainer.train_dataloader, ResumableLoader):
            checkpoint[POSITION] = trainer.train_dataloader.state_dict()
        mine = to_primitive(capture() if self._state is None else self._state)
        states = [mine] * trainer.world_size
        if trainer.world_size > 1:
            distributed.all_gather_object(states, mine)
        checkpoint[RANDOM_STATES] = states

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the position and this process's state from a checkpoint.

        Raises:
            ConfigError: It has none, or those of another number of processes.
        """
        if trainer.state.fn != "fit":
            return
        states = checkpoint.get(RANDOM_STATES)
        if states is None:
            raise ConfigError(
                "the run cannot be resumed exactly: the checkpoint has no state of the random generators."
            )
        if len(states) != trainer.world_size:
            raise ConfigError(
                f"the run cannot be resumed exactly: it had {len(states)} processes, and there are "
                f"{trainer.world_size} now. Use as many, or start a new run from its exported weights."
            )
        self._position = checkpoint.get(POSITION)
        self._state = from_primitive(states[trainer.global_rank])
