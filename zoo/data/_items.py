"""One item, whatever it is, to a float32 tensor of its modality's layout."""

from __future__ import annotations

import io
import numbers
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data._image import from_8_bit, from_pil, read_image
from zoo.data._source import describe, is_source, open_source
from zoo.data._video import read_video
from zoo.data.audio import change_rate, read_audio
from zoo.errors import InputError

__all__ = ["LAYOUTS", "Item", "Options", "is_clip", "is_pair", "is_pil", "read_item"]

LAYOUTS = {
    "speech": ("samples",),
    "image": ("3", "H", "W"),
    "video": ("3", "T", "H", "W"),
    "action": ("T", "D"),
}
"""The axes of one item, without the batch dimension."""

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
_DTYPES = {
    "speech": (*_FLOATS, "int16", "int32", "uint8"),
    "image": (*_FLOATS, "uint8"),
    "video": (*_FLOATS, "uint8"),
    "action": (*_FLOATS, *_INTEGERS),
}
_ADVICE = {
    "speech": "pass floats in -1…1, or PCM as int16, int32 or uint8",
    "image": "pass floats in 0…1, or uint8",
    "video": "pass floats in 0…1, or uint8",
    "action": "pass floats in physical units",
}
_MOST_CHANNELS = 32


@dataclass(frozen=True)
class Options:
    """The arguments of `to_batch` that concern single items."""

    modality: str
    sample_rate: int | None = None
    input_size: tuple[int, ...] | None = None
    resample: bool = False
    mix_down: bool = False
    on_white: bool = False
    device: torch.device | None = None


@dataclass(frozen=True)
class Item:
    """What an item became.

    Args:
        values: float32, in the layout of the modality, perhaps with a batch dimension in front.
        in_range: Whether the conversion itself guarantees finite values within the range.
        has_own_length: Whether it came from something that says its own length, so that `lengths` makes no sense.
    """

    values: Tensor
    in_range: bool = False
    has_own_length: bool = False


def is_pil(x: object) -> bool:
    """Tell a PIL image without importing PIL: as long as nobody has imported it, there are none."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(x, module.Image)


def is_clip(x: object) -> bool:
    """Tell a list of PIL images, which is one video."""
    return isinstance(x, (list, tuple)) and len(x) > 0 and all(map(is_pil, x))


def is_pair(x: object) -> bool:
    """Tell `(wave, rate)` from a tuple of two items."""
    return isinstance(x, tuple) and len(x) == 2 and _is_array(x[0]) and _is_number(x[1])


def read_item(x: Any, options: Options) -> Item:
    """Turn one tensor, array, file, PIL image, clip or `(wave, rate)` into an `Item` and check its shape.

    Raises:
        InputError: It is none of these, or not one that the options allow.
    """
    modality = options.modality
    if modality == "speech" and isinstance(x, tuple):
        item = _from_pair(x, options)
    elif is_source(x):
        item = _from_source(x, options)
    elif modality == "image" and is_pil(x):
        item = Item(from_pil(x, on_white=options.on_white), in_range=x.mode != "F")
    elif modality == "video" and is_clip(x):
        item = Item(_clip([from_pil(image, on_white=options.on_white) for image in x]))
    elif _is_array(x):
        item = _from_array(x, options)
    else:
        raise InputError(f"{_name(x)} cannot be taken as {_article(modality)}: {_what_is(modality)}.")
    _check_shape(item.values, options)
    return Item(item.values.to(options.device, torch.float32), item.in_range, item.has_own_length)


def _from_array(x: Tensor | np.ndarray, options: Options) -> Item:
    values = _as_tensor(x, options.modality)
    if options.modality in ("image", "video"):
        if values.dtype != torch.uint8:
            return Item(values)
        if isinstance(x, np.ndarray):
            values = _channels_first(values, options.modality)
        _check_shape(values, options)
        return Item(from_8_bit(values.to(options.device)), in_range=True)
    if options.modality == "speech" and not values.is_floating_point():
        return Item(_from_pcm(values), in_range=True)
    return Item(values)


def _from_pcm(values: Tensor) -> Tensor:
    """Divide by the full scale: 2¹⁵, 2³¹, and 2⁷ around 128 for uint8, as WAV files define it."""
    if values.dtype == torch.uint8:
        return (values.float() - 128) / 128
    return values.float() / (2.0**15 if values.dtype == torch.int16 else 2.0**31)


def _channels_first(values: Tensor, modality: str) -> Tensor:
    """Bring uint8 arrays from (…, H, W, 3), the layout of NumPy's pictures, into that of tensors."""
    rank = len(LAYOUTS[modality])
    if values.ndim not in (rank, rank + 1) or values.shape[-1] != 3:
        layout = "(H, W, 3)" if modality == "image" else "(T, H, W, 3)"
        raise InputError(
            f"a uint8 array of {_article(modality)} is {layout}, with or without a batch dimension in front; got "
            f"{tuple(values.shape)}{_channel_hint(values.shape[-1] if values.ndim else 0)}. Tensors and float arrays "
            "have the channels first."
        )
    return values.movedim(-1, -rank)


def _from_source(x: Any, options: Options) -> Item:
    if options.modality == "speech":
        wave, rate = read_audio(x)
        return Item(_settle(wave, rate, options), has_own_length=True)
    if options.modality == "image":
        return Item(read_image(x, on_white=options.on_white), has_own_length=True)
    if options.modality == "video":
        return Item(read_video(x)[0], in_range=True, has_own_length=True)
    if isinstance(x, (str, os.PathLike)) and Path(os.fspath(x)).suffix.lower() != ".npy":
        raise InputError(f"{describe(x)} is not a .npy file: pass the path alone, or what read_actions gives for it.")
    return _from_array(_read_npy(x), options)


def _read_npy(x: Any) -> np.ndarray:
    with open_source(x) as file:
        content = io.BytesIO(file.read())
    try:
        array = np.load(content, allow_pickle=False)
    except Exception as error:  # NumPy's own text advises to unpickle, which runs whatever the file says
        raise InputError(
            f"{describe(x)} cannot be read as numbers in NumPy's .npy format: it is damaged, truncated, of another "
            "format, or holds Python objects, which are never unpickled."
        ) from error
    if isinstance(array, np.ndarray):
        return array
    raise InputError(f"{describe(x)} is an archive of several arrays: pass one of them, or the path of a .npz file.")


def _from_pair(x: tuple[Any, ...], options: Options) -> Item:
    if not is_pair(x):
        swapped = len(x) == 2 and _is_number(x[0]) and _is_array(x[1])
        what = "the rate comes second" if swapped else f"got a tuple of {', '.join(type(part).__name__ for part in x)}"
        raise InputError(f"sound with its rate is (wave, rate), an array or tensor and a number in Hz: {what}.")
    wave, rate = _as_tensor(x[0], "speech"), float(x[1])
    if not (rate > 0 and rate.is_integer()):
        raise InputError(f"the rate in (wave, rate) must be a positive whole number of Hz, got {x[1]!r}.")
    if wave.ndim not in (1, 2) or wave.numel() == 0 or (wave.ndim == 2 and wave.shape[0] > _MOST_CHANNELS):
        raise InputError(
            f"the wave in (wave, rate) is (samples,) or (channels, samples), not empty; got {tuple(wave.shape)}"
            f"{': transpose it' if wave.ndim == 2 and wave.shape[0] > wave.shape[1] > 0 else ''}."
        )
    wave = wave if wave.is_floating_point() else _from_pcm(wave)
    return Item(_settle(wave.float().reshape(-1, wave.shape[-1]), int(rate), options), has_own_length=True)


def _settle(wave: Tensor, rate: int, options: Options) -> Tensor:
    """Return (channels, samples) at any rate as (samples,) at the wanted rate, if the options allow that."""
    channels, wanted = wave.shape[0], options.sample_rate
    if channels != 1:
        if not options.mix_down:
            raise InputError(
                f"the sound has {channels} channels, one is expected: pass mix_down=True to average them, or pick one."
            )
        wave = wave.mean(dim=0, keepdim=True)
    if wanted is not None and rate != wanted:
        if not options.resample:
            raise InputError(
                f"the sound is at {rate} Hz, {wanted} Hz is expected: pass resample=True, or resample it yourself."
            )
        wave = change_rate(wave, rate, wanted)
    return wave[0]


def _clip(frames: list[Tensor]) -> Tensor:
    for number, frame in enumerate(frames):
        if frame.shape != frames[0].shape:
            raise InputError(
                f"the frames of a clip must be of one size: 0 is {_size(frames[0])}, frame {number} {_size(frame)}."
            )
    return torch.stack(frames, dim=1)


def _as_tensor(x: Tensor | np.ndarray, modality: str) -> Tensor:
    """Return a strided tensor of an accepted dtype that shares memory where it can."""
    name = str(x.dtype).removeprefix("torch.")
    if isinstance(x, Tensor):
        if x.layout != torch.strided or x.is_nested:
            raise InputError(f"the tensor is {'nested' if x.is_nested else 'sparse'}: pass a dense one (x.to_dense()).")
        if x.is_quantized:
            raise InputError("the tensor is quantised: pass x.dequantize().")
        if x.is_meta:
            raise InputError("the tensor is on the meta device and has no values.")
    elif isinstance(x, np.ma.MaskedArray):
        raise InputError("the array is masked, and what is under the mask would count: pass x.filled(value).")
    if name.lstrip("<>=|") not in _DTYPES[modality] and not (
        isinstance(x, np.ndarray) and x.dtype.newbyteorder("=").name in _DTYPES[modality]
    ):
        raise InputError(f"{_article(modality)} cannot have the dtype {name}: {_ADVICE[modality]}.")
    if isinstance(x, Tensor):
        return x if type(x) is Tensor else x.as_subclass(Tensor)
    # torch warns of read-only memory, and refuses foreign byte order and negative strides.
    native = x.astype(x.dtype.newbyteorder("="), copy=False)
    if not native.flags.writeable or any(stride < 0 for stride in native.strides):
        native = native.copy()
    return torch.from_numpy(native)


def _check_shape(values: Tensor, options: Options) -> None:
    axes, shape = LAYOUTS[options.modality], tuple(values.shape)
    layout = f"({', '.join(axes)}{',' if len(axes) == 1 else ''}) or (B, {', '.join(axes)})"
    noun = _article(options.modality)
    if len(shape) not in (len(axes), len(axes) + 1):
        raise InputError(f"{noun} must have the shape {layout}, got {shape}{_rank_hint(shape, options.modality)}.")
    if axes[0] == "3" and shape[-len(axes)] != 3:
        # A clip is often (T, 3, H, W) elsewhere, a picture (H, W, 3).
        hint = _channel_hint(shape[-len(axes)])
        if shape[-1] == 3:
            hint = "; the channels are last: permute them to the front"
        elif options.modality == "video" and shape[-3] == 3:
            hint = "; the channels come after the frames: x.transpose(-4, -3)"
        raise InputError(f"{noun} must have the shape {layout}, got {shape}{hint}.")
    if 0 in shape:
        raise InputError(f"{noun} must not be empty, got the shape {shape}.")
    if options.modality == "speech" and len(shape) == 2 and shape[1] <= 8 < shape[0]:
        raise InputError(
            f"a batch of speech is (B, samples), got {shape}, which looks like (samples, channels): pass "
            "(wave.T, rate) with mix_down=True, or choose a channel."
        )
    wanted = options.input_size
    if wanted is not None and shape[-len(wanted) :] != tuple(wanted):
        advice = "resize or cut it first"
        if options.modality == "image":
            advice = f"resize it first, e.g. zoo.data.media.read_image(path, size={tuple(wanted)})"
        if options.modality == "video":
            advice = "cut and resize it first, e.g. zoo.data.media.read_video(path, size=(H, W), num_frames=T)"
        got, named = shape[-len(wanted) :], ", ".join(axes[-len(wanted) :])
        raise InputError(f"{noun} must have the size ({named}) = {tuple(wanted)}, got {got}: {advice}.")


def _rank_hint(shape: tuple[int, ...], modality: str) -> str:
    if modality == "speech" and len(shape) == 3 and shape[1] == 1:
        return ": drop the channel, x.squeeze(1)"
    if modality == "image" and len(shape) == 2:
        return ": repeat a grey image three times, x.expand(3, -1, -1)"
    if modality == "video" and len(shape) == 3:
        return ": a picture is a clip of one frame, x.unsqueeze(-3)"
    if modality == "action" and len(shape) == 1:
        return ": a single action is x.unsqueeze(0), one degree of freedom x.unsqueeze(1)"
    return ""


def _channel_hint(channels: int) -> str:
    if channels == 1:
        return "; repeat a grey channel three times"
    return "; drop alpha, or lay it on a background" if channels == 4 else ""


def _is_array(x: object) -> bool:
    return isinstance(x, (Tensor, np.ndarray))


def _is_number(x: object) -> bool:
    if isinstance(x, (Tensor, np.ndarray)):
        return x.ndim == 0
    return isinstance(x, numbers.Real) and not isinstance(x, bool)


def _name(x: object) -> str:
    return "a nested list" if isinstance(x, (list, tuple)) else type(x).__name__


def _size(image: Tensor) -> str:
    return "×".join(map(str, image.shape[-2:]))


def _article(modality: str) -> str:
    return {"image": "an image", "video": "a video", "action": "an action sequence"}.get(modality, modality)


def _what_is(modality: str) -> str:
    kinds = {
        "speech": "pass a tensor or array (samples,), (wave, rate), a path or bytes, or a list of these",
        "image": "pass a tensor (3, H, W), a PIL image, a uint8 array (H, W, 3), a path or bytes, or a list of these",
        "video": "pass a tensor (3, T, H, W), a uint8 array (T, H, W, 3), a list of PIL images, a path or bytes, or a "
        "list of these; stack frames that are arrays",
        "action": "pass a tensor or array (T, D), a path, or a list of these",
    }
    return f"{kinds[modality]}; numbers in lists need numpy.asarray"
