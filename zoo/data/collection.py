"""Collections of media files for training: which items there are, and what happens to those that cannot be read."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection as Names
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from torch.utils.data import Dataset

from zoo import resources
from zoo.data.datamodule import DataModule
from zoo.errors import ConfigError, InputError, near_matches, shown
from zoo.process.random import derive_seed
from zoo.strict import is_there

__all__ = ["Collection", "CollectionData", "CollectionItems", "Corrupt", "class_names", "facts", "labels_of", "walk"]

Corrupt = Literal["refuse", "skip"]
"""What to do with an item that cannot be read."""

_TRIES = 100  # so many unreadable items in a row are no accident
_SHOWN = 5

Loaded = TypeVar("Loaded")
Made = TypeVar("Made", covariant=True)


class Collection(ABC):
    """A set of encoded media with random access. It is copied to the processes that read, and holds no open file.

    Attributes:
        origin: Where it is from, for messages.
        classes: Names of the classes, by label; empty if unknown.
    """

    origin: str = ""
    classes: Sequence[str] = ()

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of items."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Return an item's name, which finds it again."""

    def sources(self) -> Sequence[str] | None:
        """Return where each item is from; None if the set does not tell."""
        return None


class CollectionItems(Dataset[Made], Generic[Loaded, Made]):
    """Items of a collection, decoded; a subclass says how.

    Args:
        corrupt: What to do with an item that cannot be read: "refuse" raises an error that names it, "skip" gives
            another one, always the same, in its place.

    Attributes:
        nouns: What one item and several are called.
        origin: Where they are from, for messages.
    """

    nouns: ClassVar[tuple[str, str]]
    origin: str

    def __init__(self, corrupt: Corrupt = "refuse") -> None:
        self.corrupt = corrupt

    @abstractmethod
    def __len__(self) -> int:
        """Return how many there are."""

    @abstractmethod
    def name(self, place: int) -> str:
        """Return the name of the item of a place."""

    @abstractmethod
    def load(self, place: int) -> Loaded:
        """Read an item.

        Raises:
            InputError: It cannot be read, which `corrupt` decides upon.
        """

    @abstractmethod
    def finish(self, loaded: Loaded, place: int, lost: tuple[str, ...]) -> Made:
        """Make what is given of what was read; `lost` are names of the items that it stands in for.

        Raises:
            InputError: The configuration does not fit, which is an error in any case.
        """

    def __getitem__(self, index: int) -> Made:
        place, lost = index, list[str]()
        for attempt in range(_TRIES):
            try:
                loaded = self.load(place)
            except InputError as error:
                if self.corrupt == "refuse":
                    raise InputError(
                        f"{self.name(place)} cannot be used: {error} Repair or remove it, or set data.corrupt to skip, "
                        f"which takes another {self.nouns[0]} in its place and counts them."
                    ) from error
                lost.append(self.name(place))
                place = derive_seed(index, attempt) % len(self)
                continue
            return self.finish(loaded, place, tuple(lost))
        raise InputError(
            f"{_TRIES} {self.nouns[1]} of {self.origin} in a row cannot be read, {lost[0]} among them: see what is "
            "wrong with data.corrupt set to refuse."
        )


class _Batch(Protocol):
    @property
    def corrupt(self) -> list[str]:
        """Names of items that could not be read, each replaced by another in this batch."""


class CollectionData(DataModule):
    """Data of a collection: what is chosen of it, and a count of what could not be read.

    Args:
        folder: Where it is; what the data recipe makes if None.
        splits: Path or pattern of each split; found if None.
        columns: Names of keys or columns, where they are others.
        sources: Sources to train on; all if None.
        eval_sources: Sources to validate and test on; all if None.
        repeat: How often an epoch has the items of a source, where that is not once.
        eval_items: At most so many items in validation, evenly picked; all if None.
        corrupt: What to do with an item that cannot be read: "refuse" stops and names it; "skip" takes another one in
            its place, always the same, and warns at the end of an epoch.
        options: Of `DataModule`.

    Attributes:
        nouns: What one item and several are called.
        recipe: Name of the data recipe, and of the folder in the cache that it makes.
        corrupt_files: Names of the items that could not be read so far, with how often they were replaced.
    """

    nouns: ClassVar[tuple[str, str]]
    recipe: ClassVar[str]

    def __init__(
        self,
        *,
        folder: str | None,
        splits: dict[str, str] | None,
        columns: dict[str, str] | None,
        sources: list[str] | None,
        eval_sources: list[str] | None,
        repeat: dict[str, int] | None,
        eval_items: int | None,
        corrupt: Corrupt,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if corrupt not in ("refuse", "skip"):
            raise ConfigError(f"data: corrupt must be refuse or skip, got {shown(corrupt)}.")
        if eval_items is not None and eval_items < 1:
            raise ConfigError(f"data: eval_items must be at least 1, got {eval_items}.")
        if any(count < 1 for count in (repeat or {}).values()):
            raise ConfigError(f"data: counts of repeat must be at least 1, got {repeat}.")
        self.folder = resources.cache() / self.recipe if folder is None else resources.expanded(folder)
        self.is_default = folder is None
        self.splits = splits
        self.columns = columns or {}
        self.sources = sources
        self.eval_sources = eval_sources
        self.repeat: Mapping[str, int] = repeat or {}
        self.eval_items = eval_items
        self.corrupt: Corrupt = corrupt
        self.corrupt_files: dict[str, int] = {}
        self._unreported: dict[str, int] = {}

    def require_folder(self) -> None:
        """Raise `ConfigError` if the data of the recipe was asked for and is not there."""
        if self.is_default and not is_there(self.folder):
            raise ConfigError(
                f"{self.folder} does not exist: make the {self.nouns[1]} with `zoo data {self.recipe}`, or point "
                f"data.folder at {self.nouns[1]} of your own."
            )

    def chosen(self, collection: Collection, is_training: bool) -> Sequence[int]:
        """Return the items of the sources that are wanted, repeated."""
        wanted = self.sources if is_training else self.eval_sources
        repeat = self.repeat if is_training else {}
        if wanted is None and not repeat:
            return range(len(collection))
        sources = collection.sources()
        if sources is None:
            raise ConfigError(
                f"data: {collection.origin} does not tell sources, so that none can be chosen or repeated: set sources "
                "and repeat to null, or have them in a manifest."
            )
        for name in (*(wanted or ()), *repeat):
            if name not in sources:
                raise ConfigError(
                    f"data: {collection.origin} has no source {shown(name)}; {near_matches(name, sources)}"
                )
        return [
            number
            for number, source in enumerate(sources)
            if wanted is None or source in wanted
            for _ in range(repeat.get(source, 1))
        ]

    def evenly(self, items: Sequence[Loaded]) -> Sequence[Loaded]:
        """Return at most `eval_items` of the items to validate on."""
        if self.eval_items is None:
            return items
        step = max(1.0, len(items) / self.eval_items)
        return [items[int(i * step)] for i in range(min(self.eval_items, len(items)))]

    def on_batch(self, batch: _Batch) -> None:
        """Count the items that could not be read, in the process that trains."""
        for name in batch.corrupt:
            self.corrupt_files[name] = self.corrupt_files.get(name, 0) + 1
            self._unreported[name] = self._unreported.get(name, 0) + 1

    def on_epoch_end(self) -> None:
        """Warn of the items that could not be read since the last warning."""
        lost, self._unreported = self._unreported, {}
        if lost:
            names = ", ".join(list(lost)[:_SHOWN]) + (", …" if len(lost) > _SHOWN else "")
            warnings.warn(
                f"{len(lost)} {self.nouns[1]} could not be read, and others took their place {sum(lost.values())} "
                f"times: {names}. All are in data.corrupt_files.",
                stacklevel=2,
            )

    def teardown(self, stage: str) -> None:
        """Warn of what an epoch that was not finished has met."""
        self.on_epoch_end()


def facts(values: Mapping[str, Any], where: str) -> tuple[int, str]:
    """Return label and caption out of values of strangers; -1 and "" where there are none.

    Raises:
        InputError: A label is no integer, or a caption no text.
    """
    label, caption = values.get("label"), values.get("caption")
    if label is None:
        label = -1
    elif isinstance(label, bool) or not isinstance(label, int) or not -1 <= label < 2**63:
        raise InputError(f"{where}: the label must be an integer from 0 on (-1: unknown), got {shown(label)}.")
    if caption is not None and not isinstance(caption, str):
        raise InputError(f"{where}: the caption must be text, got {shown(caption)}.")
    return label, caption or ""


def class_names(folder: Path, suffixes: Names[str]) -> list[str] | None:
    """Return the names of the class folders (as of ImageNet) in a folder, sorted; None if files lie beside them."""
    folders = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            folders.append(path.name)
        elif path.suffix.lower() in suffixes:
            return None
    return folders or None


def labels_of(folder: Path, paths: Sequence[str], classes: Sequence[str], nouns: tuple[str, str]) -> list[int]:
    """Return the label of each file of a folder: the number of the class that the folder right below is named after.

    Raises:
        InputError: A folder that is no known class has some.
    """
    number = {name: label for label, name in enumerate(classes)}
    labels = []
    for path in paths:
        name = Path(path).relative_to(folder).parts[0]
        if name not in number:
            raise InputError(
                f"{folder / name} is no class of the training data, so that its {nouns[1]} have no label; "
                f"{near_matches(name, classes)}"
            )
        labels.append(number[name])
    return labels


def walk(folder: Path, suffixes: Names[str]) -> list[Path]:
    """Return the files of some suffixes below a folder, sorted by their paths; what is hidden is left alone.

    Links are followed to files, not to folders.
    """
    found = []
    for place, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(place, name) for name in files if not name.startswith("."))
        found += [path for path in paths if path.suffix.lower() in suffixes]
    return sorted(found)


def _raise(error: OSError) -> None:
    raise InputError(f"the folder {error.filename} cannot be read: {error.strerror}.") from error
