"""Opening what a user names, a path or the bytes of a whole file, and saying plainly why it cannot be opened."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias, TypeGuard

from zoo.errors import InputError

__all__ = ["Source", "describe", "is_source", "local_path", "open_source", "unreadable"]

Source: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview
"""A path, or a whole encoded file in memory."""

_URL = re.compile(r"^([a-z][a-z0-9+.-]+://|data:)", re.IGNORECASE)


def is_source(x: object) -> TypeGuard[Source]:
    """Tell a path or a file in memory from everything else."""
    return isinstance(x, (str, os.PathLike, bytes, bytearray, memoryview))


def describe(source: Source) -> str:
    """Name a source in an error message."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"the file of {memoryview(source).nbytes} bytes"
    text = os.fspath(source)
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
        raise InputError(f"{name} is not the path of a file: {error}.") from error
    if is_folder:
        raise InputError(f"{name} is a folder, a file is expected: pass a list of the files in it.")
    if exists:
        raise InputError(f"{name} is not a regular file: pass a file, or its content as bytes.")
    raise InputError(f"{name} does not exist; relative paths start at {os.fspath(Path.cwd())!r}.")


@contextmanager
def open_source(source: Source) -> Iterator[BinaryIO]:
    """Open a path or a file in memory for reading.

    The decoders get this open file and never the path: FFmpeg would take a path for a URL and follow what a playlist
    points to, and libsndfile would believe the extension.

    Raises:
        InputError: The path cannot be opened, or the file is empty.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        file: BinaryIO = io.BytesIO(source)
    else:
        path = local_path(source)
        try:
            file = path.open("rb")
        except OSError as error:
            raise InputError(f"{describe(source)} cannot be opened: {error.strerror}.") from error
    with file:
        if not file.read(1):
            raise InputError(f"{describe(source)} is empty (0 bytes): the file may not have been written completely.")
        file.seek(0)
        yield file


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
