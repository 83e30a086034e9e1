"""The clips that a suite measures on: on a grid of each shot, as validation has them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from zoo.data._clip import read_clip
from zoo.data.datamodule import Split
from zoo.data.videos.layouts import find_shots, open_shots
from zoo.data.videos.module import frames_of_shot
from zoo.data.videos.shots import Shots
from zoo.errors import InputError

__all__ = ["Clip", "clips_in"]

_SPLITS: tuple[Split, ...] = ("test", "val", "train")


@dataclass(frozen=True)
class Clip:
    """A clip of a set.

    Args:
        shots: The set.
        index: Number of the shot there.
        first: Frame of the shot at which it begins.
        rate: Frames a second.
        name: What it is called.
        source: Where it is from, "" if nobody says.
    """

    shots: Shots
    index: int
    first: int
    rate: float
    name: str
    source: str

    @property
    def key(self) -> int:
        """A number that stands for it, wherever its folder is."""
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:8])

    def digest(self) -> bytes:
        """Return the SHA-256 of the file that it is in, and of where it begins.

        Raises:
            InputError: It cannot be read.
        """
        content = self.shots.read(self.index).content
        try:
            whole = content if isinstance(content, bytes) else content.read_bytes()
        except OSError as error:
            raise InputError(f"{self.name} cannot be read: {error.strerror}.") from error
        return hashlib.sha256(whole).digest() + self.first.to_bytes(8)

    def read(self, num_frames: int, frame_rate: float | None, size: tuple[int, int]) -> Tensor:
        """Return the clip (3, T, H, W) in 0…1: scaled to cover the size, and the middle cut out.

        Raises:
            InputError: It cannot be read, or is too short.
        """
        shot = self.shots.read(self.index)
        start = shot.start + self.first / self.rate
        try:
            return read_clip(
                shot.content, num_frames=num_frames, start=start, end=shot.end, frame_rate=frame_rate, size=size
            )[0]
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from error


def clips_in(
    path: Path, manifest: str, num_frames: int, frame_rate: float | None, stride: int | None
) -> tuple[list[Clip], int]:
    """Return the clips that a path stands for, and how many shots are too short to have any.

    Args:
        path: A folder in any layout that training reads, of which the test split counts if there is one, then
            validation; a manifest, a .tar file, or a single video.
        manifest: What the manifest of a folder is called, which comes before all else.
        num_frames: Frames of a clip.
        frame_rate: Frames a second; those of each file if None.
        stride: Frames between two clips; `num_frames` if None.

    Raises:
        InputError: There are no videos, or all are too short.
        ConfigError: A file is none that videos are in.
    """
    folder = path if path.is_dir() else path.parent
    shots: Shots | None = None
    if path.is_file():
        shots = open_shots(folder, path.name, {}, "test") or open_shots(folder, path.name, {}, "train")
    elif (path / manifest).is_file():
        shots = open_shots(path, manifest, {}, "test")
    else:
        shots = next((found for split in _SPLITS if (found := find_shots(path, split, {})) is not None), None)
    if shots is None:
        raise InputError(f"{path} holds no videos: it needs video files, {manifest}, or .tar files.")
    sources: Sequence[str] = shots.sources() or [""] * len(shots)
    clips, too_short = [], 0
    for index, source in enumerate(sources):
        frames, rate = frames_of_shot(shots.read(index), frame_rate)
        starts = range(0, frames - num_frames + 1, stride or num_frames)
        too_short += not starts
        name = Path(shots.name(index))
        shown = name.relative_to(folder).as_posix() if name.is_relative_to(folder) else str(name)
        clips += [Clip(shots, index, first, rate, f"{shown}, frame {first}", source) for first in starts]
    if not clips:
        raise InputError(f"no video of {path} has {num_frames} frames: choose fewer, num_frames.")
    return clips, too_short
