"""Opening what a user names, a path or the bytes of a whole file, and saying plainly why it cannot be opened."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, TypeGuard

from zoo.errors import InputError

__all__ = ["Source", "describe", "is_source", "local_path", "open_source", "unreadable"]

Source: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""A path, a whole encoded file in memory, or a file that is open in binary mode, from where it stands to its end."""

_URL = re.compile(r"^([a-z][a-z0-9+.-]+://|data:)", re.IGNORECASE)


def is_source(x: object) -> TypeGuard[Source]:
    """Tell a path, a file in memory or an open file from everything else."""
    is_open = callable(getattr(x, "read", None)) and not isinstance(x, type)
    return is_open or isinstance(x, (str, os.PathLike, bytes, bytearray, memoryview))


def describe(source: Source) -> str:
    """Name a source in an error message."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"the file of {memoryview(source).nbytes} bytes"
    if isinstance(source, (str, os.PathLike)):
        return _short(os.fspath(source))
    name = getattr(source, "name", None)
    return f"the open file {_short(name)}" if isinstance(name, str) else "the open file"


def _short(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:200] + "…")


def local_path(source: str | os.PathLike[str], *, or_folder: bool = False) -> Path:
    """Return the path of a regular file that exists (or of a folder, where one is allowed).

    Raises:
        InputError: It is a URL, is missing, is a folder or a device, or cannot be looked at.
    """
    text = os.fspath(source)
    name = describe(source)
    if _URL.match(text):
        raise InputError(f"{name} is a URL, and only local files are read: download it first, then pass its path.")
    if not text:
        raise InputError("the path is empty: pass the path of a file.")
    path = Path(text)
    try:
        if text.startswith("~"):
            path = path.expanduser()
        if path.is_file() or (or_folder and path.is_dir()):
            return path
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error  # which would repeat the name
        raise InputError(f"{name} is not the path of a file: {reason}.") from error
    if is_folder:
        raise InputError(f"{name} is a folder, a file is expected: pass a list of the files in it.")
    if exists:
        raise InputError(f"{name} is not a regular file: pass a file, or its content as bytes.")
    raise InputError(f"{name} does not exist; relative paths start at {os.fspath(Path.cwd())!r}.")


@contextmanager
def open_source(source: Source) -> Iterator[BinaryIO]:
    """Open a path, a file in memory or an open file for reading, at its beginning and so that one can go back there.

    The decoders get this open file and never the path: FFmpeg would take a path for a URL and follow what a playlist
    points to, and libsndfile would believe the extension.

    A file that was open stays open. What it stands at is taken for its beginning.

    Raises:
        InputError: The path cannot be opened, the file is empty, or an open one is in text mode or at its end.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        file: BinaryIO = io.BytesIO(source)
    elif not isinstance(source, (str, os.PathLike)):
        yield _rewindable(source)
        return
    else:
        path = local_path(source)
        try:
            file = path.open("rb")
        except OSError as error:
            raise InputError(f"{describe(source)} cannot be opened: {error.strerror}.") from error
    with file:
        try:
            first = file.read(1)
        except OSError as error:  # of a failing disk, or one over a network
            raise InputError(f"{describe(source)} cannot be read: {error.strerror}.") from error
        if not first:
            raise InputError(f"{describe(source)} is empty (0 bytes): the file may not have been written completely.")
        file.seek(0)
        yield file


def _rewindable(file: Any) -> BinaryIO:
    name = describe(file)
    try:
        start = file.tell() if file.seekable() else None
        content = file.read() if start is None else file.read(1)
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{name} cannot be read: {error}.") from error
    if not isinstance(content, bytes):
        raise InputError(f"{name} gives {type(content).__name__}, not bytes: open it in binary mode ('rb').")
    if not content:
        raise InputError(f"{name} has nothing left to read: seek(0) goes back to its beginning.")
    if start is None:  # a pipe or a response: there is no going back
        return io.BytesIO(content)
    file.seek(start)
    return file if start == 0 else io.BytesIO(file.read())


@contextmanager
def unreadable(source: Source, what: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an `InputError` that names it; their exceptions are too many to list."""
    try:
        yield
    except InputError as error:
        if describe(source) in str(error):
            raise
        raise InputError(f"{describe(source)}: {error}") from error
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        # FFmpeg's and Pillow's texts name the open file, which the caller knows nothing of.
        text = getattr(error, "strerror", None) or str(error).split(" <_io")[0]
        reason = text.splitlines()[0] if text else type(error).__name__
        raise InputError(
            f"{describe(source)} cannot be read as {what}; it may be damaged, truncated or of an unknown format "
            f"({reason}). Check that it opens elsewhere, or convert it."
        ) from error
