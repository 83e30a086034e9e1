"""Tar files as WebDataset packs them: what belongs together has one name up to the first dot.

The headers of a shard are read once, for an index of names and places; members are read from their places when they
are asked for, in any order, so that a set of shards is shuffled like any other.
"""

from __future__ import annotations

import tarfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.data._source import unreadable
from zoo.data.collection import facts
from zoo.errors import InputError, shown
from zoo.strict import decode, parse_json

__all__ = ["TarIndex"]

_TEXTS = ("cls", "txt", "json")
_MAX_TEXT = 2**24


class TarIndex:
    """The members of uncompressed tar files.

    Of the members `KEY.SUFFIX` (of one of the suffixes), `KEY.cls` (a number), `KEY.txt` (a caption) and `KEY.json` (an
    object) all but the first may be missing; others are left alone.

    Args:
        shards: The files.
        what: What a member is called that has one of the suffixes, in the singular and in the plural.
        suffixes: Without the dot.

    Raises:
        InputError: A shard is damaged, truncated, compressed or empty, or a name is there twice.
    """

    def __init__(self, shards: Sequence[Path], what: tuple[str, str], suffixes: Sequence[str]) -> None:
        self.origin = str(shards[0]) if len(shards) == 1 else f"{shards[0]} and {len(shards) - 1} more shards"
        self.shards = [str(shard) for shard in shards]
        self.what, self._known = what[0], ", ".join(suffixes)
        self._parts = {**dict.fromkeys(suffixes, self.what), **{text: text for text in _TEXTS}}
        self._names: list[str] = []
        self._shard = array("l")
        self._places = {part: (array("q"), array("q")) for part in (self.what, *_TEXTS)}  # offset, size; -1 if missing
        for number, shard in enumerate(self.shards):
            self._index(number, shard)
        if not any(size >= 0 for size in self._places[self.what][1]):
            raise InputError(f"{self.origin} has no {what[1]} ({self._known}).")

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """Return `shard.tar/KEY`."""
        return f"{self.shards[self._shard[index]]}/{self._names[index]}"

    def read(self, index: int, columns: Mapping[str, Sequence[str]]) -> tuple[bytes, int, str]:
        """Read a member, its label and its caption.

        Args:
            index: Its number.
            columns: Names of the keys of label and caption in `KEY.json`, the first that is there counts.

        Raises:
            InputError: It has only texts, or one of them cannot be used.
        """
        content = self._part(index, self.what)
        if content is None:
            raise InputError(f"{self.name(index)} has no {self.what} ({self._known}).")
        values: dict[str, Any] = {}
        if (text := self._text(index, "json")) is not None:
            parsed = parse_json(text, f"{self.name(index)}.json", InputError)
            for field in ("label", "caption"):
                values[field] = next((parsed[name] for name in columns[field] if name in parsed), None)
        if (text := self._text(index, "txt")) is not None:
            values["caption"] = text.strip()
        if (text := self._text(index, "cls")) is not None:
            if not (text.strip().isascii() and text.strip().isdigit() and len(text.strip()) < 19):
                raise InputError(f"{self.name(index)}.cls must be the number of a class, got {shown(text)}.")
            values["label"] = int(text)
        return content, *facts(values, self.name(index))

    def _text(self, index: int, part: str) -> str | None:
        if self._places[part][1][index] > _MAX_TEXT:
            raise InputError(f"{self.name(index)}.{part} is larger than {_MAX_TEXT} bytes.")
        content = self._part(index, part)
        return None if content is None else decode(content, f"{self.name(index)}.{part}", InputError)

    def _part(self, index: int, part: str) -> bytes | None:
        offset, size = (numbers[index] for numbers in self._places[part])
        if size < 0:
            return None
        path = self.shards[self._shard[index]]
        with unreadable(path, "a tar file"), Path(path).open("rb") as file:
            file.seek(offset)
            content = file.read(size)
        if len(content) != size:
            raise InputError(f"{path} has become shorter since it was opened: {self.name(index)} is cut off.")
        return content

    def _index(self, number: int, shard: str) -> None:
        known: dict[str, int] = {}
        for name, offset, size in _members(shard):
            folder, _, base = name.rpartition("/")
            key, _, suffix = base.partition(".")
            part = self._parts.get(suffix.lower())
            if not key or part is None:
                continue
            key = f"{folder}/{key}" if folder else key
            if key not in known:
                known[key] = len(self._names)
                self._names.append(key)
                self._shard.append(number)
                for offsets, sizes in self._places.values():
                    offsets.append(-1)
                    sizes.append(-1)
            offsets, sizes = self._places[part]
            if sizes[known[key]] >= 0:
                raise InputError(f"{shard} has two members that are the {part} of {shown(key)}: give each a name.")
            offsets[known[key]], sizes[known[key]] = offset, size


def _members(shard: str) -> Iterator[tuple[str, int, int]]:
    """Yield name, offset and size of the regular files in a tar file."""
    with unreadable(shard, "an uncompressed tar file"):
        length = Path(shard).stat().st_size
        with tarfile.open(shard, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # which would keep every header
                if not member.isreg() or member.issparse():
                    continue
                if member.offset_data + member.size > length:
                    raise InputError(f"{shard} is cut off inside {shown(member.name)}: it was not written completely.")
                yield member.name.removeprefix("./"), member.offset_data, member.size
            end = tar.offset
        _check_end(shard, end)


def _check_end(shard: str, end: int) -> None:
    """Raise `InputError` unless a tar file ends where its members do: `tarfile` stops in silence at a broken header."""
    with Path(shard).open("rb") as file:
        file.seek(end)
        if (block := file.read(tarfile.BLOCKSIZE)) != bytes(tarfile.BLOCKSIZE):
            what = "is cut off" if len(block) < tarfile.BLOCKSIZE else "is damaged"
            raise InputError(f"{shard} {what} at byte {end}, after {end // tarfile.BLOCKSIZE} blocks: write it again.")
        while rest := file.read(2**20):
            if rest.count(0) != len(rest):
                raise InputError(f"{shard} goes on after its end, as if joined by cat: use tar --concatenate instead.")
