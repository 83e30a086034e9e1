"""Sets of encoded videos, or of stretches of them, with random access: files, manifests and tar shards."""

from __future__ import annotations

import csv
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo.data import _video
from zoo.data._tar import TarIndex
from zoo.data.collection import Collection, facts, labels_of, walk
from zoo.data.json_lines import read_json_lines
from zoo.errors import InputError, shown
from zoo.strict import read_text

__all__ = ["COLUMNS", "SUFFIXES", "FileShots", "Shot", "Shots", "TarShots"]

SUFFIXES = frozenset(_video.SUFFIXES)
_NOUNS = ("video", "videos")

# What this library calls it, and the names that are tried where `columns` does not say another.
COLUMNS: dict[str, tuple[str, ...]] = {
    "video": ("video_filepath", "path", "video", "video_path", "file_name"),
    "start": ("start", "offset", "time_start", "start_time"),
    "end": ("end", "time_end", "end_time"),
    "duration": ("duration",),
    "frame_rate": ("frame_rate", "fps"),
    "label": ("label", "labels", "cls"),
    "caption": ("caption", "text"),
    "source": ("source",),
    "split": ("split",),
}
_MOST = 2**31  # bytes of a CSV file
_MAX_NUMBER = 1e9


class Shot(NamedTuple):
    """A stretch of a video, not decoded yet.

    Attributes:
        content: A file, or the bytes of one.
        start: Seconds before it.
        end: Seconds until behind it; None is the end of the file.
        label: Number of its class, -1 if unknown.
        caption: "" if there is none.
        frame_rate: Frames a second of the file; None if it is to be asked.
    """

    content: Path | bytes
    start: float = 0.0
    end: float | None = None
    label: int = -1
    caption: str = ""
    frame_rate: float | None = None


class Shots(Collection):
    """A set of videos, or of stretches of them."""

    @abstractmethod
    def read(self, index: int) -> Shot:
        """Return a shot.

        Raises:
            InputError: It cannot be read, or what belongs to it cannot be used.
        """


class FileShots(Shots):
    """Shots of files.

    Args:
        origin: The folder or manifest.
        shots: They, with paths as their content.
        sources: One a shot; unknown if None.
        classes: Names of the classes.
    """

    def __init__(
        self, origin: str, shots: Sequence[Shot], sources: Sequence[str] | None = None, classes: Sequence[str] = ()
    ) -> None:
        if not shots:
            raise InputError(f"{origin} has no videos ({', '.join(sorted(SUFFIXES))}).")
        self.origin = origin
        self.shots = shots
        self.classes = classes
        self._sources = sources

    def __len__(self) -> int:
        return len(self.shots)

    def name(self, index: int) -> str:
        """Return the path, and where in the file the shot begins."""
        shot = self.shots[index]
        return f"{shot.content!s}{f', from {shot.start:g} s' if shot.start else ''}"

    def read(self, index: int) -> Shot:
        """Return the shot; the file is not opened."""
        return self.shots[index]

    def sources(self) -> Sequence[str] | None:
        """Return the sources of a manifest that names them."""
        return self._sources

    @classmethod
    def from_folder(cls, folder: Path, classes: Sequence[str] | None = None) -> FileShots:
        """Return all videos below a folder, in the order of their names; hidden files and folders are left alone.

        Args:
            folder: The folder; links in it are followed to files, not to folders.
            classes: Names of the folders right below it that are classes, as of UCF-101; there are none if None.

        Raises:
            InputError: There are no videos, or a folder that is no known class has some.
        """
        paths = walk(folder, SUFFIXES)
        if classes is None:
            return cls(str(folder), [Shot(path) for path in paths])
        labels = labels_of(folder, [str(path) for path in paths], classes, _NOUNS)
        shots = [Shot(path, label=label) for path, label in zip(paths, labels, strict=True)]
        return cls(str(folder), shots, classes=classes)

    @classmethod
    def from_manifest(cls, path: Path, columns: Mapping[str, str], splits: Sequence[str] = ()) -> FileShots | None:
        """Return the shots that a list names, JSON lines or CSV with a header.

        Keys are `video_filepath` or `path` (relative to the list's folder, or absolute) and, if known, `start` and
        `end` or `duration` in seconds, `frame_rate` of the file, `label` (an integer), `caption` or `text`, `source`
        and `split`; `columns` may name others. More keys are left alone.

        Args:
            path: The list.
            columns: Names of keys, where they are others.
            splits: What the split is called; where lines tell theirs, those of another one are left out.

        Returns:
            The shots; None if all are of other splits.

        Raises:
            InputError: The list is missing, empty, or has a line without a path or with a value of another type.
        """
        shots, sources, is_empty = [], [], True
        for where, values in _lines(path):
            is_empty = False
            found = {field: _value(values, field, columns) for field in COLUMNS}
            if splits and found["split"] is not None and found["split"] not in splits:
                continue
            shots.append(_shot(found, where, path.parent))
            source = found["source"]
            if source is not None and not isinstance(source, str):
                raise InputError(f"{where}: source must be text, got {shown(source)}.")
            sources.append(source)
        if is_empty:
            raise InputError(f"the manifest {path} lists nothing.")
        if not shots:
            return None
        known = None if all(source is None for source in sources) else [source or "" for source in sources]
        return cls(str(path), shots, known)


class TarShots(Shots):
    """The videos of uncompressed tar files, as WebDataset packs them; see `zoo.data._tar.TarIndex`.

    Args:
        shards: The files.
        columns: Names of the keys in `KEY.json`, where they are others.

    Raises:
        InputError: A shard is damaged, truncated, compressed or empty, or a name is there twice.
    """

    def __init__(self, shards: Sequence[Path], columns: Mapping[str, str]) -> None:
        self._members = TarIndex(shards, _NOUNS, sorted(suffix[1:] for suffix in SUFFIXES))
        self.origin = self._members.origin
        self._columns = {field: (columns[field],) if field in columns else COLUMNS[field] for field in COLUMNS}

    def __len__(self) -> int:
        return len(self._members)

    def name(self, index: int) -> str:
        """Return `shard.tar/KEY`."""
        return self._members.name(index)

    def read(self, index: int) -> Shot:
        """Read a video and what belongs to it."""
        content, label, caption = self._members.read(index, self._columns)
        return Shot(content, label=label, caption=caption)


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.suffix.lower() != ".csv":
        yield from read_json_lines(path)
        return
    lines = read_text(path, InputError, _MOST).splitlines()
    try:
        rows = csv.DictReader(lines, strict=True)
        for row in rows:
            where = f"{str(path)!r}, line {rows.line_num}"
            if None in row or None in row.values():
                raise InputError(f"{where} does not have as many fields as the header.")
            yield where, {key.strip(): value.strip() or None for key, value in row.items()}
    except csv.Error as error:
        raise InputError(f"{str(path)!r} cannot be read as CSV: {error}.") from error


def _value(values: Mapping[str, Any], field: str, columns: Mapping[str, str]) -> Any:
    if field in columns:
        return values.get(columns[field])
    return next((values[name] for name in COLUMNS[field] if values.get(name) is not None), None)


def _shot(found: Mapping[str, Any], where: str, folder: Path) -> Shot:
    file = found["video"]
    if not isinstance(file, str) or not file or "\0" in file:
        raise InputError(f"{where}: {COLUMNS['video'][0]} must be the path of a video, got {shown(file)}.")
    numbers = ("start", "end", "duration", "frame_rate")
    start, end, duration, rate = (_number(found[field], field, where) for field in numbers)
    start = start or 0.0
    if end is None and duration is not None:
        end = start + duration
    if end is not None and end <= start:
        raise InputError(f"{where}: it ends at {end:g} s, but begins at {start:g} s.")
    label = found["label"]
    if isinstance(label, str) and label.isascii() and label.isdigit() and len(label) < 19:  # of a CSV file
        label = int(label)
    return Shot(folder / file, start, end, *facts({"label": label, "caption": found["caption"]}, where), rate or None)


def _number(value: Any, field: str, where: str) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else -1.0
    except (ValueError, OverflowError):
        seconds = -1.0
    if not 0 <= seconds < _MAX_NUMBER:
        what = "frames a second" if field == "frame_rate" else "seconds"
        raise InputError(f"{where}: {field} must be a number of {what}, at least 0, got {shown(value)}.")
    return seconds
