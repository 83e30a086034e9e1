"""Writing a file all at once."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from zoo.errors import CheckpointError, ZooError

__all__ = ["write_whole"]


def write_whole(target: Path, content: bytes, overwrite: bool) -> None:
    """Write a file, all of it or nothing, with the permissions that the process gives new files.

    Args:
        target: The file.
        content: What is to be in it.
        overwrite: Replace a file that is there.

    Raises:
        CheckpointError: It exists and `overwrite` is not set, or it cannot be written.
    """
    try:
        if os.path.lexists(target) and not overwrite:
            raise CheckpointError(f"{target} exists already: choose another path, or pass overwrite=True.")
        # In the same folder, since only there the last step is atomic.
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            staged = Path(file.name)
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                staged.chmod(0o666 & ~_umask())
                staged.replace(target)
            except BaseException:
                staged.unlink(missing_ok=True)
                raise
    except OSError as error:
        if isinstance(error, ZooError):
            raise
        raise CheckpointError(f"{target} cannot be written: {error.strerror or error}.") from error


def _umask() -> int:
    """Return the permissions that new files lack, which temporary files, private to their owner, do not follow."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
