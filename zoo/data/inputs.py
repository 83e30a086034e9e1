"""The input side of the contract: everything a user may hand to `encode` becomes a float32 batch and its lengths."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data._items import LAYOUTS, Item, Options, is_clip, is_pair, is_pil, read_item
from zoo.data._source import local_path
from zoo.errors import InputError

__all__ = ["to_batch"]

# Lossy codecs, resampling and filters overshoot full scale a little; integer PCM taken for floats exceeds it by far.
_SPEECH_PEAK = 1.5
# Rounding in half precision; what interpolation overshoots is more than that, and the caller should clamp it.
_PIXEL_SLACK = 0.01


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
      uint8 (128 is silence); `(wave, rate)` with a wave (samples,) or (channels, samples); sound files.
    * image: float tensors and arrays (3, H, W) or (B, 3, H, W) in 0…1; uint8 (÷ 255) with that shape as tensors, but
      (H, W, 3) or (B, H, W, 3) as arrays; PIL images; picture files.
    * video: likewise (3, T, H, W) and, for uint8 arrays, (T, H, W, 3); a list of PIL images is one clip; video files.
    * action: tensors and arrays (T, D) or (B, T, D) of any real dtype in physical units; `.npy` files; alone, whatever
      else `zoo.data.actions.read_actions` reads, or what it returned, one item for each episode.

    A file is a path or the bytes of the whole file. In a list every entry is one item; its batch dimension, if any, is
    1 and dropped. Nothing is clipped, resampled, cut or normalised unless an argument says so.

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
    if modality not in LAYOUTS:
        raise ValueError(f"modality must be one of {', '.join(LAYOUTS)}, got {modality!r}.")
    if modality == "speech" and not sample_rate:
        raise ValueError("speech needs the sample_rate that the batch must have.")
    x = _episodes(x) if modality == "action" else x
    listed = isinstance(x, (list, tuple)) and not _is_one_item(x, modality)
    target = torch.device(device) if device is not None else _device_of(x if listed else [x])
    options = Options(modality, sample_rate, input_size, resample, mix_down, on_white, target)
    if listed:
        items = _read_list(x, options)
        batch, own_lengths = _collate(items, modality)
    else:
        item = read_item(x, options)
        single = item.values.ndim == len(LAYOUTS[modality])
        items = [item]
        batch, own_lengths = item.values.unsqueeze(0) if single else item.values, None
    if lengths is not None:
        if any(item.has_own_length for item in items):
            raise InputError("files and (wave, rate) say their own length: leave lengths out.")
        checked = _check_lengths(lengths, batch, own_lengths, modality)
        own_lengths = checked.to(batch.device) if bool((checked < batch.shape[1]).any()) else None
        if own_lengths is not None:
            batch = _pad(batch, own_lengths, modality)
    if check_finite and not all(item.in_range for item in items):
        _check_values(batch, modality, named=listed or len(batch) > 1)
    # One memory layout for all forms, since convolutions may round differently in another.
    return batch.contiguous(), own_lengths


def _is_one_item(x: Sequence[Any], modality: str) -> bool:
    if modality == "speech":
        # (rate, wave) is the only tuple of a number and something, and gets its own message.
        return is_pair(x) or (isinstance(x, tuple) and len(x) == 2 and is_pair(x[::-1]))
    return modality == "video" and is_clip(x)


def _episodes(x: Any) -> Any:
    """Replace a set of episodes, or the path of one, by a list of the episodes."""
    if isinstance(x, (list, tuple)):
        return [_only_episode(item, number) for number, item in enumerate(x)]
    if isinstance(read := getattr(x, "episodes", None), (list, tuple)):
        return list(read)
    if not isinstance(x, (str, os.PathLike)) or Path(os.fspath(x)).suffix.lower() == ".npy":
        return x
    path = local_path(x, or_folder=True)
    from zoo.data.actions import read_actions

    return list(read_actions(path).episodes)


def _only_episode(x: Any, number: int) -> Any:
    if not isinstance(x, (str, os.PathLike)):
        return x
    try:
        episodes = _episodes(x)
    except InputError as error:
        raise InputError(f"item {number}: {error}") from error
    if not isinstance(episodes, list):
        return episodes
    if len(episodes) != 1:
        raise InputError(
            f"item {number}: {os.fspath(x)!r} holds {len(episodes)} episodes, and a list has one item for each entry: "
            "pass the path alone, or zoo.data.actions.read_actions(path).episodes."
        )
    return episodes[0]


def _device_of(items: Sequence[Any]) -> torch.device:
    for item in items:
        part = item[0] if is_pair(item) else item
        if isinstance(part, Tensor) and not part.is_meta:
            return part.device
    return torch.device("cpu")


def _read_list(x: Sequence[Any], options: Options) -> list[Item]:
    if not x:
        raise InputError("the list is empty: there is nothing to encode.")
    rank = len(LAYOUTS[options.modality])
    items = []
    for number, entry in enumerate(x):
        try:
            item = read_item(entry, options)
            if item.values.ndim > rank:
                if len(item.values) > 1:
                    hint = "; sound with channels is (wave, rate)" if options.modality == "speech" else ""
                    raise InputError(
                        f"it is a batch, of the shape {tuple(item.values.shape)}, and a list holds single items{hint}: "
                        "pass the batch alone, or unpack it with *batch."
                    )
                item = dataclasses.replace(item, values=item.values[0])
        except InputError as error:
            path = f" ({os.fspath(entry)!r})" if isinstance(entry, (str, os.PathLike)) else ""
            shown = "" if path.strip(" ()") in str(error) else path
            mixed = ""
            if options.modality == "video" and is_pil(entry):
                mixed = " A list of PIL images is one clip; several clips are a list of such lists."
            raise InputError(f"item {number}{shown}: {error}{mixed}") from error
        items.append(item)
    return items


def _collate(items: list[Item], modality: str) -> tuple[Tensor, Tensor | None]:
    values = [item.values for item in items]
    first = values[0]
    has_lengths = modality in ("speech", "action")
    for number, value in enumerate(values):
        same = value.shape[1:] == first.shape[1:] if has_lengths else value.shape == first.shape
        if not same:
            what = "the same degrees of freedom" if modality == "action" else "one size"
            raise InputError(
                f"the items of a batch must have {what}: item 0 is ({', '.join(LAYOUTS[modality])}) = "
                f"{tuple(first.shape)}, item {number} is {tuple(value.shape)}; make them equal, or encode them apart."
            )
    counts = [len(value) for value in values]
    if not has_lengths or min(counts) == max(counts):
        return torch.stack(values), None
    batch = first.new_zeros(len(values), max(counts), *first.shape[1:])
    for row, value in zip(batch, values, strict=True):
        row[: len(value)] = value
        if modality == "action":
            row[len(value) :] = value[-1]
    return batch, torch.tensor(counts, device=first.device)


def _check_lengths(lengths: Any, batch: Tensor, own_lengths: Tensor | None, modality: str) -> Tensor:
    """Return lengths as int64 on the CPU."""
    if modality in ("image", "video"):
        raise InputError(f"lengths are for speech and actions; every {modality} of a batch is whole: leave them out.")
    rule = f"lengths must be {len(batch)} whole numbers, one for each item"
    values = lengths.detach().cpu().numpy() if isinstance(lengths, Tensor) else lengths
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise InputError(f"{rule}, got {type(lengths).__name__}.") from error
    if array.dtype.kind not in "iu":
        raise InputError(f"{rule}, got {array.dtype if array.size else 'an empty list'}.")
    if array.shape != (len(batch),):
        raise InputError(f"{rule}, got the shape {array.shape}.")
    longest = torch.full((len(batch),), batch.shape[1]) if own_lengths is None else own_lengths.cpu()
    for number, (length, most) in enumerate(zip(array.tolist(), longest.tolist(), strict=True)):
        if not 1 <= length <= most:
            raise InputError(f"lengths[{number}] is {length}, it must be from 1 to {most}, which item {number} has.")
    return torch.from_numpy(array.astype(np.int64))


def _pad(batch: Tensor, lengths: Tensor, modality: str) -> Tensor:
    """Put the modality's padding where the items have ended, in a copy."""
    index = torch.arange(batch.shape[1], device=batch.device).expand(len(batch), -1)
    if modality == "speech":
        return batch.masked_fill(index >= lengths[:, None], 0)
    index = torch.minimum(index, lengths[:, None] - 1)
    return batch.gather(1, index[..., None].expand_as(batch))


def _check_values(batch: Tensor, modality: str, *, named: bool) -> None:
    # One pass and one transfer: NaN comes through as NaN, infinities as the extremes.
    low, high = torch.stack(torch.aminmax(batch.detach())).tolist()
    bounds = {"speech": (-_SPEECH_PEAK, _SPEECH_PEAK), "action": (-math.inf, math.inf)}
    least, most = bounds.get(modality, (-_PIXEL_SLACK, 1 + _PIXEL_SLACK))
    if math.isfinite(low) and math.isfinite(high) and least <= low and high <= most:
        return
    for number, item in enumerate(batch.detach()):
        where = f"item {number}: " if named else ""
        bad = ~item.isfinite()
        if bool(bad.any()):
            position = tuple(bad.nonzero()[0].tolist())
            value = item[position].item()
            axes = ", ".join(LAYOUTS[modality]).replace("3", "channel")
            raise InputError(
                f"{where}the value at ({axes}) = {position} is {'NaN' if math.isnan(value) else value}"
                f"{f', {int(bad.sum())} values are not finite' if int(bad.sum()) > 1 else ''}: repair or remove them."
            )
        low, high = torch.stack(torch.aminmax(item)).tolist()
        if not (least <= low and high <= most):
            raise InputError(f"{where}{_range_message(low, high, modality)}")


def _range_message(low: float, high: float, modality: str) -> str:
    if modality == "speech":
        return (
            f"speech is in -1…1, this goes from {low:g} to {high:g}: divide integer PCM by its full scale (16 bits by "
            "32768), or scale it down."
        )
    got = f"pixels are in 0…1, these go from {low:g} to {high:g}"
    if high > 1.5 and low >= -_PIXEL_SLACK:
        return f"{got}: divide by {255 if high <= 256 else 65535}{', or pass uint8' if high <= 256 else ''}."
    if -1 - _PIXEL_SLACK <= low < -0.5 and high <= 1 + _PIXEL_SLACK:
        return f"{got}: if they are in -1…1, pass (x + 1) / 2."
    if low < -1:
        return f"{got}: undo their normalisation."
    return f"{got}: clamp them if that is what you mean."
