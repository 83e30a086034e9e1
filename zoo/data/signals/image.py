"""Images: pixels in 0…1, as tensors, arrays, PIL images, and picture files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from zoo.data._image import SUFFIXES, from_8_bit, from_pil, read_image, write_png
from zoo.data.signals.base import FLOATS, Item, Options, Reading, Signal
from zoo.errors import InputError
from zoo.spec import TokenSpec

__all__ = ["ImageSignal", "PixelSignal", "is_pil"]


class PixelSignal(Signal):
    """What images and videos have in common: three channels in front, colours in 0…1, one size.

    Attributes:
        array_layout: Of a uint8 array, which has its channels last.
    """

    array_layout: ClassVar[str]

    dtypes = (*FLOATS, "uint8")
    dtype_advice = "pass floats in 0…1, or uint8"
    value_range = (0.0, 1.0)
    # Rounding in half precision; what interpolation overshoots is more than that, and the caller should clamp it.
    slack = 0.01
    raw_bits = 8
    is_read_ahead = True  # decoders wait for nobody, and what is done to pixels afterwards rounds alike in any thread

    def needs(self, spec: TokenSpec) -> dict[str, Any]:
        """Return the size."""
        return {"input_size": spec.input_size}

    def _from_array(self, x: Tensor | np.ndarray, options: Options) -> Item:
        values = self._as_tensor(x)
        if values.dtype != torch.uint8:
            return Item(values)
        if isinstance(x, np.ndarray):
            rank = len(self.axes)
            if values.ndim not in (rank, rank + 1) or values.shape[-1] != 3:
                raise InputError(
                    f"a uint8 array of {self.noun} is {self.array_layout}, with or without a batch dimension in front; "
                    f"got {tuple(values.shape)}{_channel_hint(values.shape[-1] if values.ndim else 0)}. Tensors and "
                    "float arrays have the channels first."
                )
            values = values.movedim(-1, -rank)
        self._check_shape(tuple(values.shape), options)
        return Item(from_8_bit(values.to(options.device)), in_range=True)

    def _channels_hint(self, shape: tuple[int, ...]) -> str:
        if shape[-1] == 3:
            return "; the channels are last: permute them to the front"
        return _channel_hint(shape[-len(self.axes)])

    def _check_shape(self, shape: tuple[int, ...], options: Options) -> None:
        rank = len(self.axes)
        if len(shape) in (rank, rank + 1) and shape[-rank] != 3:
            raise self._wrong_shape(shape, self._channels_hint(shape))
        super()._check_shape(shape, options)

    def _range_advice(self, low: float, high: float) -> str:
        got = f"pixels are in 0…1, these go from {low:g} to {high:g}"
        if high > 1.5 and low >= -self.slack:
            return f"{got}: divide by {255 if high <= 256 else 65535}{', or pass uint8' if high <= 256 else ''}."
        if -1 - self.slack <= low < -0.5 and high <= 1 + self.slack:
            return f"{got}: if they are in -1…1, pass (x + 1) / 2."
        if low < -1:
            return f"{got}: undo their normalisation."
        return f"{got}: clamp them if that is what you mean."

    def _resizing(self, spec: TokenSpec, reading: Reading) -> dict[str, Any]:
        """Return the arguments of `read_image` and `read_video` that bring pixels to a model's size."""
        wanted = spec.input_size
        return {
            "size": (wanted[-2], wanted[-1]) if wanted and reading.resize else None,
            "crop": "center" if reading.resize == "cut" else None,
        }

    def _check_resized(self, size: tuple[int, ...], spec: TokenSpec) -> None:
        """Raise `InputError` unless pixels of a file have the height and width that a model takes."""
        wanted = spec.input_size
        if wanted is not None and size != tuple(wanted[-2:]):
            raise InputError(
                f"it is {size[0]} pixels high and {size[1]} wide, the model takes {wanted[-2]} × {wanted[-1]}: pass "
                "resize='cut' to scale it and cut it to shape, or resize='stretch'."
            )


class ImageSignal(PixelSignal):
    """(3, H, W) in 0…1."""

    name = "image"
    noun = "an image"
    forms = "pass a tensor (3, H, W), a PIL image, a uint8 array (H, W, 3), a path or bytes, or a list of these"
    axes = ("3", "H", "W")
    array_layout = "(H, W, 3)"
    size_advice = "resize it first, e.g. zoo.data.media.read_image(path, size={})"
    size_axes = "height × width"
    unit = "image"
    suffixes = SUFFIXES
    suffix = ".png"
    pipeline_tag = "image-to-image"
    example = "picture.png"

    def _from_object(self, x: Any, options: Options) -> Item | None:
        return Item(from_pil(x, on_white=options.on_white), in_range=x.mode != "F") if is_pil(x) else None

    def _from_source(self, x: Any, options: Options) -> Item:
        return Item(read_image(x, on_white=options.on_white), has_own_length=True)

    def _rank_hint(self, shape: tuple[int, ...]) -> str:
        return ": repeat a grey image three times, x.expand(3, -1, -1)" if len(shape) == 2 else ""

    def _read_file(self, file: Path, spec: TokenSpec, reading: Reading) -> tuple[Tensor, float | None]:
        image = read_image(file, **self._resizing(spec, reading), on_white=reading.on_white)
        self._check_resized(tuple(image.shape[-2:]), spec)
        return image, None

    def write(self, path: Path, values: Tensor, rate: float | None) -> None:
        """Write PNG."""
        write_png(path, values)


def is_pil(x: object) -> bool:
    """Tell a PIL image without importing PIL: as long as nobody has imported it, there are none."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(x, module.Image)


def _channel_hint(channels: int) -> str:
    if channels == 1:
        return "; repeat a grey channel three times"
    return "; drop alpha, or lay it on a background" if channels == 4 else ""
