"""Writing a file or a folder all at once.

What is not whole yet has a name that begins with `.saving-`. Who writes it holds a lock on it, which the system lets go
of when a process ends, however it ends; so what a killed process has left is known, and the next one removes it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from zoo.errors import CheckpointError, ZooError

try:
    import fcntl as _locks
except ImportError:  # Windows
    _locks = None  # type: ignore[assignment]

__all__ = ["STAGING", "beside", "held", "staging", "writing"]

fcntl: Any = _locks

STAGING = ".saving-"
"""What names begin with of what is being written."""

_LONGEST_NAME = 255  # bytes, of all file systems that are common

_LONG = 24 * 3600.0  # seconds after which what cannot be locked counts as left


def beside(target: Path, prefix: str) -> Path:
    """Return a path beside a file or folder that is always the same, for what goes with it.

    Args:
        target: The file or folder.
        prefix: What the name begins with; that of the target follows, or a digest of it if that would be too long.
    """
    name = os.fsencode(target.name)
    if len(os.fsencode(prefix)) + len(name) <= _LONGEST_NAME:
        return target.with_name(f"{prefix}{target.name}")
    return target.with_name(f"{prefix}{hashlib.sha256(name).hexdigest()}")


@contextmanager
def staging(folder: Path, prefix: str = STAGING) -> Iterator[Path]:
    """Make a folder in `folder`, that is gone afterwards with all that is still in it.

    Those of processes that were killed are removed as well, and those of others that are at work are left alone.

    Args:
        folder: Where to; what is complete can be moved there at one stroke.
        prefix: What its name begins with, and the names of what is removed.
    """
    for left in folder.glob(f"{prefix}*"):
        _remove_abandoned(left)
    path, lock = _new_folder(folder, prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make a folder if it is not there, and keep it to this process while the context lasts; what is in it stays.

    Raises:
        CheckpointError: Another process has it.
    """
    while True:
        folder.mkdir(exist_ok=True)
        if fcntl is None:
            yield
            return
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise CheckpointError(f"another process is at work in {folder}: wait until it has ended.") from None
        except OSError:  # a file system without locks
            pass
        if _is_at(handle, folder):
            break
        os.close(handle)  # the process that had it has just removed it
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def writing(target: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a file to be written, that is there under its name once all of it is: if the context ends without an error.

    It gets the permissions that the process gives new files.

    Args:
        target: The file.
        overwrite: Replace a file that is there.

    Raises:
        CheckpointError: It exists and `overwrite` is not set, or it cannot be written.
    """
    try:
        if os.path.lexists(target) and not overwrite:
            raise CheckpointError(f"{target} exists already: choose another path, or pass overwrite=True.")
        # In the same folder, since only there the last step is atomic.
        try:
            staged, handle = _new_file(target)
        except ValueError as error:  # a name that no file can have
            raise CheckpointError(f"{str(target)!r} cannot be written: {error}.") from error
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if fcntl is not None:  # while it is locked; elsewhere open files cannot be renamed
                    staged.replace(target)
            if fcntl is None:
                staged.replace(target)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
    except OSError as error:
        if isinstance(error, ZooError):
            raise
        raise CheckpointError(f"{target} cannot be written: {error.strerror or error}.") from error


def _new_file(target: Path) -> tuple[Path, int]:
    """Make an empty file beside `target`, always of the same name unless another process is writing it too."""
    staged = beside(target, STAGING)
    while True:
        _remove_abandoned(staged)
        # The system takes away from the permissions what the process's umask says, without it being asked for.
        with suppress(FileExistsError):
            handle = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
            _lock(handle)
            if _is_at(handle, staged):
                return staged, handle
            os.close(handle)
        staged = beside(target, f"{STAGING}{secrets.token_hex(4)}-")


def _new_folder(folder: Path, prefix: str) -> tuple[Path, int | None]:
    while True:
        path = Path(tempfile.mkdtemp(dir=folder, prefix=prefix))
        if fcntl is None:
            return path, None
        handle = os.open(path, os.O_RDONLY)
        _lock(handle)
        if _is_at(handle, path):
            return path, handle
        os.close(handle)  # another process took it for one that was left


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file or folder is still there under its name."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


def _lock(handle: int) -> None:
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)


def _remove_abandoned(path: Path) -> None:
    """Remove a file or folder that nobody is writing any more."""
    with suppress(OSError):  # gone already, or not ours to remove
        if fcntl is None:
            if time.time() - path.lstat().st_mtime > _LONG:
                _remove(path)
            return
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if _is_free(handle):
                _remove(path)
        finally:
            os.close(handle)


def _is_free(handle: int) -> bool:
    """Whether no process holds a file or folder locked; if nobody does, this one does from now on."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return time.time() - os.fstat(handle).st_mtime > _LONG
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
