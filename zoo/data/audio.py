"""Reading and writing sound files, and changing rate and channels on request."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from zoo.data._sound.decoders import Block, UnsupportedError, claimed_seconds, decoded
from zoo.data._sound.part import TruncatedError
from zoo.data._source import Source, describe, open_source, unreadable
from zoo.errors import InputError
from zoo.process.fresh import fresh

__all__ = ["about_seconds", "blocks_of", "change_rate", "claimed_seconds", "read_audio", "stretch", "write_wav"]

_ROUNDING = 0.01  # seconds
_LARGEST_FILTER = 50_000_000  # taps; an odd pair of rates would need gigabytes


def read_audio(
    source: Source,
    *,
    sample_rate: int | None = None,
    mix_down: bool = False,
    offset: float = 0.0,
    duration: float | None = None,
) -> tuple[Tensor, int]:
    """Read a sound file, or the sound of a video.

    All the sound is read, whatever a header says of its length, and all parts of files that were joined. What was cut
    short is refused; of IRCAM, PAF, PVF and some XI files, which state no length, this is seen only within a sample.

    Args:
        source: A path, a whole file in memory, or a file open in binary mode. libsndfile reads it (WAV, FLAC, Ogg, MP3,
            AIFF, …); FFmpeg reads what libsndfile does not know (M4A, WebM, sound of videos) or would not read to its
            end.
        sample_rate: The rate in Hz to resample to; None keeps that of the file.
        mix_down: Average the channels into one.
        offset: Seconds into the file where reading begins.
        duration: Seconds to read; None is to the end. See `stretch` for how exactly.

    Returns:
        The wave (channels, samples), float32, and its rate in Hz. Full scale is −1…1; what a lossy codec or resampling
        overshoots is kept.

    Raises:
        InputError: The file is missing, unreadable, truncated, or holds no sound; its parts differ in rate or channels;
            or the stretch leaves it.
    """
    _check_stretch(offset, duration)
    pieces: list[Tensor] = []
    rate, end, is_whole = 0, 0, True
    for block in blocks_of(source, offset):
        rate, end = block.sample_rate, block.first + block.values.shape[1]
        pieces.append(block.values[:, max(0, _samples(offset, rate) - block.first) :])
        if duration is not None and end > _samples(offset, rate) + _samples(duration, rate) + _samples(_ROUNDING, rate):
            is_whole = False  # enough of it: where the file ends does not matter
            break
    wave = torch.cat(pieces, dim=1)
    del pieces
    if end == 0:
        raise InputError(f"{describe(source)} holds no samples.")
    try:
        first, last = stretch(end, rate, offset, duration)
    except InputError as error:
        raise InputError(f"{describe(source)}: {error}") from error
    if not is_whole or last < end:
        wave = wave[:, : last - first].clone()
    if mix_down:
        wave = wave.mean(dim=0, keepdim=True)
    if sample_rate is not None and sample_rate != rate:
        wave, rate = change_rate(wave, rate, sample_rate), sample_rate
    return wave, rate


def blocks_of(source: Source, offset: float = 0.0) -> Iterator[Block]:
    """Decode a file from its beginning, or from nearer to an offset in seconds, to its end.

    Yields:
        Consecutive blocks, at least one, which may be empty.

    Raises:
        InputError: As for `read_audio`.
    """
    name = describe(source)
    with open_source(source) as file, unreadable(source, "sound"):
        try:
            yield from decoded(file, offset)
        except TruncatedError as error:
            raise InputError(
                f"{name} is truncated, or its header is wrong: {error}. Get it again, or decode what is there with "
                "another program and pass the samples."
            ) from error
        except UnsupportedError as error:
            raise InputError(f"{name} {error}.") from error
        except MemoryError as error:  # blocks are small: a header asked for it
            raise InputError(
                f"{name} cannot be read as sound: decoding it asks for more memory than there is. It may be damaged."
            ) from error


def about_seconds(file: Path) -> float:
    """Return about how long a sound file says it is, 0 if it does not, without decoding it."""
    import av
    import soundfile

    try:
        return float(soundfile.info(file).duration)
    except (soundfile.SoundFileError, TypeError, ValueError, OSError):
        pass
    try:
        with av.open(str(file), options={"protocol_whitelist": "file"}) as container:
            return (container.duration or 0) / 1_000_000
    except (av.FFmpegError, ValueError, OSError):
        return 0.0


def stretch(num_samples: int, rate: int, offset: float = 0.0, duration: float | None = None) -> tuple[int, int]:
    """Return the first sample of a stretch of sound, and the one after its last.

    Args:
        num_samples: Of the whole.
        rate: Hz.
        offset: Seconds before the stretch.
        duration: Seconds of the stretch; None is to the end. Durations are often rounded, so what would end up to 10 ms
            after the end of the whole ends there; likewise up to 10 ms before, if it begins where the whole does.

    Raises:
        InputError: The stretch is empty, or not within the whole.
    """
    _check_stretch(offset, duration)
    if num_samples == 0:
        raise InputError("the sound is empty.")
    first = _samples(offset, rate)
    last = num_samples if duration is None else first + _samples(duration, rate)
    if last > num_samples or first == 0:
        last = num_samples if abs(last - num_samples) <= _samples(_ROUNDING, rate) else last
    if not first < last <= num_samples:
        until = "its end" if duration is None else f"{offset + duration:g} s"
        raise InputError(
            f"the stretch from {offset:g} s to {until} is not within the sound, which is {num_samples / rate:g} s long."
        )
    return first, last


def _check_stretch(offset: float, duration: float | None) -> None:
    if not (0 <= offset < math.inf and (duration is None or 0 < duration < math.inf)):
        raise InputError(f"offset must be at least 0 s and duration above 0 s, got {offset} and {duration}.")


def _samples(seconds: float, rate: int) -> int:
    return round(seconds * rate)


def change_rate(wave: Tensor, rate: int, new_rate: int) -> Tensor:
    """Resample (..., samples) from `rate` to `new_rate` Hz with a windowed sinc.

    Raises:
        InputError: A rate is not positive, or the two have so small a common divisor that the filter would not fit in
            memory.
    """
    if rate <= 0 or new_rate <= 0:
        raise InputError(f"sample rates must be positive, got {rate} Hz and {new_rate} Hz.")
    common = math.gcd(rate, new_rate)
    if max(rate, new_rate) // common * (new_rate // common) > _LARGEST_FILTER:
        raise InputError(f"resampling from {rate} Hz to {new_rate} Hz needs too large a filter: use a common rate.")
    from torchaudio.functional import resample

    with fresh(wave.device):  # torchaudio makes numbers by the way
        resampled: Tensor = resample(wave, rate, new_rate)
    return resampled


def write_wav(path: str | os.PathLike[str], wave: Tensor, sample_rate: int) -> None:
    """Write a wave (samples,) or (channels, samples) in −1…1 as 16-bit PCM.

    Raises:
        InputError: The wave has another rank, no samples, or values that 16 bits cannot hold.
    """
    if wave.ndim not in (1, 2) or wave.numel() == 0:
        raise InputError(f"a wave to write is (samples,) or (channels, samples), not empty; got {tuple(wave.shape)}.")
    # Rounding onto −32768…32767 makes reading and writing 16-bit files exact inverses; 1.0 itself is one step too high.
    scaled = (wave.detach().to("cpu", torch.float64) * 32768).round()
    if not bool((scaled.abs() <= 32768).all()):
        raise InputError("the wave to write must be finite and within -1…1: scale or clamp it first.")
    import soundfile

    pcm = scaled.clamp(max=32767).to(torch.int16)
    # Through memory, since libsndfile does not say why a disk refuses, or, on closing, that it does.
    file = io.BytesIO()
    soundfile.write(file, pcm.movedim(-1, 0).numpy(), sample_rate, format="WAV", subtype="PCM_16")
    Path(path).write_bytes(file.getbuffer())
