"""Reading and writing sound files, and changing rate and channels on request."""

from __future__ import annotations

import io
import math
import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.data._source import Source, describe, open_source, unreadable
from zoo.errors import InputError

__all__ = ["change_rate", "claimed_seconds", "read_audio", "write_wav"]

# libsndfile shortens a cut file to what is there and notes it in its log only.
_SIZE_NOTE = re.compile(r"(data|SSND|Data Size|[A-Za-z]+(?: size)?)\s*:\s*(\d+) \(should be (\d+)\)")
_OGG_NOTE = re.compile(r"Ogg ?: (Last page lacks|File ended unexpectedly|Junk after)")
_UNKNOWN_SIZE = 0x7FFFFFFF - 4096  # a writer that could not seek back leaves about 2 or 4 GiB as the size
_SLACK_BYTES = 8  # some writers count the chunk's own header in the size of the outer chunk
_MP3_FRAME = 1152
_LARGEST_FILTER = 50_000_000  # taps; an odd pair of rates would need gigabytes


def read_audio(source: Source, *, sample_rate: int | None = None, mix_down: bool = False) -> tuple[Tensor, int]:
    """Read a sound file, or the sound of a video.

    Args:
        source: A path, or a whole file in memory. libsndfile reads it (WAV, FLAC, Ogg, MP3, AIFF, …); FFmpeg reads what
            libsndfile does not know (M4A, WebM, sound of videos).
        sample_rate: The rate in Hz to resample to; None keeps that of the file.
        mix_down: Average the channels into one.

    Returns:
        The wave (channels, samples), float32, and its rate in Hz. Full scale is −1…1; what a lossy codec or resampling
        overshoots is kept.

    Raises:
        InputError: The file is missing, unreadable, truncated, or holds no sound.
    """
    with open_source(source) as file:
        data = file.read()
    decoded = _read_libsndfile(data, source)
    wave, rate = _read_ffmpeg(data, source) if decoded is None else decoded
    if wave.shape[1] == 0:
        raise InputError(f"{describe(source)} holds no samples.")
    if mix_down:
        wave = wave.mean(dim=0, keepdim=True)
    if sample_rate is not None and sample_rate != rate:
        wave, rate = change_rate(wave, rate, sample_rate), sample_rate
    return wave, rate


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


def claimed_seconds(container: Any, stream: Any) -> float | None:
    """Return how long a file's header says that a stream is, or None where FFmpeg would have to guess."""
    if not container.format.name.startswith(("mov,", "matroska", "caf", "avi")):
        return None
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if match := re.fullmatch(r"(\d+):(\d+):([\d.]+)\0*", stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = match.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if container.duration is not None and len(container.streams) == 1:
        return float(container.duration / 1_000_000)
    return None


def _read_libsndfile(data: bytes, source: Source) -> tuple[Tensor, int] | None:
    import soundfile

    try:
        sound = soundfile.SoundFile(io.BytesIO(data))
    except soundfile.LibsndfileError:
        return None
    with sound, unreadable(source, "sound"):
        values = sound.read(dtype="float32", always_2d=True)
        missing = sound.frames - len(values)
        if sound.format == "MP3":
            # Its count is exact only if the file has an index, and the decoder may drop one frame at the end.
            cut = missing > _MP3_FRAME and _mp3_has_index(data)
        else:
            cut = missing > 0 or _notes_a_cut(sound.extra_info)
        if cut:
            raise InputError(
                f"{describe(source)} is truncated: it ends before the {sound.format} file says it does. Get it again, "
                "or decode what is there with another program and pass the samples."
            )
        return torch.from_numpy(values.T).contiguous(), int(sound.samplerate)


def _notes_a_cut(log: str) -> bool:
    if _OGG_NOTE.search(log):
        return True
    for chunk, claimed, actual in _SIZE_NOTE.findall(log):
        slack = 0 if chunk in ("data", "SSND", "Data Size") else _SLACK_BYTES
        if int(claimed) < _UNKNOWN_SIZE and int(claimed) - int(actual) > slack:
            return True
    return False


def _mp3_has_index(data: bytes) -> bool:
    start = 0
    if data[:3] == b"ID3" and len(data) >= 10:  # the tag's size is four bytes of seven bits
        start = 10 + (data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9])
    return any(word in data[start : start + 4096] for word in (b"Xing", b"Info", b"VBRI"))


def _read_ffmpeg(data: bytes, source: Source) -> tuple[Tensor, int]:
    import av

    with (
        unreadable(source, "sound"),
        av.open(io.BytesIO(data), "r", options={"protocol_whitelist": "none"}) as container,
    ):
        if not container.streams.audio:
            raise InputError(f"{describe(source)} has no sound track.")
        stream = container.streams.audio[0]
        to_float = av.AudioResampler(format="fltp")
        pieces: list[Tensor] = []
        end = 0.0
        for frame in container.decode(stream):
            if frame.time is not None:
                end = frame.time + frame.samples / frame.sample_rate
            pieces.extend(torch.from_numpy(part.to_ndarray()) for part in to_float.resample(frame))
        pieces.extend(torch.from_numpy(part.to_ndarray()) for part in to_float.resample(None))
        claimed = claimed_seconds(container, stream)
        if claimed is not None and end < claimed - 0.1:
            raise InputError(f"{describe(source)} is truncated: {end:.2f} s of sound, its header says {claimed:.2f} s.")
        wave = torch.cat(pieces, dim=1) if pieces else torch.zeros(1, 0)
        return wave, int(stream.rate)
