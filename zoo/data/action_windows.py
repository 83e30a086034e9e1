"""Windows of robot actions, for what is trained on them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo import resources
from zoo.data.actions import chunk_episodes, read_actions
from zoo.data.datamodule import DataModule, Split
from zoo.errors import ConfigError

__all__ = ["ActionBatch", "ActionData", "ActionItems"]


class ActionBatch(NamedTuple):
    """What `ActionData` gives.

    Attributes:
        actions: (B, T, D) float32 in physical units, the last action repeated past each item's end.
        lengths: (B,) int64, commands of each item.
    """

    actions: Tensor
    lengths: Tensor


class ActionItems(Dataset[tuple[Tensor, int]]):
    """Windows of episodes as (actions (T, D), commands that are the episode's own).

    Args:
        windows: (N, T, D).
        counts: (N,).
    """

    def __init__(self, windows: Tensor, counts: Tensor) -> None:
        self.windows = windows
        self.counts = counts

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.windows[index], int(self.counts[index])


class ActionData(DataModule):
    """Windows of `num_steps` commands of episodes, in whatever file or folder `zoo.data.actions.read_actions` reads.

    Args:
        file: Where they are; what `recipes/data/metaworld.py` makes if None.
        num_steps: Commands of an item, such as one or several horizons of a tokenizer.
        stride: Commands between the beginnings of two items in training; `num_steps` if None. Evaluation takes each
            command once.
        splits: The file's name of each split; `{train: train, val: test, test: test}` if None.
        batch_size: Items of a training batch of one process.
        eval_batch_size: Items of a batch in validation and testing; `batch_size` if None.
        num_workers: Processes that read; 0 reads in the training process. The result is the same.
        seed: Of the order.
        pin_memory: Put batches where they are copied to a GPU faster.
    """

    def __init__(
        self,
        file: str | None = None,
        num_steps: int = 20,
        stride: int | None = None,
        splits: dict[str, str] | None = None,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, num_workers, seed, pin_memory)
        self.file = resources.cache() / "metaworld.npz" if file is None else resources.expanded(file)
        self.is_default = file is None
        self.num_steps = num_steps
        self.stride = stride
        self.splits = {"train": "train", "val": "test", "test": "test"} if splits is None else splits

    def dataset(self, split: Split) -> ActionItems | None:
        """Return the windows of a split; None if the file has none of it.

        Raises:
            ConfigError: There is no such file.
            InputError: It cannot be read, or the numbers of steps make no windows.
        """
        if split not in self.splits:
            return None
        if self.is_default and not self.file.exists():
            raise ConfigError(
                f"{self.file} does not exist: make it with `zoo data metaworld`, or point data.file at yours."
            )
        episodes = read_actions(self.file, split=self.splits[split])
        stride = self.stride if split == "train" else None
        windows, counts = chunk_episodes(episodes, self.num_steps, stride)
        return ActionItems(torch.from_numpy(windows), torch.from_numpy(counts))

    def collate(self, items: list[tuple[Tensor, int]]) -> ActionBatch:
        """Make a batch of windows."""
        return ActionBatch(torch.stack([x for x, _ in items]), torch.tensor([count for _, count in items]))
