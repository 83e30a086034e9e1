"""Batches in an order, and with random numbers, that a run stopped anywhere goes on with.

Which items make up a batch is a function of (seed, epoch, position), and every random number that reading an item
draws is a function of (seed, epoch, item). So neither the number of workers nor where a run was stopped matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, SequentialSampler

from zoo.errors import ConfigError
from zoo.process.random import derive_seed, preserved, seed_all

__all__ = ["OrderedSampler", "ResumableLoader", "ResumableSampler", "SeededItems", "WatchedLoader", "Watcher"]

_ORDER, _ITEM, _WORKERS = range(3)  # what a derived seed is for


class ResumableSampler(DistributedSampler[Any]):
    """The order of the items in each epoch, dealt out to the processes of a distributed run.

    Yields (epoch, index), which `SeededItems` takes. A `DistributedSampler`, so that Lightning leaves it in place.

    Args:
        num_items: Items of the data set.
        seed: Of the order; the same on all processes.
        shuffle: Another order in each epoch. If not, items come as they are, with the random numbers of epoch 0 always.
        drop_last: Leave out the few items that cannot be dealt out evenly, instead of repeating some.
        num_replicas: Processes.
        rank: Number of this one.

    Attributes:
        position: Items of this process to leave out at the start, because they were taken already.

    Raises:
        ConfigError: There is not one item for each process.
    """

    def __init__(
        self,
        num_items: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        if num_items < num_replicas:
            raise ConfigError(f"{num_items} items cannot be dealt out to {num_replicas} processes: use more data.")
        items = cast("Dataset[Any]", range(num_items))  # only its length is looked at
        super().__init__(items, num_replicas, rank, shuffle, seed, drop_last)
        self.num_items = num_items
        self.position = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch if self.shuffle else 0
        for index in self._order(epoch)[self.position :].tolist():
            yield epoch, index

    def _order(self, epoch: int) -> Tensor:
        """Return the items of this process, in order."""
        order = torch.arange(self.num_items, device="cpu")
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, _ORDER, epoch))
            order = torch.randperm(self.num_items, device="cpu", generator=generator)
        # total_size is a multiple of the processes, above or below the number of items.
        return order[torch.arange(self.rank, self.total_size, self.num_replicas, device="cpu") % self.num_items]


class OrderedSampler(ResumableSampler, SequentialSampler):  # type: ignore[misc]
    """A `ResumableSampler` that does not shuffle, and by its class says so.

    Where a run is to learn a few batches by heart (`Trainer(overfit_batches=…)`), Lightning replaces samplers of every
    other class by one that yields bare indices and knows nothing of processes.

    Args:
        num_items: As of `ResumableSampler`.
        options: As of `ResumableSampler`, without `shuffle`.
    """

    def __init__(self, num_items: int, **options: Any) -> None:
        super().__init__(num_items, shuffle=False, **options)


class SeededItems(Dataset[Any]):
    """Items of a data set, each read with the default generators seeded for it and given back afterwards.

    Args:
        dataset: Of the map style, with a length.
        seed: Of the random numbers.
    """

    def __init__(self, dataset: Dataset[Any], seed: int = 0) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, draw: tuple[int, int]) -> Any:
        epoch, index = draw
        with preserved():
            seed_all(derive_seed(self.seed, _ITEM, epoch, index), devices=False)
            return self.dataset[index]


class Watcher(Protocol):
    """Who is told of the batches that a loader hands out, in the process that asks for them."""

    def on_batch(self, batch: Any) -> None:
        """See a batch before it is handed out."""

    def on_epoch_end(self) -> None:
        """Know that the batch just seen is the last of an epoch."""


class WatchedLoader(DataLoader[Any]):
    """A loader that tells a watcher of its batches."""

    watcher: Watcher | None = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        left = self._num_left()
        for batch in super().__iter__():
            left -= 1
            if self.watcher is not None:
                self.watcher.on_batch(batch)
                if left == 0:  # Lightning counts, and never asks for a batch after the last
                    self.watcher.on_epoch_end()
            yield batch

    def _num_left(self) -> int:
        """Return how many batches the epoch that starts now will hand out."""
        return len(self)


class ResumableLoader(WatchedLoader):
    """A loader whose position, as `state_dict` tells it, counts the batches handed out, not those read ahead.

    Lightning puts it into checkpoints and gives it back.

    Args:
        dataset: Of the map style, with a length.
        sampler: The order.
        batch_size: Items of a batch of one process.
        drop_last: Leave out the last batch of an epoch if it is smaller.
        num_workers: Processes that read; 0 reads in this one.
        collate: Makes a batch of a list of items; torch's own if None.
        pin_memory: Put batches where they are copied to a GPU faster.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        sampler: ResumableSampler,
        *,
        batch_size: int,
        drop_last: bool = True,
        num_workers: int = 0,
        collate: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
    ) -> None:
        self._epoch = self._batches = 0
        self._resumed: Mapping[str, Any] | None = None
        super().__init__(
            SeededItems(dataset, sampler.seed),
            batch_size,
            sampler=sampler,
            num_workers=num_workers,
            collate_fn=collate,
            pin_memory=pin_memory,
            drop_last=drop_last,
            persistent_workers=num_workers > 0,
            # Otherwise every iterator draws a seed from the generator that training draws from.
            generator=torch.Generator().manual_seed(derive_seed(sampler.seed, _WORKERS)),
        )

    @property
    def order(self) -> ResumableSampler:
        """The sampler."""
        return cast("ResumableSampler", self.sampler)

    # A generator function, so that nothing happens before the first batch is asked for: Lightning makes the iterator
    # first and sets the epoch afterwards, when workers would have read ahead in the wrong one.
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        resumed, self._resumed = self._resumed, None
        self._epoch = self.order.epoch
        self._batches = resumed["batches"] if resumed is not None and resumed["epoch"] == self._epoch else 0
        self.order.position = self._batches * cast("int", self.batch_size)
        for batch in super().__iter__():
            self._batches += 1
            yield batch

    def _num_left(self) -> int:
        return len(self) - self._batches

    def state_dict(self) -> dict[str, Any]:
        """Return where the loader is, and what that depends on."""
        return {"epoch": self._epoch, "batches": self._batches, **self._geometry()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state_dict` was called, as soon as the epoch is the same.

        Raises:
            ConfigError: The data or how it is dealt out has changed, so that the position means something else.
        """
        changed = [
            f"{key} was {state.get(key)} and is {now}" for key, now in self._geometry().items() if state.get(key) != now
        ]
        if changed:
            raise ConfigError(
                f"the run cannot go on exactly where it was stopped: {', '.join(changed)}. Restore these, or start a "
                "new run."
            )
        self._resumed = state

    def _geometry(self) -> dict[str, Any]:
        order = self.order
        return {
            "num_items": order.num_items,
            "batch_size": self.batch_size,
            "processes": order.num_replicas,
            "seed": order.seed,
            "shuffle": order.shuffle,
        }
