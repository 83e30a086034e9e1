"""The input side of the contract: everything a user may hand to `encode` becomes float32 items, batched or not."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data import signals
from zoo.data.ragged import Ragged
from zoo.data.signals import Item, Options, Signal
from zoo.errors import InputError

__all__ = ["to_batch", "to_items", "to_ragged"]


def to_batch(
    x: Any,
    lengths: Tensor | Sequence[int] | np.ndarray | None = None,
    *,
    modality: str,
    sample_rate: int | None = None,
    input_size: tuple[int, ...] | None = None,
    resample: bool = False,
    mix_down: bool = False,
    on_white: bool = False,
    check_finite: bool = True,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Turn what a user calls a signal, or a list of signals, into a batch.

    Accepted, alone or in a list or tuple (all of one kind or mixed):

    * speech: tensors and arrays (samples,) or (B, samples), floats in −1…1 or PCM as int16 (÷ 2¹⁵), int32 (÷ 2³¹) or
      uint8 (128 is silence), also (B, 1, samples); `(wave, rate)` with a wave (samples,) or (channels, samples);
      mappings with `array` and `sampling_rate`, or `bytes` or `path`, as the datasets library has them; sound files.
    * image: float tensors and arrays (3, H, W) or (B, 3, H, W) in 0…1; uint8 (÷ 255) with that shape as tensors, but
      (H, W, 3) or (B, H, W, 3) as arrays; PIL images; picture files.
    * video: likewise (3, T, H, W) and, for uint8 arrays, (T, H, W, 3); a list of PIL images is one clip; video files.
    * action: tensors and arrays (T, D) or (B, T, D) of any real dtype in physical units; `.npy` files; alone, whatever
      else `zoo.data.actions.read_actions` reads, or what it returned, one item for each episode.

    A file is a path, the bytes of the whole file, or a file open in binary mode. In a list every entry is one item; its
    batch dimension, if any, is 1 and dropped. Nothing is clipped, resampled, cut or normalised unless an argument says
    so.

    Args:
        x: The signal or signals.
        lengths: (B,) valid length of each item, in samples, frames or commands, for tensors and arrays that are padded
            already. What they hold past their length is ignored and replaced by proper padding.
        modality: "speech", "image", "video" or "action".
        sample_rate: The rate in Hz that speech must have. Files and `(wave, rate)` are checked against it; bare tensors
            are taken to have it.
        input_size: The size an item must have: (H, W), (T, H, W), (T, D), or the last few of these axes.
        resample: Resample speech of another rate instead of refusing it.
        mix_down: Average the channels of speech instead of refusing more than one.
        on_white: Lay transparent pictures on white instead of refusing them.
        check_finite: Look for NaN, infinities and values out of range, in one pass over the batch. A tokenizer whose
            own arithmetic does that passes False.
        device: Where the batch goes; by default where the (first) tensor in `x` is, the CPU for everything else.

    Returns:
        The batch, float32, (B, samples), (B, 3, H, W), (B, 3, T, H, W) or (B, T, D), which may share memory with `x`;
        and the lengths (B,), int64, or None if every item fills the batch. Speech is padded with zeros, actions and
        videos with their last action or frame; images have no lengths.

    Raises:
        InputError: What was given cannot be encoded. The message names the item.
        ValueError: The modality is unknown, or speech has no `sample_rate`: mistakes of the calling code.
    """
    options = Options(sample_rate, input_size, resample, mix_down, on_white, _torch_device(device))
    signal = signals.of(modality)
    items, width = _read(x, lengths, signal, options, check_finite)
    if isinstance(items, Tensor):
        # One memory layout for all forms, since convolutions may round differently in another.
        return items.contiguous(), None
    axis = signal.time_axis or 0
    lasting = [item.shape[axis] for item in items]
    batch = items[0].new_empty(len(items), *items[0].shape[:axis], width, *items[0].shape[axis + 1 :])
    for row, item, length in zip(batch, items, lasting, strict=True):
        row.narrow(axis, 0, length).copy_(item)
        rest = row.narrow(axis, length, width - length)
        rest.copy_(item.narrow(axis, length - 1, 1)) if signal.padding == "last" else rest.zero_()
    return batch, torch.tensor(lasting, device=batch.device)


def to_items(x: Any, lengths: Any = None, *, modality: str, **options: Any) -> list[Tensor]:
    """Turn what a user calls a signal, or a list of signals whose lengths may differ, into items of their own lengths.

    Args:
        x: As for `to_batch`.
        lengths: As for `to_batch`.
        modality: As for `to_batch`.
        options: As for `to_batch`.

    Raises:
        InputError: As for `to_batch`.
        ValueError: As for `to_batch`.
    """
    device, check_finite = _torch_device(options.pop("device", None)), options.pop("check_finite", True)
    return list(_read(x, lengths, signals.of(modality), Options(**options, device=device), check_finite)[0])


def to_ragged(
    x: Any,
    lengths: Tensor | Sequence[int] | np.ndarray | None = None,
    *,
    modality: str,
    check_finite: bool = True,
    device: torch.device | str | None = None,
    **fitting: Any,
) -> Ragged:
    """Turn what a user calls a signal, or a list of signals whose lengths may differ, into items without padding.

    Args:
        x: As for `to_batch`.
        lengths: As for `to_batch`.
        modality: One whose items have lengths, "speech" or "action".
        check_finite: As for `to_batch`.
        device: As for `to_batch`.
        fitting: `sample_rate`, `input_size`, `resample` and `mix_down`, as for `to_batch`.

    Raises:
        InputError: As for `to_batch`.
        ValueError: As for `to_batch`.
    """
    options = Options(**fitting, device=_torch_device(device))
    return Ragged.of(_read(x, lengths, signals.of(modality), options, check_finite)[0])


def _torch_device(device: torch.device | str | None) -> torch.device | None:
    return None if device is None else torch.device(device)


def _read(
    x: Any, lengths: Any, signal: Signal, options: Options, check_finite: bool
) -> tuple[Tensor | list[Tensor], int]:
    """Return a batch of items that are all whole, or items of different lengths; and the length of the longest.

    Of items that were padded already it is the length they were padded to.
    """
    if signal.has_rate and not options.sample_rate:
        raise ValueError(f"{signal.name} needs the sample_rate that the batch must have.")
    x = signal.unpack(x)
    listed = isinstance(x, (list, tuple)) and not signal.is_one(x)
    if options.device is None:
        options = dataclasses.replace(options, device=_device_of(x if listed else [x]))
    if listed:
        read = _read_list(x, signal, options)
        items = _alike([item.values for item in read], signal)
    else:
        read = [signal.read(x, options)]
        values = read[0].values
        items = values.unsqueeze(0) if values.ndim == len(signal.axes) else values
    axis = signal.time_axis or 0
    width = items.shape[1 + axis] if isinstance(items, Tensor) else max(item.shape[axis] for item in items)
    if lengths is not None:
        if any(item.has_own_length for item in read):
            raise InputError("files and (wave, rate) say their own length: leave lengths out.")
        counts = _check_lengths(lengths, items, signal)
        if any(count < width for count in counts):
            items = list(map(signal.cut, items, counts))
    if check_finite and not all(item.in_range for item in read):
        signal.check_values(items, named=listed or len(items) > 1)
    return items, width


def _device_of(items: Sequence[Any]) -> torch.device:
    for item in items:
        part = item[0] if isinstance(item, tuple) and item else item
        if isinstance(part, Tensor) and not part.is_meta:
            return part.device
    return torch.device("cpu")


def _read_list(x: Sequence[Any], signal: Signal, options: Options) -> list[Item]:
    if not x:
        raise InputError("the list is empty: there is nothing to encode.")
    items = []
    for number, entry in enumerate(x):
        try:
            item = signal.read(entry, options)
            if item.values.ndim > len(signal.axes):
                if len(item.values) > 1:
                    raise InputError(
                        f"it is a batch, of the shape {tuple(item.values.shape)}, and a list holds single items"
                        f"{signal.batch_hint}: pass the batch alone, or unpack it with *batch."
                    )
                item = dataclasses.replace(item, values=item.values[0])
        except InputError as error:
            path = f" ({os.fspath(entry)!r})" if isinstance(entry, (str, os.PathLike)) else ""
            shown = "" if path.strip(" ()") in str(error) else path
            raise InputError(f"item {number}{shown}: {error}{signal.entry_hint(entry)}") from error
        items.append(item)
    return items


def _alike(values: list[Tensor], signal: Signal) -> Tensor | list[Tensor]:
    """Return items as a batch if they are of one size, and as they are if their lengths differ."""
    first = values[0]
    for number, value in enumerate(values):
        if signal.batch_shape(value.shape) != signal.batch_shape(first.shape):
            what = {None: "one size", 0: "the same degrees of freedom"}.get(signal.time_axis, "one height and width")
            raise InputError(
                f"the items of a batch must have {what}: item 0 is ({', '.join(signal.axes)}) = "
                f"{tuple(first.shape)}, item {number} is {tuple(value.shape)}; make them equal, or encode them apart."
            )
    return torch.stack(values) if len({value.shape for value in values}) == 1 else values


def _check_lengths(lengths: Any, items: Tensor | list[Tensor], signal: Signal) -> list[int]:
    """Return the lengths of items that are at least so long."""
    if signal.padding is None:
        raise InputError(f"lengths are for what has time; every {signal.name} of a batch is whole: leave them out.")
    rule = f"lengths must be {len(items)} whole numbers, one for each item"
    if isinstance(lengths, Tensor) and (lengths.is_meta or lengths.is_nested or lengths.layout != torch.strided):
        kind = "on the meta device and has no values" if lengths.is_meta else "nested or sparse"
        raise InputError(f"{rule}; the tensor given is {kind}.")
    values = lengths.detach().cpu().numpy() if isinstance(lengths, Tensor) else lengths
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise InputError(f"{rule}, got {type(lengths).__name__}.") from error
    if array.dtype.kind not in "iu":
        raise InputError(f"{rule}, got {array.dtype if array.size else 'an empty list'}.")
    if array.shape != (len(items),):
        raise InputError(f"{rule}, got the shape {array.shape}.")
    counts: list[int] = array.tolist()
    for number, (count, item) in enumerate(zip(counts, items, strict=True)):
        most = item.shape[signal.time_axis or 0]
        if not 1 <= count <= most:
            raise InputError(f"lengths[{number}] is {count}, it must be from 1 to {most}, which item {number} has.")
    return counts
