"""Containers that are seldom met: what instruments, workstations and programs of their own kept, and old streams.

As in `chunks`, each function takes the file, where the container begins, and whether another one begins at a place.
Four of them state no length: their sound goes on to the end of the file, and whether that is all of it nobody can tell.
"""

from __future__ import annotations

from zoo.data._sound.chunks import IsFile, after, missing
from zoo.data._sound.part import Bytes, Part, TruncatedError

__all__ = [
    *("asf", "avr", "flash", "instrument", "ircam", "mat4", "mat5", "mpc2000", "paf", "psion", "pvf", "sox", "svx"),
    *("JUNK", "sized"),
]

JUNK = 0x1000
"""Bytes behind the sound that need no explanation."""

_MATLAB_WIDTH = {0: 8, 1: 4, 2: 4, 3: 2, 4: 2, 5: 1}


def sized(data: Bytes, start: int, begin: int, size: int, is_file: IsFile) -> Part:
    """Return the part whose sound begins at a place and has a size."""
    if begin + size > data.size:
        raise TruncatedError(missing(data.size - begin, size))
    return Part(start, after(data, begin + size, is_file, JUNK, size))


def _endless(data: Bytes, start: int, begin: int, frame: int) -> Part:
    """Return the part whose sound goes on to the end, or to where a file of the same kind begins."""
    following = data.find(data.at(start, min(64, begin - start)), begin)
    end = data.size if following < 0 else following
    if rest := (end - begin) % max(1, frame):
        raise TruncatedError(f"its last sample has {rest} of {frame} bytes")
    return Part(start, end)


def ircam(data: Bytes, start: int, is_file: IsFile) -> Part:
    """IRCAM's and Berkeley's SF: a head of 1024 bytes, and samples to the end."""
    number = data.little if data.at(start, 2) == b"\x64\xa3" else data.big
    return _endless(data, start, start + 1024, number(start + 8, 4) * (number(start + 12, 4) & 0xFFFF))


def paf(data: Bytes, start: int, is_file: IsFile) -> Part:
    """Ensoniq's PARIS: a head of 2048 bytes, and samples to the end; those of 24 bits come ten to 32 bytes."""
    number = data.big if data.at(start, 4) == b" paf" else data.little
    width = {0: 2, 1: 32, 2: 1}.get(number(start + 16, 4), 1)
    return _endless(data, start, start + 2048, number(start + 20, 4) * width)


def pvf(data: Bytes, start: int, is_file: IsFile) -> Part:
    """Portable Voice Format, of modems: a line of channels, rate and bits, and samples to the end."""
    line = data.at(start + 5, 64).partition(b"\n")[0]
    numbers = [int(word) for word in line.split() if word.isdigit()]
    channels, bits = (numbers[0], numbers[2]) if len(numbers) == 3 else (1, 8)
    return _endless(data, start, start + 5 + len(line) + 1, channels * bits // 8)


def instrument(data: Bytes, start: int, is_file: IsFile) -> Part:
    """FastTracker's XI: heads of samples that state sizes, which libsndfile leaves 0, and then all samples."""
    count = data.little(start + 296, 2)
    heads = [start + 298 + 40 * number for number in range(count)]
    size, begin = sum(data.little(head, 4) for head in heads), start + 298 + 40 * count
    if size == 0:
        is_wide = any(data.little(head + 14, 1) & 0x10 for head in heads)
        return _endless(data, start, begin, 2 if is_wide else 1)
    return sized(data, start, begin, size, is_file)


def avr(data: Bytes, start: int, is_file: IsFile) -> Part:
    """Audio Visual Research, of the Atari: a head of 128 bytes that counts the samples."""
    channels = 2 if data.big(start + 12, 2) else 1
    size = data.big(start + 26, 4) * channels * data.big(start + 14, 2) // 8
    return sized(data, start, start + 128, size, is_file)


def psion(data: Bytes, start: int, is_file: IsFile) -> Part:
    """Psion's WVE: a head of 32 bytes, and a byte a sample."""
    return sized(data, start, start + 32, data.big(start + 18, 4), is_file)


def mpc2000(data: Bytes, start: int, is_file: IsFile) -> Part:
    """Akai's SND: a head of 42 bytes that counts the samples, of 16 bits."""
    channels = 2 if data.little(start + 21, 1) else 1
    return sized(data, start, start + 42, 2 * channels * data.little(start + 30, 4), is_file)


def svx(data: Bytes, start: int, is_file: IsFile) -> Part:
    """Amiga's 8SVX and 16SV: chunks in a FORM that states the size of all."""
    size = data.big(start + 4, 4)
    return sized(data, start, start + 8, size + size % 2 if start + 8 + size < data.size else size, is_file)


def mat4(data: Bytes, start: int, is_file: IsFile) -> Part:
    """MATLAB 4: matrices one after the other, of which the second is the sound."""
    position, size = start, 0
    number = data.little if data.little(start + 16, 4) < 256 else data.big
    for _ in range(2):
        kind, rows, columns, name = (number(position + offset, 4) for offset in (0, 4, 8, 16))
        position += 20 + name
        size = rows * columns * _MATLAB_WIDTH.get(kind // 10 % 10, 1)
        if position + size > data.size:
            raise TruncatedError(missing(data.size - position, size))
        position += size
    return Part(start, after(data, position, is_file, JUNK, size))


def mat5(data: Bytes, start: int, is_file: IsFile) -> Part:
    """MATLAB 5: matrices of flags, dimensions, name and values; what libsndfile states as their size is 8 too much."""
    number = data.big if data.at(start + 126, 2) == b"MI" else data.little
    position, size, end = start + 128, 0, start + 128
    while number(position, 4) == 14 and len(data.at(position, 8)) == 8:
        inner = position + 8
        for _ in range(4):
            kind, size = number(inner, 4), number(inner + 4, 4)
            is_small = kind > 0xFFFF  # four bytes or fewer, in the head itself
            inner, end = (inner + 8, inner + 8) if is_small else (inner + 8 + size + -size % 8, inner + 8 + size)
        if end > data.size:
            raise TruncatedError(missing(data.size - (end - size), size))
        position = inner
    if not size:  # compressed, which libsndfile does not read
        return Part(start, data.size)
    return Part(start, after(data, min(position, data.size) if is_file(position) else end, is_file, JUNK, size))


def sox(data: Bytes, start: int, is_file: IsFile) -> Part:
    """SoX's own format: a head that counts the samples of all channels, of 32 bits."""
    number = data.little if data.at(start, 4) == b".SoX" else data.big
    return sized(data, start, start + number(start + 4, 4) + 4, 4 * number(start + 8, 8), is_file)


def asf(data: Bytes, start: int, is_file: IsFile) -> Part:
    """Microsoft's ASF, of which WMA is one: objects with sizes of 64 bits; a stream leaves that of the data open."""
    position, has_data = start, False
    while len(data.at(position, 24)) == 24 and not (position > start and is_file(position)):
        name, size = data.at(position, 4), data.little(position + 16, 8)
        is_data = name == b"\x36\x26\xb2\x75"
        if is_data and size == 0:
            break
        if not 24 <= size <= data.size - position:
            if has_data:  # an index, or something else
                break
            raise TruncatedError(missing(data.size - position, size))
        has_data = has_data or is_data
        position += size
    if not has_data:
        following = data.find(data.at(start, 16), start + 16)
        return Part(start, data.size if following < 0 else following)
    return Part(start, after(data, position, is_file, JUNK, position - start))


def flash(data: Bytes, start: int, is_file: IsFile) -> Part:
    """Adobe's FLV: tags that state their sizes, each followed by the same again."""
    position = start + data.big(start + 5, 4) + 4
    while data.big(position, 1) & 0x1F in (8, 9, 18):  # sound, pictures, facts, perhaps encrypted
        size = 11 + data.big(position + 1, 3) + 4
        if position + size > data.size:
            raise TruncatedError(f"its last tag has {data.size - position} of {size} bytes")
        position += size
    return Part(start, after(data, position, is_file, JUNK, position - start))
