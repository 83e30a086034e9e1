"""Videos: frames in 0…1, as tensors, arrays, lists of PIL images, and video files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.data._image import from_pil
from zoo.data._video import SUFFIXES, read_video, write_mp4
from zoo.data.signals.base import Item, Options, Reading
from zoo.data.signals.image import PixelSignal, is_pil
from zoo.errors import InputError
from zoo.spec import TokenSpec

__all__ = ["VideoSignal"]


class VideoSignal(PixelSignal):
    """(3, T, H, W) in 0…1."""

    name = "video"
    noun = "a video"
    forms = (
        "pass a tensor (3, T, H, W), a uint8 array (T, H, W, 3), a list of PIL images, a path or bytes, or a list of "
        "these; stack frames that are arrays"
    )
    axes = ("3", "T", "H", "W")
    array_layout = "(T, H, W, 3)"
    size_advice = "cut and resize it first, e.g. zoo.data.media.read_video(path, size=(H, W), num_frames=T)"
    time_axis = 1
    steps = "frames"
    size_axes = "frames × height × width"
    suffixes = SUFFIXES
    suffix = ".mp4"
    pipeline_tag = "video-to-video"
    example = "clip.mp4"

    def is_one(self, x: Sequence[Any]) -> bool:
        """Tell a list of PIL images, which is one clip."""
        return len(x) > 0 and all(map(is_pil, x))

    def entry_hint(self, entry: Any) -> str:
        """Return what to say of a PIL image beside something else."""
        return " A list of PIL images is one clip; several clips are a list of such lists." if is_pil(entry) else ""

    def _from_object(self, x: Any, options: Options) -> Item | None:
        if not isinstance(x, (list, tuple)) or not self.is_one(x):
            return None
        frames = [from_pil(image, on_white=options.on_white) for image in x]
        for number, frame in enumerate(frames):
            if frame.shape != frames[0].shape:
                first, other = ("×".join(map(str, each.shape[-2:])) for each in (frames[0], frame))
                raise InputError(f"the frames of a clip must be of one size: 0 is {first}, frame {number} {other}.")
        return Item(torch.stack(frames, dim=1))

    def _from_source(self, x: Any, options: Options) -> Item:
        return Item(read_video(x)[0], in_range=True, has_own_length=True)

    def _rank_hint(self, shape: tuple[int, ...]) -> str:
        return ": a picture is a clip of one frame, x.unsqueeze(-3)" if len(shape) == 3 else ""

    def _channels_hint(self, shape: tuple[int, ...]) -> str:
        if shape[-1] != 3 and shape[-3] == 3:  # common elsewhere
            return "; the channels come after the frames: x.transpose(-4, -3)"
        return super()._channels_hint(shape)

    def _read_file(self, file: Path, spec: TokenSpec, reading: Reading) -> tuple[Tensor, float | None]:
        wanted = spec.sample_rate
        frames = spec.input_size[0] if spec.input_size is not None and len(spec.input_size) == 3 else None
        clip, rate = read_video(
            file,
            **self._resizing(spec, reading),
            num_frames=frames if reading.trim else None,
            frame_rate=wanted if reading.resample else None,
        )
        if wanted is not None and abs(rate - wanted) > 1e-3 * wanted:
            raise InputError(
                f"it has {rate:g} frames a second, the model takes {wanted:g}: pass resample=True to drop or repeat "
                "frames."
            )
        if frames is not None and clip.shape[1] != frames:
            remedy = ": pass trim=True to take its beginning" if clip.shape[1] > frames else ""
            raise InputError(f"it has {clip.shape[1]} frames, the model takes {frames}{remedy}.")
        self._check_resized(tuple(clip.shape[-2:]), spec)
        return clip, rate

    def write(self, path: Path, values: Tensor, rate: float | None) -> None:
        """Write MP4."""
        if rate is None:
            raise InputError("the frame rate is not known: pass frame_rate=HZ.")
        write_mp4(path, values, rate)
