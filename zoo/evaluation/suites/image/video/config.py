"""What a suite of videos measures, as YAML read strictly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from zoo.errors import ConfigError
from zoo.evaluation.suite import DataFolder
from zoo.evaluation.suites.image.config import ImageSuite
from zoo.evaluation.utterances import require_no_gripper

__all__ = ["VideoFiles", "VideoSuite"]

Measure = Literal["psnr", "ssim", "st_lpips", "flicker", "feature_distance", "frechet_distance"]


@dataclass(frozen=True)
class VideoFiles(DataFolder):
    """Which videos a suite is about.

    Args:
        file: Name of the folder in the library's data cache.
        sha256: Of what was read when the published figures were made.
        made_by: The command that makes the folder.
        test: The manifest, see `zoo.data.videos.shots`.
    """

    test: str = "test.jsonl"

    forms: ClassVar[str] = "a folder of videos, a manifest, or .tar files"

    @property
    def needed(self) -> tuple[str, ...]:
        """The manifest."""
        return (self.test,)


@dataclass(frozen=True)
class VideoSuite(ImageSuite):
    """A suite for video tokenizers. What it has beside its own is that of `ImageSuite`, said of clips.

    Args:
        kind: Which suite this is.
        data: What to measure on.
        measures: What is measured of each clip, and of all together: `psnr`, `ssim` and `st_lpips` are means over its
            frames, features those of its frames, averaged.
        peers: Codecs, each with at most the bits that each model's tokens take.
        frame_models: Image tokenizers that make each frame by itself.
        frame_decode: Options of their `decode`.
        num_frames: Frames of a clip.
        frame_rate: Frames a second of the clips; those of each file if None.
        stride: Frames between the starts of two clips of a shot; `num_frames` if None.
    """

    kind: Literal["video"]  # type: ignore[assignment]  # of YAML, in which each suite has its own kind
    data: VideoFiles  # type: ignore[assignment]
    measures: tuple[Measure, ...]  # type: ignore[assignment]
    peers: tuple[Literal["H264"], ...] = ("H264",)  # type: ignore[assignment]
    frame_models: tuple[str, ...] = ()
    frame_decode: dict = field(default_factory=dict)
    num_frames: int = 16
    frame_rate: float | None = None
    stride: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_frames < 2 or (self.stride is not None and self.stride < 1):
            raise ConfigError(
                f"num_frames must be at least 2, and stride at least 1 or null, got {self.num_frames} and "
                f"{self.stride}."
            )
        if self.frame_rate is not None and not 0 < self.frame_rate < 1000:
            raise ConfigError(f"frame_rate must be frames a second, or null, got {self.frame_rate}.")

    def for_own(self, path: Path, gripper: Sequence[int] | None) -> VideoSuite:
        """Return the suite for videos that somebody points at, called by their name."""
        require_no_gripper(gripper)
        if path.is_dir() and self.data.has_form(path):
            return self
        title = f"{self.title}: {path.resolve().name}"
        return replace(self, title=title, data=replace(self.data, sha256=""), groups=())
