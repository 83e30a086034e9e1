"""Whether a training checkpoint is as it was written."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

from zoo.errors import CheckpointError

__all__ = ["require_intact"]


def require_intact(path: str | Path) -> None:
    """Compare every part of a training checkpoint with the checksum that was written with it.

    `torch.save` writes a zip archive, which has a CRC-32 of each tensor, and `torch.load` does not look at it: one
    flipped bit would be other weights.

    Raises:
        CheckpointError: The file is damaged, or no such archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, EOFError, ValueError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(
            f"{path} is no training checkpoint, or a damaged one ({type(error).__name__}: {error!s:.200})."
        ) from error
    if damaged is not None:
        raise CheckpointError(
            f"{path} is damaged: its part {damaged!r:.80} is not what was written. Take an earlier checkpoint, or copy "
            "it again."
        )
