"""Clips of videos for training, of whatever layout, decoded where they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor

from zoo.data._clip import clips_in, read_clip, video_facts
from zoo.data._image import Size, output_size
from zoo.data.collection import CollectionData, CollectionItems, Corrupt
from zoo.data.datamodule import Split
from zoo.data.videos.layouts import find_shots
from zoo.data.videos.shots import Shot, Shots
from zoo.errors import ConfigError, InputError, shown

__all__ = ["VideoBatch", "VideoClips", "VideoData", "VideoItem"]

_NOUNS = ("video", "videos")


class VideoItem(NamedTuple):
    """One clip; `corrupt` names those that could not be read and that it stands in for."""

    video: Tensor
    length: int
    label: int
    caption: str
    name: str
    corrupt: tuple[str, ...]


class VideoBatch(NamedTuple):
    """What `VideoData` gives a training step.

    Attributes:
        videos: (B, 3, T, H, W) float32 in 0…1.
        lengths: (B,) int64, frames of each clip that are the video's own; less than T only with `repeat_last`.
        labels: (B,) int64, -1 where unknown.
        captions: Texts, "" where there is none.
        names: Files, or places in shards, and the frame where the clip begins.
        corrupt: Names of videos that could not be read, each replaced by another in this batch.
    """

    videos: Tensor
    lengths: Tensor
    labels: Tensor
    captions: list[str]
    names: list[str]
    corrupt: list[str]


class _Loaded(NamedTuple):
    video: Tensor
    length: int
    first: int
    shot: Shot


class VideoClips(CollectionItems[_Loaded, VideoItem]):
    """Clips of a set of shots.

    Args:
        shots: The set.
        clips: Number of the shot and of the frame in it, at the clip's rate, where a clip begins; where it is None the
            clip begins anywhere, drawn from torch's default generator.
        num_frames: Frames of a clip.
        frame_rate: Frames a second, see `zoo.data.media.read_video`; those of the file if None.
        size: Resize to (H, W), or to a square, and cut the middle out; None keeps the size.
        random_crop: Instead of the middle a rectangle of each clip, of a share of a frame's area drawn from this range,
            anywhere, the same in all of its frames, and resized to `size`.
        flip: Mirror every other clip, at random.
        repeat_last: Repeat the last frame of a shot that is shorter than a clip; otherwise it cannot be read.
        corrupt: What to do with a video that cannot be read, see `zoo.data.collection.CollectionItems`.
        on_white: Lay frames with transparency on white; otherwise they cannot be read.
    """

    nouns = _NOUNS

    def __init__(
        self,
        shots: Shots,
        clips: Sequence[tuple[int, int | None]],
        num_frames: int,
        frame_rate: float | None = None,
        size: int | tuple[int, int] | None = None,
        flip: bool = False,
        repeat_last: bool = False,
        corrupt: Corrupt = "refuse",
        on_white: bool = False,
        random_crop: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(corrupt)
        self.random_crop = random_crop
        self.on_white = on_white
        self.shots = shots
        self.origin = shots.origin
        self.clips = clips
        self.num_frames = num_frames
        self.frame_rate = frame_rate
        self.size = size
        self.flip = flip
        self.repeat_last = repeat_last

    def __len__(self) -> int:
        return len(self.clips)

    def name(self, place: int) -> str:
        """Return the name of a shot."""
        return self.shots.name(self.clips[place][0])

    def load(self, place: int) -> _Loaded:
        """Read a clip."""
        number, first = self.clips[place]
        shot = self.shots.read(number)
        frames, rate = frames_of_shot(shot, self.frame_rate, needs_frames=first is None)
        if first is None:
            first = int(torch.randint(max(1, frames - self.num_frames + 1), ()))
        video, length = read_clip(
            shot.content,
            num_frames=self.num_frames,
            start=shot.start + first / rate,
            end=shot.end,
            frame_rate=self.frame_rate,
            size=self.size if self.random_crop is None else None,
            repeat_last=self.repeat_last,
            on_white=self.on_white,
        )
        return _Loaded(video, length, first, shot)

    def finish(self, loaded: _Loaded, place: int, lost: tuple[str, ...]) -> VideoItem:
        """Cut a rectangle out of a clip and mirror it, perhaps."""
        video, length, first, shot = loaded
        if self.random_crop is not None:
            video = _rectangle(video, self.random_crop, output_size(cast("Size", self.size), "center"))
        if self.flip and torch.rand(()) < 0.5:
            video = video.flip(-1)
        return VideoItem(video, length, shot.label, shot.caption, f"{self.name(place)}, frame {first}", lost)


class VideoData(CollectionData):
    """Clips of videos: of a folder, of class folders, manifests, or tar shards; see `zoo.data.videos.layouts`.

    Training clips begin at random, anew in each epoch. Validation and testing have the clips of a grid, the same every
    time: what is left over at the end of a shot is in none of them, unless the whole shot is shorter than a clip.

    Args:
        folder: Where they are, or a single file; what `recipes/data/video.py` makes if None.
        splits: Path or pattern of each split, as `{train: "shards/a-*.tar", val: "held-out"}`; found if None.
        columns: Names of the keys of a manifest, where they are others than in `zoo.data.videos.shots.COLUMNS`.
        num_frames: Frames of a clip.
        frame_rate: Frames a second, frames being dropped or repeated, never blended; those of each file if None.
        size: Resize so that this height and width, or square, is covered, and cut its middle out; None keeps the size.
        sampling: "shot": an epoch has one clip of each shot. "start": as many clips as fit into it one after another,
            so that long shots count for more; each file whose length no manifest says is then opened in advance.
        stride: Frames between the starts of two clips in validation and testing; `num_frames` if None.
        random_crop: Range of the share of a frame's area, such as [0.4, 1.0], that a rectangle covers which a training
            clip is cut to before it is resized to `size`: drawn anew each time, anywhere, up to a tenth wider or higher
            than `size` is. None cuts the middle out, as validation and testing always do.
        flip: Mirror every other training clip, at random.
        repeat_last: Repeat the last frame of a shot that is shorter than a clip, which `lengths` tells; otherwise such
            a shot cannot be read.
        on_white: Lay frames with transparency on white; otherwise a shot cannot be read.
        sources: Sources to train on, where a manifest tells them; all if None.
        eval_sources: Sources to validate and test on; all if None.
        repeat: How often an epoch has the clips of a source, where that is not once.
        eval_items: At most so many clips in validation, evenly picked; all if None.
        corrupt: What to do with a video that cannot be read: "refuse" stops and names it; "skip" takes another one in
            its place, always the same, and warns at the end of an epoch.
        batch_size: Clips of a training batch of one process.
        eval_batch_size: Clips of a batch in validation and testing; `batch_size` if None.
        num_workers: Processes that read; 0 reads in the training process. The result is the same.
        seed: Of the order, the starts, the rectangles and the mirroring.
        pin_memory: Put batches where they are copied to a GPU faster.

    Attributes:
        corrupt_files: Names of the videos that could not be read so far, with how often they were replaced.
    """

    nouns = _NOUNS
    recipe = "video"

    def __init__(
        self,
        folder: str | None = None,
        splits: dict[str, str] | None = None,
        columns: dict[str, str] | None = None,
        num_frames: int = 16,
        frame_rate: float | None = None,
        size: int | tuple[int, int] | None = None,
        sampling: Literal["shot", "start"] = "start",
        stride: int | None = None,
        random_crop: tuple[float, float] | None = None,
        flip: bool = False,
        repeat_last: bool = False,
        on_white: bool = False,
        sources: list[str] | None = None,
        eval_sources: list[str] | None = None,
        repeat: dict[str, int] | None = None,
        eval_items: int | None = None,
        corrupt: Corrupt = "refuse",
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(
            folder=folder,
            splits=splits,
            columns=columns,
            sources=sources,
            eval_sources=eval_sources,
            repeat=repeat,
            eval_items=eval_items,
            corrupt=corrupt,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            seed=seed,
            pin_memory=pin_memory,
        )
        if sampling not in ("shot", "start"):
            raise ConfigError(f"data: sampling must be shot or start, got {shown(sampling)}.")
        for name, value in {"num_frames": num_frames, "stride": stride}.items():
            if value is not None and value < 1:
                raise ConfigError(f"data: {name} must be at least 1, got {value}.")
        if frame_rate is not None and not 0 < frame_rate < 1e6:
            raise ConfigError(f"data: frame_rate must be a number of frames a second, got {frame_rate}.")
        sides = (size,) if isinstance(size, int) else tuple(size or ())
        if len(sides) > 2 or any(side < 1 for side in sides):
            raise ConfigError(f"data: size must be a number of pixels, or height and width, got {size}.")
        if random_crop is not None:
            if size is None:
                raise ConfigError("data: random_crop needs the size that rectangles are resized to: set data.size.")
            if not 0 < random_crop[0] <= random_crop[1] <= 1:
                raise ConfigError(
                    "data: random_crop must be the smallest and the largest share of a frame's area, above 0 and up to "
                    f"1, got {shown(random_crop)}."
                )
        self.num_frames = num_frames
        self.frame_rate = frame_rate
        self.size = size if size is None or isinstance(size, int) else (size[0], size[1])
        self.random_crop = random_crop
        self.sampling = sampling
        self.stride = stride or num_frames
        self.flip = flip
        self.repeat_last = repeat_last
        self.on_white = on_white

    def dataset(self, split: Split) -> VideoClips | None:
        """Return the clips of a split; None if there is none.

        Raises:
            ConfigError: There is no such folder, or a source is named that the data does not have.
            InputError: A manifest or shard is damaged.
        """
        self.require_folder()
        shots = find_shots(self.folder, split, self.columns, self.splits)
        if shots is None:
            return None
        is_training = split == "train"
        clips: list[tuple[int, int | None]] = []
        for number in self.chosen(shots, is_training):
            if is_training and self.sampling == "shot":
                clips.append((number, None))
                continue
            starts = range(0, self._last_start(shots, number) + 1, self.num_frames if is_training else self.stride)
            clips += [(number, None if is_training else start) for start in starts]
        return VideoClips(
            shots,
            self.evenly(clips) if split == "val" else clips,
            self.num_frames,
            self.frame_rate,
            self.size,
            self.flip and is_training,
            self.repeat_last,
            self.corrupt,
            self.on_white,
            self.random_crop if is_training else None,
        )

    def _last_start(self, shots: Shots, number: int) -> int:
        """Return the last frame of a shot at which a clip may begin; 0 where it cannot be read, which reading tells."""
        try:
            frames, _ = frames_of_shot(shots.read(number), self.frame_rate)
        except InputError:
            return 0
        return max(0, frames - self.num_frames)

    def collate(self, items: list[VideoItem]) -> VideoBatch:
        """Make a batch of clips of one size.

        Raises:
            InputError: They are of different sizes.
        """
        for item in items:
            if item.video.shape != items[0].video.shape:
                (h, w), (height, width) = items[0].video.shape[-2:], item.video.shape[-2:]
                raise InputError(
                    f"the clips of a batch must be of one size: {items[0].name} is {h}×{w}, {item.name} "
                    f"{height}×{width}. Set data.size."
                )
        return VideoBatch(
            torch.stack([item.video for item in items]),
            torch.tensor([item.length for item in items]),
            torch.tensor([item.label for item in items]),
            [item.caption for item in items],
            [item.name for item in items],
            [name for item in items for name in item.corrupt],
        )


def frames_of_shot(shot: Shot, frame_rate: float | None, needs_frames: bool = True) -> tuple[int, float]:
    """Return how many frames a shot has at a rate, and the rate; the file is opened where the shot does not tell.

    Raises:
        InputError: The file cannot be read, or the shot begins behind its end.
    """
    known = frame_rate or shot.frame_rate
    if known is not None and not needs_frames:
        return 0, known
    if known is not None and shot.end is not None:
        return clips_in(shot.end - shot.start, known), known
    facts = video_facts(shot.content)
    rate = frame_rate or facts.frame_rate
    end = facts.duration if shot.end is None else shot.end
    if shot.start >= facts.duration:
        raise InputError(f"the shot begins at {shot.start:g} s, the video has {facts.duration:g} s.")
    return clips_in(end - shot.start, rate), rate


def _rectangle(video: Tensor, shares: tuple[float, float], size: tuple[int, int]) -> Tensor:
    """Return a random rectangle of a clip (3, T, H, W), resized: (3, T, h, w)."""
    from torchvision.transforms.v2 import RandomResizedCrop
    from torchvision.transforms.v2.functional import InterpolationMode, resized_crop

    ratio = size[1] / size[0]
    top, left, height, width = RandomResizedCrop.get_params(video, list(shares), [0.9 * ratio, 1.1 * ratio])
    # (as what reads clips of a size resizes them, whose overshoot is clamped, too)
    resized: Tensor = resized_crop(video, top, left, height, width, list(size), InterpolationMode.BICUBIC)
    return resized.clamp(0, 1)
