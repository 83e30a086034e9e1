"""Decoding a sound file, or the sound of a video, block by block."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from zoo.data._sound.part import Bytes, Part, TruncatedError, View
from zoo.data._sound.parts import find_parts

__all__ = ["Block", "UnsupportedError", "claimed_seconds", "decoded"]

_BLOCK = 1 << 16  # samples of all channels, whatever a header says
# Of containers that `parts` does not know: libsndfile shortens a cut file to what is there, and only its log says so.
_CUT_NOTES = re.compile(
    r"(?:BODY|Length|Data length|data length)\s*:?\s*(?P<stated>\d+) \(?should be (?P<there>\d+)|seems to be truncated",
    re.IGNORECASE,
)
_EXACT = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")  # where seeking gives the samples that reading on would


class Block(NamedTuple):
    """Consecutive samples of a file.

    Attributes:
        sample_rate: Hz.
        first: The number of its first sample, in the file.
        values: (channels, samples) float32.
    """

    sample_rate: int
    first: int
    values: Tensor


class UnsupportedError(Exception):
    """There is no sound, or it changes on the way; the text says which."""


def decoded(file: BinaryIO, offset: float = 0.0) -> Iterator[Block]:
    """Decode a file from its beginning, or from nearer to an offset in seconds, to its end.

    libsndfile decodes what it knows (WAV, FLAC, Ogg, MP3, AIFF, …), FFmpeg the rest, and what libsndfile would not read
    to its end. Both leave out the silence that an MP3 encoder puts at both ends, where an index says how much it is;
    where that index is wrong, it is not used, and the silence stays, as in files without one.

    Yields:
        Consecutive blocks of one rate and number of channels, at least one, which may be empty.

    Raises:
        TruncatedError: There is less than the file says.
        UnsupportedError: There is no sound, or the parts of a joined file differ in rate or channels.
        Exception: Whatever the decoders raise.
    """
    parts = find_parts(Bytes(file))
    begun: Block | None = None
    before = 0
    for number, part in enumerate(parts):
        end = before
        for block in _of_part(file, part, offset if len(parts) == 1 else 0.0):
            begun = begun or block
            if _form(block) != _form(begun):
                where = f"part {number + 1} of {len(parts)} that were joined" if number else "a later part"
                raise UnsupportedError(
                    f"changes on the way: it begins with {_form(begun)}, and {where} has {_form(block)}. Split it, and "
                    "convert the parts"
                )
            end = before + block.first + block.values.shape[1]
            yield block._replace(first=before + block.first)
        before = end


def _form(block: Block) -> str:
    return f"{block.sample_rate} Hz and {len(block.values)} channel(s)"


def _of_part(file: BinaryIO, part: Part, offset: float) -> Iterator[Block]:
    import soundfile

    if part.decoder == "any":
        try:
            sound = _sequential(soundfile)(View(file, part.start, part.end))
        except soundfile.LibsndfileError:
            yield from _ffmpeg(file, part)
            return
        with sound:
            if part.samples is None or part.otherwise is None or sound.frames >= part.samples:
                yield from _libsndfile(sound, offset)
                return
            part = part.otherwise
    yield from _ffmpeg(file, part)


def _sequential(soundfile: Any) -> Any:
    class Sequential(soundfile.SoundFile):  # type: ignore[misc]
        """A sound file that is read from the beginning to the end.

        python-soundfile seeks after every read where it can, and libsndfile then fails for sound of unknown length and
        for some codecs. Where it would succeed, the samples are the same.
        """

        def seekable(self) -> bool:
            return False

    return Sequential


def _libsndfile(sound: Any, offset: float) -> Iterator[Block]:
    rate, count = int(sound.samplerate), 0
    if offset and (sound.format == "FLAC" or sound.subtype.startswith(_EXACT)):
        count = sound.seek(min(round(offset * rate), sound.frames))
    yield Block(rate, count, torch.zeros(sound.channels, 0))
    frames = max(1, _BLOCK // sound.channels)
    # Not more than there is: libsndfile would read on, and fail over a tag at the end of FLAC.
    while len(values := sound.read(min(frames, sound.frames - count), dtype="float32", always_2d=True)):
        yield Block(rate, count, torch.from_numpy(values.T).contiguous())
        count += len(values)
    log = sound.extra_info
    if (note := _CUT_NOTES.search(log)) and (note["stated"] is None or int(note["stated"]) > int(note["there"])):
        raise TruncatedError(f"libsndfile notes: {note[0].strip('* ')}")
    # The number of samples of MPEG sound is an estimate, and its frames have been looked at.
    if count < sound.frames and not sound.subtype.startswith("MPEG"):
        raise TruncatedError(f"its header states {sound.frames} samples, and {count} of them are there")


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


def _ffmpeg(file: BinaryIO, part: Part) -> Iterator[Block]:
    import av

    view = View(file, part.start, part.end)
    with av.open(view, "r", options={"protocol_whitelist": "none"}) as container:
        if not container.streams.audio:
            raise UnsupportedError("has no sound track")
        stream = container.streams.audio[0]
        to_float = av.AudioResampler(format="fltp")
        count, end = 0, 0.0
        begun: Any = None
        last: list[Any] = []
        for frame in _frames(container, stream, last):
            begun = begun or frame
            if (frame.sample_rate, frame.layout.nb_channels) != (begun.sample_rate, begun.layout.nb_channels):
                yield Block(frame.sample_rate, count, torch.zeros(frame.layout.nb_channels, 0))
            if frame.time is not None:
                end = frame.time + frame.samples / frame.sample_rate
            for piece in to_float.resample(frame):
                yield Block(begun.sample_rate, count, torch.from_numpy(piece.to_ndarray()))
                count += piece.samples
        for piece in to_float.resample(None) if begun else ():
            yield Block(begun.sample_rate, count, torch.from_numpy(piece.to_ndarray()))
            count += piece.samples
        if not part.is_checked and last and last[0].is_corrupt:
            raise TruncatedError("its last packet is not whole")
        claimed = claimed_seconds(container, stream)
        if claimed is not None and end < claimed - 0.1:
            raise TruncatedError(f"it has {end:.2f} s of sound, and its header says {claimed:.2f} s")
        if begun is None:
            yield Block(int(stream.rate), 0, torch.zeros(stream.channels, 0))


def _frames(container: Any, stream: Any, last: list[Any]) -> Iterator[Any]:
    """Yield what a stream holds; `last` has its last packet then."""
    for packet in container.demux(stream):
        if packet.size:
            last[:] = [packet]
        yield from packet.decode()
