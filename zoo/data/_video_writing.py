"""Writing videos, as a whole or part by part."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from zoo.data._image import checked_8_bit
from zoo.errors import InputError, MissingExtraError

__all__ = ["encoded_gif", "mp4_encoder", "require_gif_rate", "write_gif", "write_mp4"]

_FASTEST_GIF = 50  # frames a second
_ENCODERS = ("libx264", "libopenh264", "mpeg4")


def write_mp4(path: str | os.PathLike[str], video: Tensor | Iterable[Tensor], frame_rate: float) -> None:
    """Write a clip (3, T, H, W) in 0…1 as MP4, H.264 at high quality (MPEG-4 where the build of FFmpeg lacks H.264).

    Args:
        path: Where; what was there is replaced as soon as writing begins.
        video: The clip, or consecutive parts of it, which are not held.
        frame_rate: Frames a second.

    Raises:
        InputError: The clip has another shape, odd height or width (its colours are stored for 2×2 pixels), or values
            outside 0…1.
        MissingExtraError: The build of FFmpeg has no encoder for MP4.
    """
    import av

    encoder = mp4_encoder()
    frames = _frames(video, even=True)
    first = next(frames)
    options = {"libx264": {"crf": "16"}, "mpeg4": {"qscale": "2"}}.get(encoder, {})
    # Through an open file, so that what a disk refuses is the system's error.
    with Path(path).open("wb") as file, av.open(file, "w", format="mp4") as container:
        rate = Fraction(frame_rate).limit_denominator(1001)
        stream: Any = container.add_stream(encoder, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = *first.shape[:2], "yuv420p"
        for frame in itertools.chain([first], frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def mp4_encoder() -> str:
    """Return the encoder that MP4 is written with.

    Raises:
        MissingExtraError: The build of FFmpeg has none.
    """
    import av

    encoder = next((name for name in _ENCODERS if name in av.codecs_available), None)
    if encoder is None:
        raise MissingExtraError(f"this build of av has none of the encoders {', '.join(_ENCODERS)}: pip install -U av.")
    return encoder


def write_gif(path: str | os.PathLike[str], video: Tensor | Iterable[Tensor], frame_rate: float) -> None:
    """Write a clip (3, T, H, W) in 0…1 as an animated GIF that repeats: 256 colours a frame, and no sound.

    GIF counts time in hundredths of a second, to which each frame's beginning is rounded. Equal neighbours become one
    frame that stays longer.

    Args:
        path: Where; what was there is replaced as soon as writing begins.
        video: The clip, or consecutive parts of it.
        frame_rate: Frames a second, at most 50, since viewers slow down what is faster.

    Raises:
        InputError: The clip has another shape, values outside 0…1, or more frames a second.
    """
    Path(path).write_bytes(encoded_gif(video, frame_rate))


def encoded_gif(video: Tensor | Iterable[Tensor], frame_rate: float) -> bytes:
    """Return the file that `write_gif` writes; errors as there."""
    from PIL import Image

    require_gif_rate(frame_rate)
    images: list[Image.Image] = []
    ends: list[int] = []
    previous = np.zeros(0)
    for number, frame in enumerate(_frames(video, even=False)):
        end = round(100 * (number + 1) / frame_rate)
        if images and np.array_equal(frame, previous):
            ends[-1] = end
            continue
        images.append(Image.fromarray(frame).quantize(256, dither=Image.Dither.FLOYDSTEINBERG))
        ends.append(end)
        previous = frame
    durations = [10 * (end - begin) for begin, end in zip([0, *ends], ends, strict=False)]
    file = io.BytesIO()
    images[0].save(
        file, format="GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=False
    )
    return file.getvalue()


def require_gif_rate(frame_rate: float) -> None:
    """Raise `InputError` if a GIF cannot have so many frames a second."""
    if not 0 < frame_rate <= _FASTEST_GIF:
        raise InputError(f"a GIF has up to {_FASTEST_GIF} frames a second, got {frame_rate:g}: write MP4.")


def _frames(video: Tensor | Iterable[Tensor], *, even: bool) -> Iterator[np.ndarray]:
    """Yield the frames (H, W, 3) of a video, uint8, at least one."""
    shape: tuple[int, ...] = ()
    for part in [video] if isinstance(video, Tensor) else video:
        is_odd = even and part.ndim == 4 and (part.shape[2] % 2 or part.shape[3] % 2)
        if part.ndim != 4 or part.shape[0] != 3 or part.numel() == 0 or is_odd or (shape and part.shape[2:] != shape):
            rule = "with even H and W" if even else "not empty"
            raise InputError(
                f"a video to write is (3, T, H, W) {rule}, all parts of one size; got {tuple(part.shape)}."
            )
        shape = tuple(part.shape[2:])
        yield from checked_8_bit(part).permute(1, 2, 3, 0).contiguous().numpy()
    if not shape:
        raise InputError("the video to write has no frames.")
