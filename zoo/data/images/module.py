"""Pictures for training, of whatever layout, decoded and transformed where they are read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.data.datamodule import DataModule, Split
from zoo.data.images.layouts import find_pictures
from zoo.data.images.pictures import Pictures
from zoo.data.images.transforms import Transforms
from zoo.data.media import read_image
from zoo.errors import ConfigError, InputError, near_matches, shown
from zoo.process.random import derive_seed
from zoo.strict import expanded, is_there

__all__ = ["ImageBatch", "ImageData", "ImageItem", "ImageItems"]

_TRIES = 100  # so many unreadable pictures in a row are no accident
_SHOWN = 5


class ImageItem(NamedTuple):
    """One picture; `corrupt` names those that could not be read and that it stands in for."""

    image: Tensor
    label: int
    caption: str
    name: str
    corrupt: tuple[str, ...]


class ImageBatch(NamedTuple):
    """What `ImageData` gives a training step.

    Attributes:
        images: (B, 3, H, W) float32 in 0…1.
        labels: (B,) int64, -1 where unknown.
        captions: Texts, "" where there is none.
        names: Files, or places in shards and tables.
        corrupt: Names of pictures that could not be read, each replaced by another in this batch.
    """

    images: Tensor
    labels: Tensor
    captions: list[str]
    names: list[str]
    corrupt: list[str]


class ImageItems(Dataset[ImageItem]):
    """Pictures of a set, decoded and transformed.

    Args:
        pictures: The set.
        indices: Which of its pictures to give, perhaps some of them several times; all if None.
        transforms: What to make of each, drawing from the default generators; nothing if None.
        corrupt: What to do with a picture that cannot be read: "refuse" raises an error that names it, "skip" gives
            another one, always the same, in its place.
        on_white: Lay pictures with transparency on white; otherwise they cannot be read.
    """

    def __init__(
        self,
        pictures: Pictures,
        indices: Sequence[int] | None = None,
        transforms: Transforms | None = None,
        corrupt: Literal["refuse", "skip"] = "refuse",
        on_white: bool = False,
    ) -> None:
        self.pictures = pictures
        self.indices = range(len(pictures)) if indices is None else indices
        self.transforms = transforms
        self.corrupt = corrupt
        self.on_white = on_white

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> ImageItem:
        place, lost = index, list[str]()
        for attempt in range(_TRIES):
            number = self.indices[place]
            name = self.pictures.name(number)
            try:
                content, label, caption = self.pictures.read(number)
                image = read_image(content, on_white=self.on_white)
            except InputError as error:
                if self.corrupt == "refuse":
                    raise InputError(
                        f"{name} cannot be used: {error} Repair or remove it, or set data.corrupt to skip, which takes "
                        "another picture in its place and counts them."
                    ) from error
                lost.append(name)
                place = derive_seed(index, attempt) % len(self)
                continue
            return ImageItem(self._transformed(image, name), label, caption, name, tuple(lost))
        raise InputError(
            f"{_TRIES} pictures of {self.pictures.origin} in a row cannot be read, {lost[0]} among them: see what is "
            "wrong with data.corrupt set to refuse."
        )

    def _transformed(self, image: Tensor, name: str) -> Tensor:
        if self.transforms is None:
            return image
        try:
            return self.transforms(image)
        except InputError as error:  # the fault of the configuration, not of the picture
            raise InputError(f"{name}: {error}") from error


class ImageData(DataModule):
    """Pictures of a folder, of class folders, manifests, tar shards, or tables; see `zoo.data.images.layouts`.

    Args:
        folder: Where they are, or a single file; what `recipes/data/images.py` makes if None.
        splits: Path or pattern of each split, as `{train: "shards/a-*.tar", val: "held-out"}`; found if None.
        columns: Names of the keys or columns `image`, `label`, `caption`, `source`, where they are others.
        transforms: What to make of training pictures, see `zoo.data.images.transforms`; nothing if None.
        eval_transforms: The same in validation and testing.
        sources: Sources to train on, where a manifest or table tells them; all if None.
        eval_sources: Sources to validate and test on; all if None.
        repeat: How often an epoch has the pictures of a source, where that is not once.
        eval_items: At most so many pictures in validation, evenly picked; all if None.
        corrupt: What to do with a picture that cannot be read: "refuse" stops and names it; "skip" takes another one
            in its place, always the same, and warns at the end of an epoch.
        on_white: Lay pictures with transparency on white; otherwise they cannot be read.
        batch_size: Pictures of a training batch of one process.
        eval_batch_size: Pictures of a batch in validation and testing; `batch_size` if None.
        num_workers: Processes that read; 0 reads in the training process. The result is the same.
        seed: Of the order and of the random transforms.
        pin_memory: Put batches where they are copied to a GPU faster.

    Attributes:
        corrupt_files: Names of the pictures that could not be read so far, with how often they were replaced.
    """

    def __init__(
        self,
        folder: str | None = None,
        splits: dict[str, str] | None = None,
        columns: dict[str, str] | None = None,
        transforms: list[dict[str, Any]] | None = None,
        eval_transforms: list[dict[str, Any]] | None = None,
        sources: list[str] | None = None,
        eval_sources: list[str] | None = None,
        repeat: dict[str, int] | None = None,
        eval_items: int | None = None,
        corrupt: Literal["refuse", "skip"] = "refuse",
        on_white: bool = False,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, num_workers, seed, pin_memory)
        if corrupt not in ("refuse", "skip"):
            raise ConfigError(f"data: corrupt must be refuse or skip, got {shown(corrupt)}.")
        if eval_items is not None and eval_items < 1:
            raise ConfigError(f"data: eval_items must be at least 1, got {eval_items}.")
        if any(count < 1 for count in (repeat or {}).values()):
            raise ConfigError(f"data: counts of repeat must be at least 1, got {repeat}.")
        self.folder = _default_folder() if folder is None else expanded(folder)
        self.is_default = folder is None
        self.splits = splits
        self.columns = columns or {}
        self.transforms = None if transforms is None else Transforms(transforms, "transforms")
        self.eval_transforms = None if eval_transforms is None else Transforms(eval_transforms, "eval_transforms")
        self.sources = sources
        self.eval_sources = eval_sources
        self.repeat: Mapping[str, int] = repeat or {}
        self.eval_items = eval_items
        self.corrupt: Literal["refuse", "skip"] = corrupt
        self.on_white = on_white
        self.corrupt_files: dict[str, int] = {}
        self._unreported: dict[str, int] = {}

    def dataset(self, split: Split) -> ImageItems | None:
        """Return the data set of a split; None if there is none.

        Raises:
            ConfigError: There is no such folder, or a source is named that the data does not have.
            InputError: A manifest, shard or table is damaged.
        """
        if self.is_default and not is_there(self.folder):
            raise ConfigError(
                f"{self.folder} does not exist: make the pictures with `zoo data images`, or point "
                "data.folder at pictures of your own."
            )
        pictures = find_pictures(self.folder, split, self.columns, self.splits)
        if pictures is None:
            return None
        is_training = split == "train"
        indices = self._chosen(pictures, self.sources if is_training else self.eval_sources, is_training)
        if split == "val" and self.eval_items is not None:
            step = max(1.0, len(indices) / self.eval_items)
            indices = [indices[int(i * step)] for i in range(min(self.eval_items, len(indices)))]
        transforms = self.transforms if is_training else self.eval_transforms
        return ImageItems(pictures, indices, transforms, self.corrupt, self.on_white)

    def _chosen(self, pictures: Pictures, wanted: Sequence[str] | None, is_training: bool) -> Sequence[int]:
        """Return the pictures of some sources, repeated."""
        repeat = self.repeat if is_training else {}
        if wanted is None and not repeat:
            return range(len(pictures))
        sources = pictures.sources()
        if sources is None:
            raise ConfigError(f"data: {pictures.origin} does not tell sources, so that none can be chosen or repeated.")
        for name in (*(wanted or ()), *repeat):
            if name not in sources:
                raise ConfigError(f"data: {pictures.origin} has no source {shown(name)}; {near_matches(name, sources)}")
        return [
            number
            for number, source in enumerate(sources)
            if wanted is None or source in wanted
            for _ in range(repeat.get(source, 1))
        ]

    def collate(self, items: list[ImageItem]) -> ImageBatch:
        """Make a batch of pictures of one size.

        Raises:
            InputError: They are of different sizes.
        """
        for item in items:
            if item.image.shape != items[0].image.shape:
                (_, h, w), (_, height, width) = items[0].image.shape, item.image.shape
                raise InputError(
                    f"the pictures of a batch must be of one size: {items[0].name} is {h}×{w}, {item.name} "
                    f"{height}×{width}. Name transforms (and eval_transforms) that end in a crop or resize to one size."
                )
        return ImageBatch(
            torch.stack([item.image for item in items]),
            torch.tensor([item.label for item in items]),
            [item.caption for item in items],
            [item.name for item in items],
            [name for item in items for name in item.corrupt],
        )

    def on_batch(self, batch: ImageBatch) -> None:
        """Count the pictures that could not be read, in the process that trains."""
        for name in batch.corrupt:
            self.corrupt_files[name] = self.corrupt_files.get(name, 0) + 1
            self._unreported[name] = self._unreported.get(name, 0) + 1

    def on_epoch_end(self) -> None:
        """Warn of the pictures that could not be read since the last warning."""
        lost, self._unreported = self._unreported, {}
        if lost:
            names = ", ".join(list(lost)[:_SHOWN]) + (", …" if len(lost) > _SHOWN else "")
            warnings.warn(
                f"{len(lost)} pictures could not be read, and others took their place {sum(lost.values())} times: "
                f"{names}. All are in data.corrupt_files.",
                stacklevel=2,
            )

    def teardown(self, stage: str) -> None:
        """Warn of what an epoch that was not finished has met."""
        self.on_epoch_end()


def _default_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenizer-zoo" / "images"
