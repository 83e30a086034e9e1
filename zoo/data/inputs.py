"""The input side of the contract: everything a user may hand to `encode` becomes a float32 batch and its lengths."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data import signals
from zoo.data.signals import Item, Options, Signal
from zoo.errors import InputError

__all__ = ["to_batch"]


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
        lengths: (B,) valid length of each item, in samples (speech) or commands (action), for tensors and arrays that
            are padded already. What they hold past their length is ignored and replaced by proper padding.
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
        and the lengths (B,), int64, or None if every item fills the batch. Speech is padded with zeros, actions with
        their last action; images and videos have no lengths.

    Raises:
        InputError: What was given cannot be encoded. The message names the item.
        ValueError: The modality is unknown, or speech has no `sample_rate`: mistakes of the calling code.
    """
    signal = signals.of(modality)
    if signal.has_rate and not sample_rate:
        raise ValueError(f"{modality} needs the sample_rate that the batch must have.")
    x = signal.unpack(x)
    listed = isinstance(x, (list, tuple)) and not signal.is_one(x)
    target = torch.device(device) if device is not None else _device_of(x if listed else [x])
    options = Options(sample_rate, input_size, resample, mix_down, on_white, target)
    if listed:
        items = _read_list(x, signal, options)
        batch, own_lengths = _collate(items, signal)
    else:
        item = signal.read(x, options)
        single = item.values.ndim == len(signal.axes)
        items = [item]
        batch, own_lengths = item.values.unsqueeze(0) if single else item.values, None
    if lengths is not None:
        if any(item.has_own_length for item in items):
            raise InputError("files and (wave, rate) say their own length: leave lengths out.")
        checked = _check_lengths(lengths, batch, own_lengths, signal)
        own_lengths = checked.to(batch.device) if bool((checked < batch.shape[1]).any()) else None
        if own_lengths is not None:
            batch = _padded(batch.clone(), own_lengths.tolist(), signal)
    if check_finite and not all(item.in_range for item in items):
        signal.check_values(batch, named=listed or len(batch) > 1)
    # One memory layout for all forms, since convolutions may round differently in another.
    return batch.contiguous(), own_lengths


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


def _collate(items: list[Item], signal: Signal) -> tuple[Tensor, Tensor | None]:
    values = [item.values for item in items]
    first = values[0]
    free = 0 if signal.padding is None else 1  # axes in front whose sizes may differ
    for number, value in enumerate(values):
        if value.shape[free:] != first.shape[free:]:
            what = "the same degrees of freedom" if free else "one size"
            raise InputError(
                f"the items of a batch must have {what}: item 0 is ({', '.join(signal.axes)}) = "
                f"{tuple(first.shape)}, item {number} is {tuple(value.shape)}; make them equal, or encode them apart."
            )
    counts = [len(value) for value in values]
    if signal.padding is None or min(counts) == max(counts):
        return torch.stack(values), None
    batch = first.new_zeros(len(values), max(counts), *first.shape[1:])
    for row, value in zip(batch, values, strict=True):
        row[: len(value)] = value
    return _padded(batch, counts, signal), torch.tensor(counts, device=first.device)


def _check_lengths(lengths: Any, batch: Tensor, own_lengths: Tensor | None, signal: Signal) -> Tensor:
    """Return lengths as int64 on the CPU."""
    if signal.padding is None:
        raise InputError(
            f"lengths are for speech and actions; every {signal.name} of a batch is whole: leave them out."
        )
    rule = f"lengths must be {len(batch)} whole numbers, one for each item"
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
    if array.shape != (len(batch),):
        raise InputError(f"{rule}, got the shape {array.shape}.")
    longest = torch.full((len(batch),), batch.shape[1], device="cpu") if own_lengths is None else own_lengths.cpu()
    for number, (length, most) in enumerate(zip(array.tolist(), longest.tolist(), strict=True)):
        if not 1 <= length <= most:
            raise InputError(f"lengths[{number}] is {length}, it must be from 1 to {most}, which item {number} has.")
    return torch.from_numpy(array.astype(np.int64))


def _padded(batch: Tensor, counts: list[int], signal: Signal) -> Tensor:
    """Put the modality's padding where the items have ended, in place."""
    for number, count in enumerate(counts):
        batch[number, count:] = batch[number, count - 1].clone() if signal.padding == "last" else 0
    return batch
