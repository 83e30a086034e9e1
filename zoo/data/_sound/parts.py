"""Which sound files a file holds, by what its bytes begin with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from zoo.data._sound import chunks, frames, rare, streams
from zoo.data._sound.part import Bytes, Part

__all__ = ["find_parts"]

_W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_EBML = bytes.fromhex("1a45dfa3")
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_WTV = bytes.fromhex("b7d800203749da11a64e0007e95ead8d")
_IRCAM = {bytes(form) for kind in range(1, 5) for form in ((0x64, 0xA3, kind, 0), (0, kind, 0xA3, 0x64))}
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")

Walker = Callable[[Bytes, int, Callable[[int], bool]], Part]


def find_parts(data: Bytes) -> list[Part]:
    """Return the sound files that a file holds one after the other, mostly one.

    Files are joined by appending one to another, as servers do that send speech piece by piece; MPEG, Ogg and FLAC are
    made for it, and players play all of it. Decoders stop after the first, each at its own discretion.

    Raises:
        TruncatedError: The container says that there is more than there is, or there is more sound than it says and
            no way to read it.
    """
    parts: list[Part] = []
    position = frames.skip_tags(data, 0)
    if _walker(data, position) is not frames.flac:  # the only one of these to which programs add MP3's tags
        position = 0
    while position < data.size:
        walk = _walker(data, position)
        if walk is None:
            break
        part = walk(data, position, lambda start: _walker(data, start) is not None)
        if part.end <= position:  # a head, and nothing behind it
            break
        parts.append(part)
        position = part.end
    if parts:
        return [dataclasses.replace(parts[0], start=0), *parts[1:]]
    # Of other formats (or of MPEG frames after some junk) a decoder alone says what there is.
    return frames.mpeg_parts(data) or [Part(0, data.size, is_checked=False)]


def _walker(data: Bytes, start: int) -> Walker | None:
    head = data.at(start, 40)
    form = head[8:12]
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return {b"WAVE": chunks.wave, b"AVI ": chunks.avi}.get(form)
    if head[:4] == b"FORM":
        return {b"AIFF": chunks.aiff, b"AIFC": chunks.aiff, b"8SVX": rare.svx, b"16SV": rare.svx}.get(form)
    if head[20:30] == b"samplerate":
        return rare.mat4
    if head[:2] == b"\1\4" and all(0x20 <= byte < 0x7F or byte == 0 for byte in head[2:19]):
        return rare.mpc2000
    if head[:4] in _IRCAM:
        return rare.ircam
    if head[:2] == b"\xf0\x7e" and head[3:4] == b"\1":
        return chunks.sample_dump
    if streams.is_adx(head):
        return streams.adx
    for magic, walk in _MAGIC.items():
        if head.startswith(magic):
            return walk
    return chunks.boxes if head[4:8] in _BOXES else None


_MAGIC: dict[bytes, Walker] = {
    _W64: chunks.wave_64,
    b"caff": chunks.core_audio,
    b".snd": chunks.sun,
    b"Creative Voice File\x1a": chunks.voice,
    b"NIST_1A\n": chunks.nist,
    _EBML: chunks.matroska,
    b"OggS": frames.ogg,
    b"fLaC": frames.flac,
    b" paf": rare.paf,
    b"fap ": rare.paf,
    b"PVF1\n": rare.pvf,
    b"Extended Instrument: ": rare.instrument,
    b"2BIT": rare.avr,
    b"ALawSoundFile**": rare.psion,
    b"MATLAB 5.0 MAT-file": rare.mat5,
    b".SoX": rare.sox,
    b"XoS.": rare.sox,
    _ASF: rare.asf,
    b"FLV\1": rare.flash,
    b"nut/multimedia container\0": streams.nut,
    b".RMF": streams.real_media,
    b"FWS": streams.flash_movie,
    b"\0\nSMJPEG": streams.jpeg_movie,
    b"STRM": streams.nintendo,
    b"\0\0\0\0\1\xbc": streams.gxf,
    b"\0\0\1\xba": streams.program,
    _WTV: streams.recorded_tv,
}
