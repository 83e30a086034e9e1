"""Pictures for training, of whatever layout, decoded and transformed where they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from zoo.data.collection import CollectionData, CollectionItems, Corrupt
from zoo.data.datamodule import Split
from zoo.data.images.layouts import find_pictures
from zoo.data.images.pictures import Pictures
from zoo.data.images.transforms import Transforms
from zoo.data.media import read_image
from zoo.errors import InputError

__all__ = ["ImageBatch", "ImageData", "ImageItem", "ImageItems"]

_NOUNS = ("picture", "pictures")


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


class ImageItems(CollectionItems[tuple[Tensor, int, str], ImageItem]):
    """Pictures of a set, decoded and transformed.

    Args:
        pictures: The set.
        indices: Which of its pictures to give, perhaps some of them several times; all if None.
        transforms: What to make of each, drawing from the default generators; nothing if None.
        corrupt: What to do with a picture that cannot be read: "refuse" raises an error that names it, "skip" gives
            another one, always the same, in its place.
        on_white: Lay pictures with transparency on white; otherwise they cannot be read.
    """

    nouns = _NOUNS

    def __init__(
        self,
        pictures: Pictures,
        indices: Sequence[int] | None = None,
        transforms: Transforms | None = None,
        corrupt: Corrupt = "refuse",
        on_white: bool = False,
    ) -> None:
        super().__init__(corrupt)
        self.pictures = pictures
        self.origin = pictures.origin
        self.indices = range(len(pictures)) if indices is None else indices
        self.transforms = transforms
        self.on_white = on_white

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, place: int) -> str:
        """Return the name of a picture."""
        return self.pictures.name(self.indices[place])

    def load(self, place: int) -> tuple[Tensor, int, str]:
        """Return a picture, its label and its caption."""
        content, label, caption = self.pictures.read(self.indices[place])
        return read_image(content, on_white=self.on_white), label, caption

    def finish(self, loaded: tuple[Tensor, int, str], place: int, lost: tuple[str, ...]) -> ImageItem:
        """Transform a picture."""
        image, label, caption = loaded
        name = self.name(place)
        return ImageItem(self._transformed(image, name), label, caption, name, lost)

    def _transformed(self, image: Tensor, name: str) -> Tensor:
        if self.transforms is None:
            return image
        try:
            return self.transforms(image)
        except InputError as error:  # the fault of the configuration, not of the picture
            raise InputError(f"{name}: {error}") from error


class ImageData(CollectionData):
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

    nouns = _NOUNS
    recipe = "images"

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
        super().__init__(
            folder=folder,
            splits=splits,
            columns=columns,
            sources=sources,
            eval_sources=eval_sources,
            repeat=repeat,
            eval_items=eval_items,
            corrupt=corrupt,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            seed=seed,
            pin_memory=pin_memory,
        )
        self.transforms = None if transforms is None else Transforms(transforms, "transforms")
        self.eval_transforms = None if eval_transforms is None else Transforms(eval_transforms, "eval_transforms")
        self.on_white = on_white

    def dataset(self, split: Split) -> ImageItems | None:
        """Return the data set of a split; None if there is none.

        Raises:
            ConfigError: There is no such folder, or a source is named that the data does not have.
            InputError: A manifest, shard or table is damaged.
        """
        self.require_folder()
        pictures = find_pictures(self.folder, split, self.columns, self.splits)
        if pictures is None:
            return None
        is_training = split == "train"
        indices = self.chosen(pictures, is_training)
        if split == "val":
            indices = self.evenly(indices)
        transforms = self.transforms if is_training else self.eval_transforms
        return ImageItems(pictures, indices, transforms, self.corrupt, self.on_white)

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
