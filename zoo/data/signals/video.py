"""Videos: frames in 0…1, as tensors, arrays, lists of PIL images, and video files."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from zoo.data._clip import video_facts
from zoo.data._image import from_8_bit, from_pil
from zoo.data._video import SUFFIXES, frames_of, read_video
from zoo.data._video_writing import mp4_encoder, require_gif_rate, write_gif, write_mp4
from zoo.data.signals.base import Blocks, Item, Options, Reading
from zoo.data.signals.image import PixelSignal, is_pil
from zoo.errors import InputError
from zoo.spec import TokenSpec

__all__ = ["VideoSignal"]

_LONG = 1 << 26  # values, 256 MB: a file of more is never in memory as decoded as a whole


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
    padding = "last"
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
        return Item(read_video(x, on_white=options.on_white)[0], in_range=True, has_own_length=True)

    def _rank_hint(self, shape: tuple[int, ...]) -> str:
        return ": a picture is a clip of one frame, x.unsqueeze(-3)" if len(shape) == 3 else ""

    def _channels_hint(self, shape: tuple[int, ...]) -> str:
        if shape[-1] != 3 and shape[-3] == 3:  # common elsewhere
            return "; the channels come after the frames: x.transpose(-4, -3)"
        return super()._channels_hint(shape)

    def needs(self, spec: TokenSpec) -> dict[str, Any]:
        """Return the size: of frames alone, where videos of any length are cut into windows."""
        size = spec.input_size
        return {"input_size": size if size is None or spec.num_tokens is None else size[-2:]}

    def values_per_step(self, spec: TokenSpec) -> int:
        """Return how many values a frame has."""
        return 3 * math.prod(spec.input_size[-2:]) if spec.input_size else 1

    def _read_file(self, file: Path, spec: TokenSpec, reading: Reading) -> tuple[Tensor, float | None]:
        frames, rate = self._frames(file, spec, reading)
        wanted = spec.input_size[0] if spec.input_size is not None and len(spec.input_size) == 3 else None
        is_fixed = wanted is not None and spec.num_tokens is None
        most = wanted if reading.trim else None if wanted is None or not is_fixed else wanted + 1
        clip = torch.stack(list(itertools.islice(frames, most)), 1)
        if is_fixed and clip.shape[1] != wanted:
            more = clip.shape[1] > cast(int, wanted)
            remedy = ": pass trim=True to take its beginning" if more else ""
            raise InputError(
                f"it has {f'more than {wanted}' if more else clip.shape[1]} frames, the model takes {wanted}{remedy}."
            )
        return (clip if clip.is_floating_point() else from_8_bit(clip)), rate

    def _blocks(self, file: Path, spec: TokenSpec, reading: Reading) -> Blocks | None:
        if reading.trim or spec.input_size is None or len(spec.input_size) < 3 or spec.num_tokens is None:
            return None
        try:
            facts = video_facts(file)
        except InputError:  # which reading tells
            return None
        frames = facts.num_frames
        if reading.resample and spec.sample_rate:
            frames = round(facts.duration * spec.sample_rate)
        if frames * self.values_per_step(spec) < _LONG:
            return None

        def blocks() -> tuple[Iterator[Tensor], float | None]:
            made, rate = self._frames(file, spec, reading)
            return ((frame if frame.is_floating_point() else from_8_bit(frame))[:, None] for frame in made), rate

        return Blocks(blocks, frames)

    def _frames(self, file: Path, spec: TokenSpec, reading: Reading) -> tuple[Iterator[Tensor], float]:
        """Return the frames of a file, not decoded yet but for the first, and how many there are a second."""
        wanted = spec.sample_rate
        timed = frames_of(
            file,
            **self._resizing(spec, reading),
            frame_rate=wanted if reading.resample and wanted else None,
            on_white=reading.on_white,
        )
        first, rate = next(timed)
        if wanted is not None and abs(rate - wanted) > 1e-3 * wanted:
            raise InputError(
                f"it has {rate:g} frames a second, the model takes {wanted:g}: pass resample=True to drop or repeat "
                "frames."
            )
        self._check_resized(tuple(first.shape[-2:]), spec)
        return itertools.chain([first], (frame for frame, _ in timed)), rate

    def check_writing(self, path: Path, spec: TokenSpec, rate: float | None) -> None:
        """Raise `InputError` if what a tokenizer decodes cannot be written to a path at a rate."""
        _require_rate(rate)
        if path.suffix == ".gif":
            require_gif_rate(cast(float, rate))
        else:
            mp4_encoder()
            if spec.input_size is not None and any(side % 2 for side in spec.input_size[-2:]):
                height, width = spec.input_size[-2:]
                raise InputError(
                    f"MP4 has frames with even H and W, and the model's are {height} × {width}: write GIF."
                )

    def write(self, path: Path, values: Tensor, rate: float | None) -> None:
        """Write MP4, or GIF where the path ends in that."""
        self.write_parts(path, [values], rate)

    def write_parts(self, path: Path, parts: Iterable[Tensor], rate: float | None) -> None:
        """Write a video that comes in consecutive parts (3, t, H, W), which are never in memory as a whole.

        Raises:
            InputError: It needs a rate, or cannot be written in this format.
        """
        (write_gif if path.suffix == ".gif" else write_mp4)(path, parts, _require_rate(rate))


def _require_rate(rate: float | None) -> float:
    if rate is None:
        raise InputError("the frame rate is not known: pass frame_rate=HZ.")
    return rate
