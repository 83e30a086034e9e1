"""Reading a clip out of the middle of a video: the way there is jumped over, not decoded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.data._image import Crop, Size, from_8_bit, output_size, resize
from zoo.data._source import Source, describe
from zoo.data._video import at_rate, opened_video, upright
from zoo.errors import InputError

__all__ = ["VideoFacts", "clips_in", "read_clip", "video_facts"]


@dataclass(frozen=True)
class VideoFacts:
    """What the header of a video says.

    Attributes:
        frame_rate: Frames a second, on average.
        num_frames: Frames.
    """

    frame_rate: float
    num_frames: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.num_frames / self.frame_rate


def video_facts(source: Source) -> VideoFacts:
    """Return what a video says of itself; one that does not say how long it is is decoded, and counted.

    Raises:
        InputError: It is missing, unreadable, or no video.
    """
    with opened_video(source, threads=1) as (container, stream, rate):
        count = stream.frames
        if not count and stream.duration:
            count = round(float(stream.duration * stream.time_base) * rate)
        if not count and container.duration:
            count = round(container.duration / 1_000_000 * rate)
        if not count:
            count = sum(1 for _ in container.decode(stream))
        if not count:
            raise InputError(f"{describe(source)} holds no frames.")
        return VideoFacts(rate, count)


def clips_in(seconds: float, rate: float) -> int:
    """Return how many frames a stretch of a video has at a rate, at least one."""
    return max(1, math.ceil(seconds * rate - 0.25))


def read_clip(
    source: Source,
    *,
    num_frames: int,
    start: float = 0.0,
    end: float | None = None,
    frame_rate: float | None = None,
    size: Size | None = None,
    crop: Crop = "center",
    repeat_last: bool = False,
    on_white: bool = False,
) -> tuple[Tensor, int]:
    """Read some consecutive frames of a video as (3, T, H, W), float32, 0…1, upright.

    Nothing of the file stays open or in memory. It decodes with one thread, since many clips are read at a time, and
    resizes them in 8 bits, which at edges differs by up to 4 of 255 from what `read_video` makes.

    Args:
        source: A path, or a whole file in memory, of any format FFmpeg reads.
        num_frames: Frames to return.
        start: Second of the video at which the clip begins: with the frame that is on show then, or without a
            `frame_rate` with the nearest one.
        end: Second of the video behind the last frame; its own end if None.
        frame_rate: As of `read_video`.
        size: As of `read_video`.
        crop: As of `read_video`.
        repeat_last: If the video is too short, repeat its last frame; otherwise it is an error.
        on_white: As of `read_video`.

    Returns:
        The clip, and how many of its frames are the video's: `num_frames` unless its last one was repeated.

    Raises:
        InputError: It is missing, unreadable, damaged where the clip is, or too short.
    """
    target = None if size is None else output_size(size, crop)
    if num_frames < 1 or not 0 <= start < math.inf:
        raise InputError(f"num_frames must be at least 1 and start at least 0 s, got {num_frames} and {start}.")
    with opened_video(source, threads=1) as (container, stream, rate):
        frames = _stretch(container, stream, rate, start, end, frame_rate, num_frames, source, on_white)
    if not frames:
        raise InputError(f"{describe(source)} has no frame at {start:.2f} s: it is shorter than it says.")
    valid = len(frames)
    if valid < num_frames:
        if not repeat_last:
            until = "" if end is None else f" to {end:.2f} s"
            raise InputError(
                f"{describe(source)} has {valid} frames from {start:.2f} s{until}, a clip has {num_frames}: choose "
                "fewer frames or a higher frame rate, or repeat_last, which repeats the last one."
            )
        frames += frames[-1:] * (num_frames - valid)
    if any(frame.shape != frames[0].shape for frame in frames):
        if target is None:
            raise InputError(f"{describe(source)} changes its picture size near {start:.2f} s: pass size.")
        frames = [resize(frame, target, crop) for frame in frames]
    clip = torch.stack(frames, dim=1)
    return from_8_bit(clip if target is None else resize(clip, target, crop)), valid


def _stretch(
    container: Any,
    stream: Any,
    rate: float,
    start: float,
    end: float | None,
    frame_rate: float | None,
    most: int,
    source: Source,
    on_white: bool,
) -> list[Tensor]:
    # Where a jump lands is a promise of few formats, so that one that landed too late is taken back.
    for jump in (True, False) if start > 0 else (False,):
        frames: list[Tensor] = []
        try:
            timed = _timed(container, stream, rate, start, jump, source)
            if frame_rate is not None:
                last = math.inf if end is None else end - 0.25 / max(rate, frame_rate)
                chosen = at_rate(timed, rate, frame_rate, start)
            else:
                last = math.inf if end is None else end - 0.5 / rate
                chosen = ((time, frame) for time, frame in timed if time >= start - 0.5 / rate)
            for time, frame in chosen:
                if time >= last:
                    break
                frames.append(upright(frame, source, on_white))
                if len(frames) == most:
                    break
            return frames
        except _LandedLateError:
            continue
    return []


class _LandedLateError(Exception):
    """A jump has landed behind its target, or where frames have no times."""


def _timed(
    container: Any, stream: Any, rate: float, start: float, jump: bool, source: Source
) -> Iterator[tuple[float, Any]]:
    """Yield (seconds since the beginning, frame), from before `start` on."""
    begins = None if stream.start_time is None else float(stream.start_time * stream.time_base)
    ticks = 0 if begins is None else round((begins + start) / float(stream.time_base))
    if jump and begins is None:
        raise _LandedLateError
    if jump or start > 0:
        container.seek(ticks if jump else (stream.start_time or 0), stream=stream, backward=True)
    landed, previous = not jump, None
    for packet in container.demux(stream):
        for frame in packet.decode():
            time = frame.time
            if time is None:
                if jump:
                    raise _LandedLateError
                time = (begins or 0.0) if previous is None else previous + 1 / rate
            begins = time if begins is None else begins
            if not landed and time - begins > start + 0.25 / rate:
                raise _LandedLateError
            landed, previous = True, time
            # What comes before may have been decoded without the frames that it needs.
            if (packet.is_corrupt or frame.is_corrupt) and time - begins >= start - 0.5 / rate:
                raise InputError(f"{describe(source)} is damaged near {time - begins:.2f} s: get it again.")
            yield time - begins, frame
