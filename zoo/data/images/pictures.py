"""Sets of encoded pictures with random access, and those of them that are files of their own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo.data import _image
from zoo.data.collection import Collection, facts, labels_of, walk
from zoo.data.json_lines import read_json_lines
from zoo.errors import InputError, shown
from zoo.strict import read_text

__all__ = ["COLUMNS", "SUFFIXES", "FilePictures", "Picture", "Pictures"]

SUFFIXES = frozenset(_image.SUFFIXES) - {".gif", ".apng"}  # which in sets of pictures are animations, as a rule

_MOST_TEXT = 2**20  # bytes of a caption's file

# What this library calls it, and the names that are tried where `columns` does not say another.
COLUMNS: dict[str, tuple[str, ...]] = {
    "image": ("image", "img", "image_filepath"),
    "label": ("label", "labels", "cls"),
    "caption": ("caption", "text"),
    "source": ("source",),
}


class Picture(NamedTuple):
    """One picture, not decoded yet.

    Attributes:
        content: A file, or the bytes of one.
        label: Number of its class, -1 if unknown.
        caption: "" if there is none.
    """

    content: Path | bytes
    label: int = -1
    caption: str = ""


class Pictures(Collection):
    """A set of pictures."""

    @abstractmethod
    def read(self, index: int) -> Picture:
        """Return a picture.

        Raises:
            InputError: It cannot be read, or what belongs to it cannot be used.
        """


class FilePictures(Pictures):
    """Pictures that are files of their own.

    Args:
        origin: The folder or manifest.
        paths: The files.
        labels: One a file; unknown if None.
        captions: One a file; none if None.
        sources: One a file; unknown if None.
        classes: Names of the classes.
        has_texts: Whether the caption of `x.png` is what `x.txt` beside it says, if there is one; in place of captions.
    """

    def __init__(
        self,
        origin: str,
        paths: Sequence[str],
        labels: Sequence[int] | None = None,
        captions: Sequence[str] | None = None,
        sources: Sequence[str] | None = None,
        classes: Sequence[str] = (),
        has_texts: bool = False,
    ) -> None:
        if not paths:
            raise InputError(f"{origin} has no pictures ({', '.join(sorted(SUFFIXES))}).")
        self.origin = origin
        self.paths = paths
        self.labels = labels
        self.captions = captions
        self.classes = classes
        self.has_texts = has_texts
        self._sources = sources

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """Return the path."""
        return self.paths[index]

    def read(self, index: int) -> Picture:
        """Return the path with what is known; the file is not opened, but for a text beside it."""
        path = Path(self.paths[index])
        label = -1 if self.labels is None else self.labels[index]
        if self.captions is not None:
            return Picture(path, label, self.captions[index])
        text = path.with_suffix(".txt")
        has_text = self.has_texts and text.is_file()
        return Picture(path, label, read_text(text, InputError, _MOST_TEXT).strip() if has_text else "")

    def sources(self) -> Sequence[str] | None:
        """Return the sources of a manifest that names them."""
        return self._sources

    @classmethod
    def from_folder(cls, folder: Path, classes: Sequence[str] | None = None) -> FilePictures:
        """Return all pictures below a folder, in the order of their names; hidden files and folders are left alone.

        The caption of `x.png` is what `x.txt` says, if it is there.

        Args:
            folder: The folder; links in it are followed to files, not to folders.
            classes: Names of the folders right below it that are classes; there are none if None.

        Raises:
            InputError: There are no pictures, or a folder that is no known class has some.
        """
        paths = [str(path) for path in walk(folder, SUFFIXES)]
        if classes is None:
            return cls(str(folder), paths, has_texts=True)
        labels = labels_of(folder, paths, classes, ("picture", "pictures"))
        return cls(str(folder), paths, labels, classes=classes, has_texts=True)

    @classmethod
    def from_manifest(cls, path: Path, columns: Mapping[str, str]) -> FilePictures:
        """Return the pictures that a file of JSON lines names, by paths relative to its folder, or absolute.

        Keys are `image_filepath` and, if known, `label` (an integer), `text` or `caption`, and `source`; `columns` may
        name others. More keys are left alone.

        Raises:
            InputError: The manifest is missing, empty, or has a line without a path or with a value of another type.
        """
        paths, labels, captions, sources = [], [], [], []
        for where, values in read_json_lines(path):
            names = {field: _key(values, field, columns) for field in COLUMNS}
            file = values.get(names["image"])
            if not isinstance(file, str) or not file or "\0" in file:
                raise InputError(f"{where}: {names['image']} must be the path of a picture, got {shown(file)}.")
            label, caption = facts({field: values.get(names[field]) for field in ("label", "caption")}, where)
            source = values.get(names["source"])
            if source is not None and not isinstance(source, str):
                raise InputError(f"{where}: {names['source']} must be text, got {shown(source)}.")
            paths.append(str(path.parent / file))
            labels.append(label)
            captions.append(caption)
            sources.append(source)
        if not paths:
            raise InputError(f"the manifest {path} lists nothing.")
        known = None if all(source is None for source in sources) else [source or "" for source in sources]
        return cls(str(path), paths, labels, captions, known)


def _key(values: Mapping[str, Any], field: str, columns: Mapping[str, str]) -> str:
    if field in columns:
        return columns[field]
    names = ("image_filepath",) if field == "image" else COLUMNS[field]
    return next((name for name in names if name in values), names[0])
