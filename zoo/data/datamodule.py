"""The base of the data modules that recipes name: a data set a split, read so that training resumes exactly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

from lightning.pytorch import LightningDataModule
from torch.utils.data import Dataset

from zoo.data.loader import OrderedSampler, ResumableLoader, ResumableSampler, SeededItems, WatchedLoader
from zoo.errors import ConfigError

__all__ = ["DataModule", "Split"]

Split = Literal["train", "val", "test"]


class DataModule(LightningDataModule, ABC):
    """Data of one kind; a subclass implements `dataset`, and `collate` if torch's own does not do.

    A data set may draw random numbers from Python, NumPy and torch as it likes: they are seeded for each item. In
    validation and testing they are the same every time.

    Args:
        batch_size: Items of a training batch of one process.
        eval_batch_size: Items of a batch in validation and testing; `batch_size` if None.
        num_workers: Processes that read; 0 reads in the training process. The result is the same.
        seed: Of the order and of the random numbers that reading draws.
        pin_memory: Put batches where they are copied to a GPU faster.
    """

    def __init__(
        self,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__()
        for name, least in {"batch_size": 1, "eval_batch_size": 1, "num_workers": 0, "seed": 0}.items():
            value = locals()[name]
            if value is not None and value < least:
                raise ConfigError(f"data: {name} must be at least {least}, got {value}.")
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.pin_memory = pin_memory

    @abstractmethod
    def dataset(self, split: Split) -> Dataset[Any] | None:
        """Return the data set of a split, of the map style and with a length; None if there is none."""

    def collate(self, items: list[Any]) -> Any:
        """Make a batch of items."""
        from torch.utils.data import default_collate

        return default_collate(items)

    def on_batch(self, batch: Any) -> None:
        """See a batch before it is handed out, in the process that trains."""

    def on_epoch_end(self) -> None:
        """Know that the last batch of an epoch is handed out."""

    def __getstate__(self) -> dict[str, Any]:
        # Workers that are not forked get `collate` pickled, and the trainer is neither theirs nor always picklable.
        return {**self.__dict__, "trainer": None}

    def train_dataloader(self) -> ResumableLoader:
        """Return shuffled batches; in order and the same in every epoch, if a trainer has `overfit_batches`.

        Raises:
            ConfigError: There is no training data, or less than a batch.
        """
        dataset = self.dataset("train")
        if dataset is None:
            raise ConfigError(f"{type(self).__name__} has no training data.")
        sampler = self._sampler(dataset, is_training=True)
        if len(sampler) < self.batch_size:
            raise ConfigError(
                f"the training data has {len(sampler)} items a process, less than a batch of {self.batch_size}: "
                "choose a smaller batch_size."
            )
        loader = ResumableLoader(
            dataset,
            sampler,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate=self.collate,
            pin_memory=self.pin_memory,
        )
        loader.watcher = self
        return loader

    def val_dataloader(self) -> Any:
        """Return the batches to validate on, in order."""
        return self._eval_loader("val")

    def test_dataloader(self) -> Any:
        """Return the batches to test on, in order."""
        return self._eval_loader("test")

    def _eval_loader(self, split: Split) -> Any:
        dataset = self.dataset(split)
        if dataset is None:
            return []  # what Lightning takes for none
        # Not resumable: an evaluation always starts from the beginning.
        loader = WatchedLoader(
            SeededItems(dataset, self.seed),
            self.eval_batch_size,
            sampler=self._sampler(dataset, is_training=False),
            num_workers=self.num_workers,
            collate_fn=self.collate,
            pin_memory=self.pin_memory,
            persistent_workers=self.num_workers > 0,
        )
        loader.watcher = self
        return loader

    def _sampler(self, dataset: Dataset[Any], *, is_training: bool) -> ResumableSampler:
        trainer: Any = self.trainer
        overfits = trainer is not None and trainer.overfit_batches > 0
        kind = ResumableSampler if is_training and not overfits else OrderedSampler
        return kind(
            len(dataset),  # type: ignore[arg-type]
            seed=self.seed,
            drop_last=is_training,
            num_replicas=1 if trainer is None else trainer.world_size,
            rank=0 if trainer is None else trainer.global_rank,
        )
