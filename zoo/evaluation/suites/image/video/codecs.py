"""H.264 of at most so many bits: what anybody gets for the bits that a clip's tokens take.

Counted are the units of the bitstream with the parameters and the pictures in them, without start codes and without
what x264 writes about itself. Container and sound there are none.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from zoo.data._image import checked_8_bit, from_8_bit
from zoo.errors import InputError
from zoo.evaluation.suites.image.codecs import Codec

__all__ = ["CODECS"]

_COARSEST = 51  # of x264's constant rate factors; the finest is 0
_START = re.compile(rb"\x00{2,}\x01")
_ABOUT_ITSELF = (6, 9)  # types of units: supplemental information, delimiters
_OPTIONS = {"preset": "slower", "tune": "psnr", "threads": "1", "g": "250"}


def _encode(pixels: Tensor, quality: int) -> bytes:
    """Return the bitstream of a clip (3, T, H, W), H and W even, 4:2:0."""
    import av

    frames = checked_8_bit(pixels).permute(1, 2, 3, 0).contiguous().numpy()
    file = io.BytesIO()
    with av.open(file, "w", format="h264") as container:
        options = {**_OPTIONS, "crf": str(_COARSEST - quality)}
        stream: Any = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def _decode(file: bytes) -> Tensor:
    import av

    with av.open(io.BytesIO(file), "r", format="h264") as container:
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    if not frames:
        raise InputError("the bitstream has no pictures.")
    return from_8_bit(torch.stack(frames).permute(3, 0, 1, 2))


def _payload(file: bytes) -> int:
    units = [unit for unit in _START.split(file) if unit]
    return sum(len(unit) for unit in units if unit[0] & 31 not in _ABOUT_ITSELF)


CODECS: Mapping[str, Codec] = MappingProxyType(
    {"H264": Codec("H.264", _OPTIONS, (0, _COARSEST), _payload, _encode, _decode, multiple=2, least_side=16)}
)
"""By name in a suite. A clip's rate matters to none of it: what counts is what the frames of a clip take."""
