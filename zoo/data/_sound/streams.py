"""Containers of broadcast, of games and of the early web, of which FFmpeg reads what is there, however much that is.

As in `chunks`, each function takes the file, where the container begins, and whether another one begins at a place.
"""

from __future__ import annotations

from zoo.data._sound.chunks import IsFile, after, missing
from zoo.data._sound.part import Bytes, Part, TruncatedError
from zoo.data._sound.rare import JUNK, sized

__all__ = [
    *("adx", "flash_movie", "gxf", "is_adx", "jpeg_movie", "nintendo", "nut", "program", "real_media", "recorded_tv"),
]

_NUT_INDEX = b"NX\xdd\x67\x2f\x23\xe6\x4e"


def nut(data: Bytes, start: int, is_file: IsFile) -> Part:
    """FFmpeg's NUT: packets without a count, and an index at the end that ends in its own size and a checksum."""
    following = data.find(data.at(start, 25), start + 25)
    end = data.size if following < 0 else following
    if data.at(end - data.big(end - 12, 8), 8) != _NUT_INDEX:
        raise TruncatedError("it does not end in an index")
    return Part(start, end, "ffmpeg")


def real_media(data: Bytes, start: int, is_file: IsFile) -> Part:
    """RealMedia: chunks that state their sizes; a stream leaves that of DATA open, and FFmpeg counts its head twice."""
    following = data.find(data.at(start, 8), start + 8)
    end = data.size if following < 0 else following
    position, size = start, 18
    while size >= 18 and data.at(position, 4).isascii() and position < end:
        size = data.big(position + 4, 4)
        if position + size - 18 > end:
            raise TruncatedError(missing(end - position, size))
        position += size
    return Part(start, end, "ffmpeg", is_checked=False)


def flash_movie(data: Bytes, start: int, is_file: IsFile) -> Part:
    """Adobe's SWF, not compressed: tags with sizes, of which the last is 0; the size in the head may be wrong."""
    position, tag = start + 8 + -(-(5 + 4 * (data.big(start + 8, 1) >> 3)) // 8) + 4, -1
    while tag:
        tag = data.little(position, 2)
        is_long = tag & 63 == 63
        size = 6 + data.little(position + 2, 4) if is_long else 2 + (tag & 63)
        if position + size > data.size or len(data.at(position, 2)) < 2:
            raise TruncatedError("it has no last tag")
        position += size
    return Part(start, after(data, position, is_file, JUNK, position - start), "ffmpeg")


def jpeg_movie(data: Bytes, start: int, is_file: IsFile) -> Part:
    """Loki's SMJPEG: chunks with sizes, of which the last is called DONE."""
    position, head = start + 16, 8
    while (name := data.at(position, 4)) != b"DONE":
        if name == b"HEND":  # from here on a time stands before each size
            position, head = position + 4, 12
            continue
        size = head + data.big(position + head - 4, 4)
        if not name or position + size > data.size:
            raise TruncatedError("it does not end in DONE")
        position += size
    return Part(start, after(data, position + 4, is_file, JUNK, position - start), "ffmpeg")


def is_adx(head: bytes) -> bool:
    """Tell CRI's ADX by a mark, and by the text in front of the sound, which lies elsewhere in each file."""
    return head[:2] == b"\x80\0" and head[4] in (2, 3, 4) and head[5:7] == b"\x12\4" and head[7] in range(1, 9)


def adx(data: Bytes, start: int, is_file: IsFile) -> Part:
    """CRI's ADX: a head that counts the samples, blocks of 32 of them in 18 bytes, and a block that ends them."""
    begin, samples = start + data.big(start + 2, 2) + 4, data.big(start + 12, 4)
    size = -(-samples // 32) * 18 * data.big(start + 7, 1)
    if not samples:  # written to a pipe
        size = 0
        while data.at(begin + size, 2) != b"\x80\1":
            size += 18
            if begin + size > data.size:
                raise TruncatedError("it has no last block")
    if begin + size > data.size:
        raise TruncatedError(missing(data.size - begin, size))
    end = begin + size
    if data.at(end, 2) == b"\x80\1":
        end = min(data.size, end + 4 + data.big(end + 2, 2))
    return Part(start, after(data, end, is_file, JUNK, size), "ffmpeg")


def nintendo(data: Bytes, start: int, is_file: IsFile) -> Part:
    """Nintendo's AST: a head of 64 bytes, and blocks, whose size together the head states."""
    return sized(data, start, start + 64, data.big(start + 4, 4), is_file)


def gxf(data: Bytes, start: int, is_file: IsFile) -> Part:
    """SMPTE's GXF: packets with sizes, of which the last says that it is."""
    position = start
    while data.at(position, 5) == b"\0\0\0\0\1":
        kind, size = data.big(position + 5, 1), data.big(position + 6, 4)
        if position + size > data.size or size < 16:
            raise TruncatedError(missing(data.size - position, size))
        position += size
        if kind == 0xFB:
            return Part(start, after(data, position, is_file, JUNK, position - start), "ffmpeg")
    raise TruncatedError("its last packet is not marked as the last one")


def program(data: Bytes, start: int, is_file: IsFile) -> Part:
    """MPEG program streams, as of DVDs: packs of packets with sizes; what ends at the border of two counts as whole."""
    position = start
    while data.at(position, 3) == b"\0\0\1":
        code = data.big(position + 3, 1)
        if code == 0xB9:
            size = 4
        elif code == 0xBA:
            is_second = data.big(position + 4, 1) & 0xC0 == 0x40
            size = 14 + (data.big(position + 13, 1) & 7) if is_second else 12
        else:
            size = 6 + data.big(position + 4, 2)
        if position + size > data.size:
            raise TruncatedError(f"its last packet has {data.size - position} of {size} bytes")
        position += size
    if 0 < data.size - position < 4 and b"\0\0\1".startswith(data.at(position, 3)[:3]):
        raise TruncatedError(f"its last packet has {data.size - position} bytes")
    return Part(start, data.size, "ffmpeg")


def recorded_tv(data: Bytes, start: int, is_file: IsFile) -> Part:
    """Microsoft's WTV: a file system in a file, of whose tables FFmpeg says if they are not there."""
    following = data.find(data.at(start, 32), start + 32)
    return Part(start, data.size if following < 0 else following, "ffmpeg", is_checked=False)
