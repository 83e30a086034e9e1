"""Speech: waves in -1…1, as tensors, arrays with their rate, and sound files."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from zoo.data._source import is_source
from zoo.data.audio import about_seconds, change_rate, read_audio, write_wav
from zoo.data.signals.base import FLOATS, Blocks, Item, Options, Reading, Signal, is_array
from zoo.errors import InputError, shown
from zoo.spec import TokenSpec

__all__ = ["SpeechSignal"]

_SUFFIXES = ".wav .flac .mp3 .ogg .oga .opus .m4a .aac .aif .aiff .aifc .au .caf .wma .mka .webm"
_MOST_CHANNELS = 32
_LONG = 2**22  # bytes: two minutes of PCM, twenty of speech by a lossy codec


class SpeechSignal(Signal):
    """(samples,) in -1…1 at a rate."""

    name = "speech"
    noun = "speech"
    forms = (
        "pass a tensor or array (samples,), (wave, rate), a path, bytes or an open file, a mapping with array and "
        "sampling_rate, or a list of these"
    )
    axes = ("samples",)
    dtypes = (*FLOATS, "int16", "int32", "uint8")
    dtype_advice = "pass floats in -1…1, or PCM as int16, int32 or uint8"
    value_range = (-1.0, 1.0)
    range_advice = "divide integer PCM by its full scale (16 bits by 32768), or scale it down"
    # Lossy codecs, resampling and filters overshoot full scale a little; integer PCM taken for floats does by far.
    slack = 0.5
    padding: ClassVar[Literal["zeros", "last"] | None] = "zeros"
    batch_hint = "; sound with channels is (wave, rate)"
    has_rate = True
    time_axis = 0
    steps = "samples"
    raw_bits = 16
    suffixes = tuple(_SUFFIXES.split())
    suffix = ".wav"
    pipeline_tag = "audio-to-audio"
    example = "speech.wav"

    def needs(self, spec: TokenSpec) -> dict[str, Any]:
        """Return the rate.

        Raises:
            InputError: The spec has none.
        """
        if spec.sample_rate is None:
            raise InputError("the spec of this tokenizer of speech does not say its sample rate.")
        return {"sample_rate": int(spec.sample_rate)}

    def is_one(self, x: Sequence[Any]) -> bool:
        """Tell `(wave, rate)`, and also `(rate, wave)`, which gets a message of its own."""
        return isinstance(x, tuple) and len(x) == 2 and (_is_pair(x) or _is_pair(x[::-1]))

    def _from_object(self, x: Any, options: Options) -> Item | None:
        if isinstance(x, Mapping):
            return self._from_mapping(x, options)
        if not isinstance(x, tuple):
            return None
        if not _is_pair(x):
            swapped = len(x) == 2 and _is_pair(x[::-1])
            got = "the rate comes second" if swapped else f"got a tuple of {', '.join(type(p).__name__ for p in x)}"
            raise InputError(f"sound with its rate is (wave, rate), an array or tensor and a number in Hz: {got}.")
        wave, rate = self._as_tensor(x[0]), float(x[1])
        if not (rate > 0 and rate.is_integer()):
            raise InputError(f"the rate in (wave, rate) must be a positive whole number of Hz, got {x[1]!r}.")
        if wave.ndim not in (1, 2) or wave.numel() == 0 or (wave.ndim == 2 and wave.shape[0] > _MOST_CHANNELS):
            raise InputError(
                f"the wave in (wave, rate) is (samples,) or (channels, samples), not empty; got {tuple(wave.shape)}"
                f"{': transpose it' if wave.ndim == 2 and wave.shape[0] > wave.shape[1] > 0 else ''}."
            )
        wave = _from_pcm(wave).float()
        return Item(_settle(wave.reshape(-1, wave.shape[-1]), int(rate), options), has_own_length=True)

    def _from_mapping(self, x: Mapping[str, Any], options: Options) -> Item:
        """Take sound as the datasets library gives it, decoded or not."""
        if {"array", "sampling_rate"} <= set(x):
            try:
                wave = x["array"] if is_array(x["array"]) else np.asarray(x["array"], dtype=np.float32)
            except (TypeError, ValueError) as error:
                raise InputError(f"the array in the mapping must be numbers, got {shown(x['array'])}.") from error
            return self.read((wave, x["sampling_rate"]), options)
        source = x.get("path") if x.get("bytes") is None else x["bytes"]
        if not is_source(source):
            raise InputError(
                "a mapping of speech has array and sampling_rate, or the bytes or path of a file; got "
                f"{', '.join(map(repr, x)) or 'an empty one'}."
            )
        return self._from_source(source, options)

    def _from_source(self, x: Any, options: Options) -> Item:
        return Item(_settle(*read_audio(x), options), has_own_length=True)

    def _from_array(self, x: Tensor | np.ndarray, options: Options) -> Item:
        values = self._as_tensor(x)
        if values.ndim == 3 and values.shape[1] == 1:
            values = values.squeeze(1)  # (B, 1, samples): a channel axis is common, and there is one channel
        if options.mix_down and values.ndim == 2 and len(values) > 1:
            raise InputError(
                f"mix_down=True averages the channels of a sound, and a bare {tuple(values.shape)} is a batch "
                "(B, samples), without channels: pass (wave, rate) if the first axis is channels, x.mean(0), or leave "
                "mix_down out."
            )
        return Item(_from_pcm(values), in_range=not values.is_floating_point())

    def _rank_hint(self, shape: tuple[int, ...]) -> str:
        return ": average the channels, x.mean(1), or pick one" if len(shape) == 3 else ""

    def _check_shape(self, shape: tuple[int, ...], options: Options) -> None:
        super()._check_shape(shape, options)
        if len(shape) == 2 and shape[1] <= 8 < shape[0]:
            raise InputError(
                f"a batch of speech is (B, samples), got {shape}, which looks like (samples, channels): pass "
                "(wave.T, rate) with mix_down=True, or choose a channel."
            )

    def _read_file(self, file: Path, spec: TokenSpec, reading: Reading) -> tuple[Tensor, float | None]:
        options = Options(**self.needs(spec), resample=reading.resample, mix_down=reading.mix_down)
        wave = self.read(file, options).values
        self.check_values(wave[None], named=False)
        return wave, spec.sample_rate

    def _blocks(self, file: Path, spec: TokenSpec, reading: Reading) -> Blocks | None:
        if not file.is_file() or file.stat().st_size < _LONG:
            return None
        from zoo.data.blocks import read_blocks

        options = {"mix_down": reading.mix_down, "resample": reading.resample}
        length = round(about_seconds(file) * (spec.sample_rate or 0))
        return Blocks(lambda: (read_blocks(file, **self.needs(spec), **options), spec.sample_rate), length)

    def write(self, path: Path, values: Tensor, rate: float | None) -> None:
        """Write 16-bit WAV."""
        if rate is None:
            raise InputError("the sample rate is not known.")
        write_wav(path, values, int(rate))


def _is_pair(x: object) -> bool:
    return isinstance(x, tuple) and len(x) == 2 and is_array(x[0]) and _is_number(x[1])


def _is_number(x: object) -> bool:
    if isinstance(x, (Tensor, np.ndarray)):
        return x.ndim == 0
    return isinstance(x, numbers.Real) and not isinstance(x, bool)


def _from_pcm(values: Tensor) -> Tensor:
    """Divide integers by the full scale: 2¹⁵, 2³¹, and 2⁷ around 128 for uint8, as WAV files define it."""
    if values.is_floating_point():
        return values
    if values.dtype.itemsize == 1:
        return (values.float() - 128) / 128
    return values.float() / 2.0 ** (8 * values.dtype.itemsize - 1)


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
