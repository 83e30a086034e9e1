"""A stretch of a file that is a sound file of its own, and what its container says of it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO, Literal

__all__ = ["Bytes", "Part", "TruncatedError", "View"]


_HELD = 1 << 14  # bytes read at once, since frames are looked at one after the other


class TruncatedError(Exception):
    """A container states more than there is, or other than there is; the text says what, without the file's name."""


@dataclass(frozen=True)
class Part:
    """A stretch of a file that is a sound file of its own.

    Args:
        start: Its first byte.
        end: The byte after its last.
        decoder: Which decoder reads it: "any" is libsndfile, or FFmpeg for what libsndfile does not know. "ffmpeg" is
            for sound that libsndfile would read in part only.
        samples: Where libsndfile only guesses how many samples there are, a number that it must not fall short of.
        otherwise: What FFmpeg reads where it does.
        is_checked: Whether all that it states was looked for; if not, what a decoder says of its last packet counts.
    """

    start: int
    end: int
    decoder: Literal["any", "ffmpeg"] = "any"
    samples: int | None = None
    otherwise: Part | None = None
    is_checked: bool = True


class Bytes:
    """A seekable file as bytes to look at.

    Args:
        file: The file; its position changes.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, io.SEEK_END)
        self._begin, self._held = 0, b""

    def at(self, start: int, count: int) -> bytes:
        """Return up to `count` bytes; fewer, or none, at the end of the file."""
        if not 0 <= start < self.size:
            return b""
        if not self._begin <= start <= start + count <= self._begin + len(self._held):
            self.file.seek(start)
            if count > _HELD:
                return self.file.read(count)
            self._begin, self._held = start, self.file.read(_HELD)
        return self._held[start - self._begin : start - self._begin + count]

    def little(self, start: int, count: int) -> int:
        """Return an unsigned integer, its lowest byte first."""
        return int.from_bytes(self.at(start, count), "little")

    def big(self, start: int, count: int) -> int:
        """Return an unsigned integer, its highest byte first."""
        return int.from_bytes(self.at(start, count), "big")

    def find(self, what: bytes, start: int, end: int | None = None) -> int:
        """Return where `what` begins, or -1."""
        step, end = 1 << 20, self.size if end is None else end
        while start < end:
            found = self.at(start, min(step, end - start) + len(what) - 1).find(what)
            if found >= 0:
                return start + found
            start += step
        return -1


class View(io.RawIOBase):
    """Part of a file as a file, without its name: libsndfile would believe a suffix, FFmpeg a playlist's addresses."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        super().__init__()
        self._file, self._start, self._size, self._position = file, start, end - start, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, as `io.IOBase.seek` does."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer as far as the part goes."""
        count = max(0, min(len(buffer), self._size - self._position))
        self._file.seek(self._start + self._position)
        data = self._file.read(count)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
