"""Reading a long sound file block by block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from zoo.data._source import describe, local_path, unreadable
from zoo.data.audio import _notes_a_cut
from zoo.errors import InputError

__all__ = ["read_blocks"]

_BLOCK_SECONDS = 1


def read_blocks(path: str | os.PathLike[str], *, sample_rate: int, mix_down: bool = False) -> Iterator[Tensor]:
    """Read a sound file that libsndfile knows (WAV, FLAC, Ogg, MP3, AIFF, …), a second at a time.

    Args:
        path: The file.
        sample_rate: The rate in Hz that it must have.
        mix_down: Average the channels instead of refusing more than one.

    Returns:
        An iterator over consecutive waves (samples,), float32. The values are those of `zoo.data.media.read_audio`.

    Raises:
        InputError: The file is missing, unreadable, truncated (where its header says so), or of another rate; the
            first three perhaps only where it is read.
    """
    import soundfile

    name = describe(path)
    with unreadable(path, "sound"):
        sound = soundfile.SoundFile(local_path(path))
    if sound.samplerate != sample_rate or (sound.channels > 1 and not mix_down):
        found = f"{sound.samplerate} Hz and {sound.channels} channel(s)"
        sound.close()
        raise InputError(
            f"{name} has {found}, {sample_rate} Hz and one channel are expected: mix_down=True averages channels; "
            "convert it to the rate first, or encode it at once with resample=True."
        )
    return _blocks(sound, path)


def _blocks(sound: Any, path: str | os.PathLike[str]) -> Iterator[Tensor]:
    with sound, unreadable(path, "sound"):
        count = 0
        while len(values := sound.read(_BLOCK_SECONDS * sound.samplerate, dtype="float32", always_2d=True)):
            count += len(values)
            yield torch.from_numpy(values).mean(1) if values.shape[1] > 1 else torch.from_numpy(values[:, 0])
        if sound.format != "MP3" and (count < sound.frames or _notes_a_cut(sound.extra_info)):
            raise InputError(
                f"{describe(path)} is truncated: it ends before the {sound.format} file says it does. Get it again."
            )
