"""Containers of chunks that state their sizes: WAV, AVI, AIFF, W64, CAF, AU, VOC, NIST, MP4, Matroska.

Each function takes the file, where the container begins, and whether another one begins at a place; it returns the
part up to the next container or the end of the file, or raises `TruncatedError`. Only the sound has to be whole: a size
that counts for nothing, such as that of the outer chunk, may be wrong, and often is.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from zoo.data._sound.part import Bytes, Part, TruncatedError

__all__ = [
    *("aiff", "avi", "boxes", "core_audio", "matroska", "nist", "sample_dump", "sun", "voice", "wave", "wave_64"),
    *("IsFile", "after", "missing"),
]

IsFile = Callable[[int], bool]

# A writer that could not seek back leaves 2 or 4 GiB, less what it has written before.
_UNKNOWN = 0x7FFFFFFF - 4096
# What follows the sound and belongs to nothing is junk if it is short, or nothing but zeros, or a known tag. If it is
# longer, the stated size is too small: the header of a recording is rewritten now and then, or by the wrong program.
_JUNK_SECONDS = 0.1
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN", b"3DI")
_GUID = 16
# What a Matroska file has at its top, in a segment, and in a cluster (RFC 9559).
_ELEMENTS = {
    *(0x1A45DFA3, 0x18538067, 0xEC, 0xBF),
    *(0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1F43B675, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367),
    *(0xE7, 0x5854, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF),
}


def wave(data: Bytes, start: int, is_file: IsFile) -> Part:
    """RIFF, RIFX, RF64 and BW64 with WAVE: the sound is in `data`, whose size is in `ds64` for the latter two."""
    kind = data.at(start, 4)
    number = data.big if kind == b"RIFX" else data.little
    position, first, sizes = start + 12, 0, 0
    byte_rate, wide = 0, 0
    while True:
        name, size, body = data.at(position, 4), number(position + 4, 4), position + 8
        if not _is_name(name) or len(data.at(position, 8)) < 8:
            break
        if name == b"fmt ":
            byte_rate = number(body + 8, 4)
        elif name == b"ds64":
            wide = data.little(body + 8, 8)
        elif name == b"data":
            sizes += 1
            size = wide if kind in (b"RF64", b"BW64") and size == 0xFFFFFFFF else size
            if size == 0 and body < data.size and not _ends_in_chunks(data, body, number):
                # 0 is what is left where a writer stopped before it wrote the size, or wrote to a pipe.
                if wide == 0 and kind in (b"RF64", b"BW64"):
                    raise TruncatedError(missing(data.size - body, 0))
                return Part(start, _next_wave(data, body), "ffmpeg")
            if body + size > data.size:
                if size >= _UNKNOWN:
                    return Part(start, _next_wave(data, body))
                raise TruncatedError(missing(data.size - body, size))
            if sizes > 1:
                raise TruncatedError(f"it has another chunk of {size} bytes of sound, which no decoder here reads")
            first = size
        elif body + size > data.size:
            break
        position = body + size
        if is_file(position):
            break
        # Chunks begin at even places; some writers forget to.
        if size % 2 and not (_is_name(data.at(position, 4)) and not _is_name(data.at(position + 1, 4))):
            position += 1
        if is_file(position):
            break
    if not sizes:
        return Part(start, data.size)
    return Part(start, after(data, position, is_file, byte_rate * _JUNK_SECONDS, first))


def avi(data: Bytes, start: int, is_file: IsFile) -> Part:
    """RIFF with AVI: lists of up to 1 GiB, the later ones called AVIX, one after the other."""
    position = start
    while data.at(position, 4) == b"RIFF" and (position == start or data.at(position + 8, 4) == b"AVIX"):
        size = data.little(position + 4, 4)
        if size == 0 or size >= _UNKNOWN:
            return Part(start, data.size)
        if position + 8 + size > data.size:
            raise TruncatedError(missing(data.size - position - 8, size))
        position += 8 + size + size % 2
    return Part(start, min(position, data.size))


def aiff(data: Bytes, start: int, is_file: IsFile) -> Part:
    """FORM with AIFF or AIFC: the sound is in SSND. COMM states a number of samples, which libsndfile ignores."""
    position, first, byte_rate = start + 12, None, 0.0
    while True:
        name, size, body = data.at(position, 4), data.big(position + 4, 4), position + 8
        if not _is_name(name) or len(data.at(position, 8)) < 8:
            break
        if name == b"COMM":
            channels, bits = data.big(body, 2), data.big(body + 6, 2)
            byte_rate = channels * bits / 8 * _extended(data.at(body + 8, 10))
        elif name == b"SSND":
            if body + size > data.size:
                if size >= _UNKNOWN:
                    return Part(start, data.size)
                raise TruncatedError(missing(data.size - body, size))
            first = max(0, size - 8)
        elif body + size > data.size:
            break
        position = body + size + size % 2
        if first is not None and is_file(position):
            break
    if first is None:
        return Part(start, data.size)
    return Part(start, after(data, position, is_file, byte_rate * _JUNK_SECONDS, first))


def wave_64(data: Bytes, start: int, is_file: IsFile) -> Part:
    """Sony's Wave64: as WAV, with names of 16 bytes, sizes of 64 bits that count the head, places divisible by 8."""
    position, end, sound, byte_rate = start + _GUID + 8 + _GUID, 0, 0, 0
    while len(data.at(position, _GUID + 8)) == _GUID + 8:
        name, size = data.at(position, 4), data.little(position + _GUID, 8)
        if not _is_name(name) or size < _GUID + 8:
            break
        if name == b"fmt ":
            byte_rate = data.little(position + _GUID + 8 + 8, 4)
        if position + size > data.size:
            if name != b"data":
                break
            if size >= _UNKNOWN:
                return Part(start, data.size)
            raise TruncatedError(missing(data.size - position, size))
        sound = size - _GUID - 8 if name == b"data" else sound
        position += size
        end = position  # libsndfile takes padding behind it for sound
        if is_file(position):
            break
        position += -size % 8
        if is_file(position):
            break
    if not sound:
        return Part(start, data.size)
    following = after(data, position, is_file, byte_rate * _JUNK_SECONDS, sound)
    return Part(start, following if is_file(following) else end)


def core_audio(data: Bytes, start: int, is_file: IsFile) -> Part:
    """Apple's CAF: 64-bit sizes, -1 for a last chunk that goes to the end of the file."""
    position, sound = start + 8, 0
    while len(data.at(position, 12)) == 12:
        name, size = data.at(position, 4), int.from_bytes(data.at(position + 4, 8), "big", signed=True)
        if is_file(position) or not _is_name(name):
            break
        if size < 0:
            return Part(start, data.size)
        if position + 12 + size > data.size:
            if name == b"data" or not sound:
                raise TruncatedError(missing(data.size - position - 12, size))
            break
        sound = size if name == b"data" else sound
        position += 12 + size
    if not sound:
        return Part(start, data.size)
    return Part(start, after(data, position, is_file, 0x1000, sound))


def sun(data: Bytes, start: int, is_file: IsFile) -> Part:
    """Sun's and NeXT's AU: a head, then sound, whose size is all ones where it is unknown."""
    begin, size = start + data.big(start + 4, 4), data.big(start + 8, 4)
    if size == 0xFFFFFFFF:
        return Part(start, data.size)
    if begin + size > data.size:
        raise TruncatedError(missing(data.size - begin, size))
    return Part(start, after(data, begin + size, is_file, 0x1000, size))


def voice(data: Bytes, start: int, is_file: IsFile) -> Part:
    """Creative's VOC: blocks of a type and a size of 24 bits; type 0 ends the file."""
    position, sounds = start + data.little(start + 20, 2), 0
    while (kind := data.at(position, 1)) not in (b"", b"\0"):
        size = data.little(position + 1, 3)
        # Types 1 and 9 begin a sound, 2 goes on with it.
        sounds += kind in (b"\1", b"\2", b"\t")
        if len(data.at(position, 4)) < 4 or position + 4 + size > data.size:
            raise TruncatedError(missing(data.size - position - 4, size))
        position += 4 + size
    return Part(start, min(position + 1, data.size), "ffmpeg" if sounds > 1 else "any")


def nist(data: Bytes, start: int, is_file: IsFile) -> Part:
    """NIST's SPHERE: a head of text that counts the samples."""
    lines = data.at(start, 1024).split(b"\n")
    head = int(lines[1]) if len(lines) > 1 and lines[1].strip().isdigit() else 1024
    text = data.at(start, min(head, 1 << 16)).decode("ascii", "replace")
    found = {name: int(value) for name, value in re.findall(r"^(\w+) -[is]\d* (\d+)\s*$", text, re.MULTILINE)}
    coding = re.search(r"^sample_coding -s\d+ (\S+)", text, re.MULTILINE)
    if (coding and "embedded" in coding[1]) or not {"sample_count", "sample_n_bytes"} <= set(found):
        return Part(start, data.size)
    size = found["sample_count"] * found["sample_n_bytes"] * found.get("channel_count", 1)
    if start + head + size > data.size:
        raise TruncatedError(missing(data.size - start - head, size))
    rate = found.get("sample_rate", 0) * found["sample_n_bytes"] * found.get("channel_count", 1)
    return Part(start, after(data, start + head + size, is_file, rate * _JUNK_SECONDS, size))


def boxes(data: Bytes, start: int, is_file: IsFile) -> Part:
    """MP4, M4A and MOV: boxes, of which `moov` describes and `mdat` holds; a second `ftyp` after them is a new file."""
    position, has_description = start, False
    while len(data.at(position, 8)) == 8:
        name, size, head = data.at(position + 4, 4), data.big(position, 4), 8
        if not _is_name(name):
            break
        if size == 1:
            size, head = data.big(position + 8, 8), 16
        if size == 0:  # to the end of the file
            return Part(start, data.size)
        if size < head:
            break
        if name == b"ftyp" and has_description:
            return Part(start, position)
        has_description = has_description or name == b"moov"
        if position + size > data.size:
            if name in (b"moov", b"moof", b"mdat"):
                raise TruncatedError(missing(data.size - position, size))
            break
        position += size
    return Part(start, data.size)


def matroska(data: Bytes, start: int, is_file: IsFile) -> Part:
    """Matroska and WebM: elements in elements. What is recorded live leaves the sizes of the outer two open."""
    ebml, segment = 0x1A45DFA3, 0x18538067
    position = start
    while position < data.size:
        found = _element(data, position)
        if found is None or found[0] not in _ELEMENTS:
            rest = data.at(position, 12)
            if (
                found is None
                and len(rest) < 12
                and any(rest[:4] == n.to_bytes(4, "big").lstrip(b"\0")[: len(rest)] for n in _ELEMENTS)
            ):
                raise TruncatedError(f"its last element has {len(rest)} bytes")
            break
        name, size, body = found
        if name == ebml and position > start:
            return Part(start, position)
        if size is None or name == segment:
            if size is not None and body + size > data.size:
                raise TruncatedError(missing(data.size - body, size))
            position = body
            continue
        if body + size > data.size:
            raise TruncatedError(missing(data.size - body, size))
        position = body + size
    return Part(start, min(position, data.size))


def sample_dump(data: Bytes, start: int, is_file: IsFile) -> Part:
    """MIDI's SDS: packets of 127 bytes, 120 of which hold samples of two to four bytes of seven bits."""
    head = data.at(start, 21)
    if len(head) == 21:
        width, samples = -(-head[6] // 7), head[10] | head[11] << 7 | head[12] << 14
        size = 21 + 127 * -(-samples * max(2, width) // 120)
        if start + size > data.size:
            raise TruncatedError(missing(data.size - start, size))
        return Part(start, after(data, start + size, is_file, 0x1000, size))
    return Part(start, data.size)


def _element(data: Bytes, position: int) -> tuple[int, int | None, int] | None:
    """Return an element's name, its size or None if unknown, and where its content begins."""
    head = data.at(position, 12)
    if len(head) < 2 or head[0] < 0x10:
        return None
    width = 9 - head[0].bit_length()
    if len(head) <= width or head[width] == 0:
        return None
    count = 9 - head[width].bit_length()
    mask = (1 << 7 * count) - 1
    size = int.from_bytes(head[width : width + count], "big") & mask
    return int.from_bytes(head[:width], "big"), None if size == mask else size, position + width + count


def after(data: Bytes, position: int, is_file: IsFile, junk: float, stated: int) -> int:
    """Return the end of this file, without junk behind it; refuse sound that no chunk states."""
    if is_file(position):
        return position
    rest = data.size - position
    if rest <= junk or data.at(position, 16).lstrip(b"\0 ").startswith(_TAGS) or _is_zero(data, position):
        return min(position, data.size)
    raise TruncatedError(
        f"its header states {stated} bytes of sound, and after what it states {rest} more bytes follow that it does "
        "not account for"
    )


def _next_wave(data: Bytes, position: int) -> int:
    """Return where another WAV file begins in sound of unknown size, as servers send them; the end if none does."""
    while (position := data.find(b"WAVEfmt ", position)) >= 0:
        if data.at(position - 8, 4) == b"RIFF":
            return position - 8
        position += 8
    return data.size


def _ends_in_chunks(data: Bytes, position: int, number: Callable[[int, int], int]) -> bool:
    """Tell whether nothing but whole chunks follow."""
    while position < data.size:
        if not _is_name(data.at(position, 4)) or len(data.at(position, 8)) < 8:
            return False
        size = number(position + 4, 4)
        position += 8 + size + size % 2
    return position <= data.size + 1


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in name) and name != b"    "


def _is_zero(data: Bytes, position: int) -> bool:
    return all(not data.at(place, 1 << 20).strip(b"\0") for place in range(position, data.size, 1 << 20))


def _extended(value: bytes) -> float:
    """Return a float of 80 bits, as AIFF has its rate, where it is one of sound."""
    exponent = int.from_bytes(value[:2], "big") - 16383 - 63
    return int.from_bytes(value[2:], "big") * 2.0**exponent if -63 <= exponent < 0 else 0.0


def missing(present: int, stated: int) -> str:
    return f"its header states {stated} bytes of sound, and {max(0, present)} bytes are there"
