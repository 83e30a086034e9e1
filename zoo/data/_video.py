"""Reading videos with FFmpeg."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from zoo.data._image import Crop, Size, from_8_bit, output_size, resize
from zoo.data._source import Source, describe, open_source, unreadable
from zoo.data.audio import claimed_seconds
from zoo.errors import InputError

__all__ = ["SUFFIXES", "at_rate", "frames_of", "opened_video", "read_video", "upright"]

_SUFFIXES = ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ogv .wmv .flv .gif"
SUFFIXES = tuple(_SUFFIXES.split())
"""What the names of videos end in."""

_OWN_CLOCKS = ("gif", "apng")  # formats whose frames have times and no rate, of which FFmpeg makes one of its own

# Without protocols, a file that names other files (a playlist) cannot make FFmpeg open them.
_OPTIONS = {"protocol_whitelist": "none"}


def read_video(
    source: Source,
    *,
    size: Size | None = None,
    crop: Crop = "center",
    num_frames: int | None = None,
    frame_rate: float | None = None,
    on_white: bool = False,
) -> tuple[Tensor, float]:
    """Read a video as (3, T, H, W), float32, 0…1, upright.

    Args:
        source: A path, or a whole file in memory, of any format FFmpeg reads.
        size: Resize to (H, W), or to a square, as `read_image` does; None keeps the size.
        crop: "center" cuts the middle out, None stretches.
        num_frames: Read this many frames from the start and no more; None reads all into memory.
        frame_rate: Frames a second to return: at each instant the frame on show then, so frames are dropped or
            repeated, never blended. None keeps the file's own frames.
        on_white: Lay frames with transparency on white; otherwise they are refused, unless fully opaque.

    Returns:
        The clip and its frames a second: the average, if the file's rate varies. GIFs that give their frames no time
        are taken to show each for 0.1 s, as viewers do, so that a picture that is a GIF has 10 frames a second.

    Raises:
        InputError: The file is missing, unreadable, truncated, has no video, fewer than `num_frames` frames, or
            transparent ones.
    """
    if num_frames is not None and num_frames < 1:
        raise InputError(f"num_frames must be at least 1, got {num_frames}.")
    frames, rate = [], 0.0
    timed = frames_of(source, size=size, crop=crop, frame_rate=frame_rate, on_white=on_white)
    for frame, rate in timed:  # noqa: B007  the same for all
        frames.append(frame)
        if len(frames) == num_frames:
            break
    if num_frames is not None and len(frames) < num_frames:
        raise InputError(f"{describe(source)} has {len(frames)} frames, {num_frames} were asked for.")
    clip = torch.stack(frames, dim=1)
    return (clip if clip.dtype.is_floating_point else from_8_bit(clip)), rate


def frames_of(
    source: Source,
    *,
    size: Size | None = None,
    crop: Crop = "center",
    frame_rate: float | None = None,
    on_white: bool = False,
) -> Iterator[tuple[Tensor, float]]:
    """Decode a video frame by frame, so that one that is too long for the memory can be read.

    Args:
        source: As of `read_video`.
        size: As of `read_video`.
        crop: As of `read_video`.
        frame_rate: As of `read_video`.
        on_white: As of `read_video`.

    Yields:
        Frames (3, H, W), at least one: uint8, or float32 in 0…1 where they were resized; and frames a second.

    Raises:
        InputError: As for `read_video`; what is wrong further behind is seen when it is reached.
    """
    target = None if size is None else output_size(size, crop)
    if frame_rate is not None and not (frame_rate > 0 and math.isfinite(frame_rate)):
        raise InputError(f"frame_rate must be positive, got {frame_rate}.")
    count, first = 0, None
    with opened_video(source) as (container, stream, rate):
        decoded = _decode(container, stream, rate, source)
        for _, frame in decoded if frame_rate is None else at_rate(decoded, rate, frame_rate):
            pixels = upright(frame, source, on_white)
            if target is not None:
                pixels = resize(from_8_bit(pixels), target, crop)
            first = pixels.shape if first is None else first
            if pixels.shape != first:
                raise InputError(f"{describe(source)} changes its picture size after {count} frames: pass size.")
            count += 1
            yield pixels, frame_rate or rate
    if not count:
        raise InputError(f"{describe(source)} holds no frames.")


@contextmanager
def opened_video(source: Source, threads: int = 0) -> Iterator[tuple[Any, Any, float]]:
    """Open a video, and close it with all that its decoder holds.

    Args:
        source: As of `read_video`.
        threads: That decode; 0 is as many as there are cores.

    Yields:
        PyAV's container and stream, and frames a second.

    Raises:
        InputError: It is missing, unreadable, no video, or does not say its rate; or what is done with it fails.
    """
    import av

    with open_source(source) as file, unreadable(source, "a video"), av.open(file, options=_OPTIONS) as container:
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams or container.format.name.endswith("_pipe"):
            if _is_animated_webp(file):
                raise InputError(f"{describe(source)} is an animated WebP, which FFmpeg does not read: convert it.")
            raise InputError(f"{describe(source)} is not a video: it has no moving picture.")
        stream = streams[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        rate = float(stream.average_rate or 0)
        if rate <= 0 or container.format.name in _OWN_CLOCKS:
            rate = _measured_rate(file, stream.index) or rate or float(stream.guessed_rate or 0)
        if rate <= 0:
            raise InputError(f"{describe(source)} does not say how many frames a second it has: convert it.")
        if container.format.name == "gif":
            _check_gif_end(file, source)
        yield container, stream, rate


def _decode(container: Any, stream: Any, rate: float, source: Source) -> Iterator[tuple[float, Any]]:
    """Yield (seconds since the first frame, frame), and refuse a file that ends before its header says."""
    first, previous, longest = None, 0.0, 1 / rate
    for packet in container.demux(stream):
        for frame in packet.decode():
            if packet.is_corrupt or frame.is_corrupt:
                raise InputError(f"{describe(source)} is damaged or truncated near {previous:.2f} s: get it again.")
            time = previous + 1 / rate if frame.time is None else frame.time
            first = time if first is None else first
            time -= first
            # Where the rate varies, the last frame may stay as long as any other.
            longest = max(longest, time - previous)
            previous = time
            yield time, frame
    claimed = claimed_seconds(container, stream)
    if claimed is not None and previous + 2.5 * longest < claimed:
        raise InputError(
            f"{describe(source)} is truncated: {previous:.2f} s of video, the header says {claimed:.2f} s."
        )


def at_rate(
    frames: Iterator[tuple[float, Any]], rate: float, new_rate: float, start: float = 0.0
) -> Iterator[tuple[float, Any]]:
    """Hold each frame until the next one, and look at `start`, `start + 1/new_rate`, `start + 2/new_rate` and so on."""
    slack = 0.25 / max(rate, new_rate)  # files round their times, often to milliseconds
    count, held, end = 0, None, 0.0
    for time, frame in frames:
        while held is not None and start + count / new_rate < time - slack:
            yield start + count / new_rate, held
            count += 1
        held, end = frame, time + 1 / rate
    while held is not None and start + count / new_rate < end - slack:
        yield start + count / new_rate, held
        count += 1


def upright(frame: Any, source: Source, on_white: bool = False) -> Tensor:
    """Return one frame upright as (3, H, W), uint8.

    Raises:
        InputError: It is transparent in places, and is not to be laid on white.
    """
    pixels = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
    if frame.format.has_palette or any(component.is_alpha for component in frame.format.components):
        alpha = torch.from_numpy(frame.to_ndarray(format="rgba")[..., 3].copy())
        if bool((alpha < 255).any()):
            if not on_white:
                raise InputError(
                    f"{describe(source)} is transparent in places, and its tokens would depend on what lies behind: "
                    "pass on_white=True to lay it on white, or convert it."
                )
            share = alpha.float() / 255
            pixels = (pixels * share + 255 * (1 - share)).round().to(torch.uint8)
    turns = round(frame.rotation / 90) % 4  # anticlockwise, from the file's display matrix
    return torch.rot90(pixels, turns, dims=(1, 2)) if turns else pixels


def _measured_rate(file: Any, index: int) -> float:
    """Return how many frames a second a file shows by the times of its packets, 0 if it has none.

    FFmpeg's guess is the resolution of these times, where there are few: 100 for a GIF, 100,000 for an APNG.
    """
    import av

    place = file.tell()
    file.seek(0)
    with av.open(file, options=_OPTIONS) as container:
        stream = container.streams[index]
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        times = sorted(cast(int, packet.pts) for packet in packets)
        lasts = [packet.duration or 0 for packet in packets]
        clock = float(stream.time_base or 0)
    file.seek(place)
    if packets and min(lasts) > 0:
        return len(packets) / (sum(lasts) * clock)
    return (len(times) - 1) / ((times[-1] - times[0]) * clock) if times and times[-1] > times[0] else 0.0


def _is_animated_webp(file: Any) -> bool:
    file.seek(0)
    head: bytes = file.read(64)
    return head[8:12] == b"WEBP" and b"ANIM" in head


def _check_gif_end(file: Any, source: Source) -> None:
    """A GIF has neither a length nor an index; only its last byte tells that it is whole."""
    position = file.tell()
    file.seek(-16, os.SEEK_END)
    tail = file.read().rstrip(b"\0")
    file.seek(position)
    if not tail.endswith(b";"):
        raise InputError(f"{describe(source)} is truncated: the GIF has no end mark. Get it again.")
