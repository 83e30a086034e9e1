"""What a modality is: facts about a kind of signal, and its way from what people have to tensors and back to files."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from zoo.data._source import is_source, local_path
from zoo.data.folders import files_in
from zoo.errors import InputError
from zoo.spec import TokenSpec

__all__ = ["FLOATS", "Blocks", "Item", "Options", "Reading", "Recording", "Signal", "is_array"]

FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Options:
    """The arguments of `to_batch` that concern single items."""

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


@dataclass(frozen=True)
class Reading:
    """What is read of files, and what may be done to it so that it fits a model; nothing by default.

    Args:
        resample: Change the rate of speech and the frame rate of videos.
        mix_down: Average the channels of speech.
        resize: Bring pictures and frames to the model's size, cut to its shape or stretched.
        on_white: Lay transparent pictures on white.
        trim: Take the beginning of videos that are too long.
        keep_folders: Let the names of files begin with their folders, below the one that all have in common.
        column: Of Parquet and LeRobotDatasets: the column of actions, or several with commas.
        key: Of archives: the array of actions.
        split: Of archives and LeRobotDatasets: the split.
    """

    resample: bool = False
    mix_down: bool = False
    resize: Literal["cut", "stretch"] | None = None
    on_white: bool = False
    trim: bool = False
    keep_folders: bool = False
    column: str | None = None
    key: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Blocks:
    """A signal that may be too long to be held as a whole.

    Args:
        read: Returns it in consecutive parts, and its rate.
        length: About how many samples or frames it has, as its file says; 0 if that does not.
    """

    read: Callable[[], tuple[Iterator[Tensor], float | None]]
    length: int = 0


@dataclass(frozen=True)
class Recording:
    """An item in a file, not read yet.

    Args:
        name: A relative path.
        read: Returns the signal without a batch dimension, and its rate if it has one.
        stamp: Returns a text that is another one once the item is: of its file size and time, or of what it holds.
        dof_names: What the degrees of freedom of actions are called, where the file says it.
        blocks: How to read what may be too long to be held as a whole.
    """

    name: str
    read: Callable[[], tuple[Tensor, float | None]]
    stamp: Callable[[], str]
    dof_names: tuple[str, ...] | None = None
    blocks: Blocks | None = None


class Signal(ABC):
    """A modality: facts in its attributes, and methods to override where it also does something in its own way."""

    name: ClassVar[str]  # as in `TokenSpec.modality`
    noun: ClassVar[str]  # with its article
    forms: ClassVar[str]  # what may be given for one, for people
    axes: ClassVar[tuple[str, ...]]  # of an item, without the batch dimension
    dtypes: ClassVar[tuple[str, ...]]  # of tensors and arrays
    dtype_advice: ClassVar[str]  # what to pass instead of another dtype
    value_range: ClassVar[tuple[float, float] | None]  # None in physical units
    range_advice: ClassVar[str] = "scale it"  # what to do about values out of it
    slack: ClassVar[float] = 0.0  # how far outside of it values may lie
    # What stands past an item's end in a batch; None if all items of a batch have one size, and no lengths.
    padding: ClassVar[Literal["zeros", "last"] | None] = None
    batch_hint: ClassVar[str] = ""  # what to say of a batch in a list of items
    has_rate: ClassVar[bool] = False  # whether a batch must have a sample rate
    time_axis: ClassVar[int | None] = None  # of an item, if there is time
    steps: ClassVar[str] = ""  # what the samples along it are called
    size_axes: ClassVar[str] = ""  # what `TokenSpec.input_size` counts
    size_advice: ClassVar[str] = "resize or cut it first"  # how to bring an item to another size, `{}`
    is_read_ahead: ClassVar[bool] = False  # whether files are read by threads beside the one that encodes
    unit: ClassVar[str] = "item"  # what `TokenSpec.num_tokens` is for
    raw_bits: ClassVar[int]  # of a value as it is stored without compression
    suffixes: ClassVar[tuple[str, ...]] = ()  # of files that are taken from a folder; one that is named may have any
    suffix: ClassVar[str]  # of files that are written
    pipeline_tag: ClassVar[str]  # what the Hub calls turning one into another
    example: ClassVar[str]  # a file, for usage lines

    # From what people have to tensors.

    def needs(self, spec: TokenSpec) -> dict[str, Any]:
        """Return the arguments of `to_batch` that say what a tokenizer takes."""
        return {}

    def unpack(self, x: Any) -> Any:
        """Replace what holds several items by a list of them."""
        return x

    def is_one(self, x: Sequence[Any]) -> bool:
        """Tell a list or tuple that is one item from one of several."""
        return False

    def entry_hint(self, entry: Any) -> str:
        """Return what to say of an entry that cannot be an item of a list."""
        return ""

    def read(self, x: Any, options: Options) -> Item:
        """Turn one tensor, array, file or what else the modality knows into an `Item` and check its shape.

        Raises:
            InputError: It is none of these, or not one that the options allow.
        """
        item = self._from_object(x, options)
        if item is None and is_source(x):
            item = self._from_source(x, options)
        elif item is None and is_array(x):
            item = self._from_array(x, options)
        if item is None:
            name = "a nested list" if isinstance(x, (list, tuple)) else type(x).__name__
            raise InputError(
                f"{name} cannot be taken as {self.noun}: {self.forms}; numbers in lists need numpy.asarray."
            )
        self._check_shape(tuple(item.values.shape), options)
        return Item(item.values.to(options.device, torch.float32), item.in_range, item.has_own_length)

    def _from_object(self, x: Any, options: Options) -> Item | None:
        """Turn what only this modality knows into an item; None if it is no such thing."""
        return None

    @abstractmethod
    def _from_source(self, x: Any, options: Options) -> Item:
        """Read a path or the bytes of a file."""

    def _from_array(self, x: Tensor | np.ndarray, options: Options) -> Item:
        """Take a tensor or array, perhaps with a batch dimension in front."""
        return Item(self._as_tensor(x))

    def _as_tensor(self, x: Tensor | np.ndarray) -> Tensor:
        """Return a strided tensor of an accepted dtype that shares memory where it can."""
        name = str(x.dtype).removeprefix("torch.")
        if isinstance(x, Tensor):
            if x.layout != torch.strided or x.is_nested:
                kind = "nested" if x.is_nested else "sparse"
                raise InputError(f"the tensor is {kind}: pass a dense one (x.to_dense()).")
            if x.is_quantized:
                raise InputError("the tensor is quantised: pass x.dequantize().")
            if x.is_meta:
                raise InputError("the tensor is on the meta device and has no values.")
        elif isinstance(x, np.ma.MaskedArray):
            raise InputError("the array is masked, and what is under the mask would count: pass x.filled(value).")
        if name not in self.dtypes and not (
            isinstance(x, np.ndarray) and x.dtype.newbyteorder("=").name in self.dtypes
        ):
            raise InputError(f"{self.noun} cannot have the dtype {name}: {self.dtype_advice}.")
        if isinstance(x, Tensor):
            return x if type(x) is Tensor else x.as_subclass(Tensor)
        # torch warns of read-only memory, and refuses foreign byte order and negative strides.
        native = x.astype(x.dtype.newbyteorder("="), copy=False)
        if not native.flags.writeable or any(stride < 0 for stride in native.strides):
            native = native.copy()
        return torch.from_numpy(native)

    def _rank_hint(self, shape: tuple[int, ...]) -> str:
        """Return what to do about a shape with too many or too few axes."""
        return ""

    def _check_shape(self, shape: tuple[int, ...], options: Options) -> None:
        """Raise `InputError` unless it is that of an item, or of a batch."""
        if len(shape) not in (len(self.axes), len(self.axes) + 1):
            raise self._wrong_shape(shape, self._rank_hint(shape))
        if 0 in shape:
            raise InputError(f"{self.noun} must not be empty, got the shape {shape}.")
        wanted = options.input_size
        if wanted is not None and shape[-len(wanted) :] != tuple(wanted):
            raise InputError(
                f"{self.noun} must have the size ({', '.join(self.axes[-len(wanted) :])}) = {tuple(wanted)}, got "
                f"{shape[-len(wanted) :]}: {self.size_advice.format(tuple(wanted))}."
            )

    def _wrong_shape(self, shape: tuple[int, ...], hint: str) -> InputError:
        axes = ", ".join(self.axes)
        layout = f"({axes}{',' if len(self.axes) == 1 else ''}) or (B, {axes})"
        return InputError(f"{self.noun} must have the shape {layout}, got {shape}{hint}.")

    def check_values(self, items: Tensor | list[Tensor], *, named: bool) -> None:
        """Raise `InputError` if there is NaN, an infinity or a value out of range; `named` if the item is to be said.

        One pass and one transfer: NaN comes through as NaN, infinities as the extremes.
        """
        parts = [items] if isinstance(items, Tensor) else items
        ends = torch.stack([torch.stack(torch.aminmax(part.detach())) for part in parts])
        low, high = torch.stack([ends[:, 0].amin(), ends[:, 1].amax()]).tolist()
        if self._is_in_range(low, high):
            return
        for number, item in enumerate(each.detach() for each in items):
            where = f"item {number}: " if named else ""
            bad = ~item.isfinite()
            if bool(bad.any()):
                position = tuple(bad.nonzero()[0].tolist())
                value = item[position].item()
                axes = ", ".join(self.axes).replace("3", "channel")
                raise InputError(
                    f"{where}the value at ({axes}) = {position} is {'NaN' if math.isnan(value) else value}"
                    f"{f', {int(bad.sum())} values are not finite' if int(bad.sum()) > 1 else ''}: repair or remove "
                    "them."
                )
            low, high = torch.stack(torch.aminmax(item)).tolist()
            if not self._is_in_range(low, high):
                raise InputError(f"{where}{self._range_advice(low, high)}")

    def _is_in_range(self, low: float, high: float) -> bool:
        least, most = self.value_range or (-math.inf, math.inf)
        in_range = least - self.slack <= low and high <= most + self.slack
        return math.isfinite(low) and math.isfinite(high) and in_range

    def _range_advice(self, low: float, high: float) -> str:
        least, most = self.value_range or (-math.inf, math.inf)
        return f"{self.noun} is in {least:g}…{most:g}, this goes from {low:g} to {high:g}: {self.range_advice}."

    # From files, as a command line names them, and back.

    def find(
        self, inputs: Sequence[str], spec: TokenSpec, reading: Reading, note: Callable[[str], None]
    ) -> list[Recording]:
        """Return what the inputs hold: the files that are named, and those in folders that are, in natural order.

        Args:
            inputs: Paths of files and folders.
            spec: What they are for.
            reading: What is read, and what may be done to it.
            note: Is told of what is left out, and what does not fit well.

        Raises:
            InputError: An input does not exist, or holds nothing of the modality.
        """
        files = [file for text in inputs for file in self._files(text, note)]
        names = [file.name for file in files]
        if reading.keep_folders:
            paths = [file.absolute() for file in files]
            common = os.path.commonpath([path.parent for path in paths])
            names = [path.relative_to(common).as_posix() for path in paths]
        return [
            Recording(
                name,
                lambda file=file: self._read_named(file, spec, reading),  # type: ignore[misc]
                partial(_file_stamp, name, file),
                blocks=self._blocks(file, spec, reading),
            )
            for name, file in zip(names, files, strict=True)
        ]

    def _blocks(self, file: Path, spec: TokenSpec, reading: Reading) -> Blocks | None:
        """Return how to read a file in parts, if it may be long and the modality can."""
        return None

    def _files(self, text: str, note: Callable[[str], None]) -> list[Path]:
        path = local_path(text, or_folder=True)
        if not path.is_dir():
            return [path]
        found = files_in(path)
        wanted = [file for file in found if file.suffix.lower() in self.suffixes]
        if not wanted:
            raise InputError(f"the folder {text!r} has no files of {self.name} ({', '.join(self.suffixes)}).")
        if others := set(found) - set(wanted):
            suffixes = sorted({file.suffix.lower() or "no suffix" for file in others})
            left_out = f"{len(others):,} file{'s' * (len(others) > 1)}"
            note(f"left out {left_out} of {text}, since only files of {self.name} are taken: {', '.join(suffixes)}.")
        return wanted

    def _read_named(self, file: Path, spec: TokenSpec, reading: Reading) -> tuple[Tensor, float | None]:
        try:
            return self._read_file(file, spec, reading)
        except InputError as error:
            if str(file) in str(error):
                raise
            raise InputError(f"{file}: {error}") from error

    def _read_file(self, file: Path, spec: TokenSpec, reading: Reading) -> tuple[Tensor, float | None]:
        """Read an item that fits `spec`, without a batch dimension, and its rate if it has one.

        Raises:
            InputError: It cannot be read, or only fits if `reading` allows what it does not.
        """
        raise NotImplementedError

    def batch_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return what all items of a batch have in common: their shape but for the length, where that is free."""
        axis = None if self.padding is None else self.time_axis
        return tuple(size for place, size in enumerate(shape) if place != axis)

    def values_per_step(self, spec: TokenSpec) -> int:
        """Return how many values a sample, frame or command has."""
        return 1

    def cut(self, values: Tensor, length: int) -> Tensor:
        """Return the first `length` samples, frames or commands of an item."""
        axis = self.time_axis
        return values if axis is None else values.narrow(axis, 0, min(length, values.shape[axis]))

    def seconds(self, values: Tensor, rate: float | None) -> float | None:
        """Return how long an item is, if it has time and a known rate."""
        return None if rate is None or self.time_axis is None else values.shape[self.time_axis] / rate

    def clipped(self, values: Tensor) -> tuple[Tensor, int]:
        """Return values within the range, and how many were out of it."""
        if self.value_range is None:
            return values, 0
        low, high = self.value_range
        return values.float().clamp(low, high), int(((values < low) | (values > high)).sum())

    @abstractmethod
    def write(self, path: Path, values: Tensor, rate: float | None) -> None:
        """Write an item, in range, to a file that ends in `suffix`.

        Raises:
            InputError: It needs a rate, or cannot be written in this format.
        """

    def check_writing(self, path: Path, spec: TokenSpec, rate: float | None) -> None:  # noqa: B027  few have a limit
        """Raise `InputError` if what a tokenizer decodes cannot be written to a path at a rate, as far as is known."""

    def write_parts(self, path: Path, parts: Iterable[Tensor], rate: float | None) -> None:
        """Write an item that comes in consecutive parts; the only one, unless the modality writes them as they come.

        Raises:
            InputError: As for `write`.
        """
        (whole,) = parts
        self.write(path, whole, rate)


def _file_stamp(name: str, file: Path) -> str:
    try:
        status = file.stat()
    except OSError:
        return f"{name}: not there"
    return f"{name}: {status.st_size} bytes of {status.st_mtime_ns}"


def is_array(x: object) -> bool:
    """Tell tensors and arrays."""
    return isinstance(x, (Tensor, np.ndarray))
