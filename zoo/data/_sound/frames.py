"""Formats that are rows of frames: MPEG sound (MP3), ADTS (AAC), AC-3, MPEG transport streams, Ogg, FLAC."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass

from zoo.data._sound.part import Bytes, Part, TruncatedError

__all__ = ["flac", "mpeg_parts", "ogg", "skip_tags"]

# kbit/s of MPEG-1 layers I, II, III, and of MPEG-2 and 2.5 layers I, then II and III (ISO 11172-3, 13818-3).
_KILOBITS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_KILOBITS[2, 3] = _KILOBITS[2, 2]
_AC3_KILOBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_TAIL = 1 << 22
_BEGINNING = re.compile(rb"\xff[\xe0-\xff]|\x0bw|ID3|APETAGEX|TAG")


@dataclass(frozen=True)
class _Frame:
    """A frame by its head.

    Args:
        kind: What all frames of a stream have in common.
        size: Bytes.
        samples: Samples in each channel; 0 for formats whose decoders find all frames.
    """

    kind: tuple[object, ...]
    size: int
    samples: int = 0


@dataclass
class _Stream:
    """An MPEG stream: a row of frames, perhaps with an index in front that counts them."""

    start: int
    sound: int  # where its first frame with sound is
    kind: tuple[object, ...]
    stated: int | None = None
    frames: int = 0
    samples: int = 0
    end: int = 0

    def part(self) -> Part:
        """Return the part from the tags in front to the last frame, if its index counts no more than there is."""
        # Some encoders count the index itself.
        if self.stated is not None and self.frames < self.stated - 1:
            raise TruncatedError(f"its index counts {self.stated} frames, and {self.frames} of them are there")
        if self.stated is not None and self.frames > self.stated:
            # A decoder would stop, or leave out what it takes for the encoder's padding, in the middle of the sound.
            return Part(self.sound, self.end, "ffmpeg")
        if self.stated is not None or not self.samples:
            return Part(self.start, self.end)
        return Part(self.start, self.end, samples=self.samples, otherwise=Part(self.sound, self.end, "ffmpeg"))


def mpeg_parts(data: Bytes) -> list[Part]:
    """Return the streams of MPEG sound, ADTS or AC-3, with their tags; none if it is nothing of the kind.

    An index (Xing, Info or VBRI) or an ID3v2 tag begins a new stream: each piece of a joined file was made to be a file
    of its own, and is decoded as such, without the silence that an encoder puts at both of its ends.

    Raises:
        TruncatedError: The last frame is cut, or an index counts more frames than there are.
    """
    if data.at(0, 1) == data.at(188, 1) == b"G" or data.at(4, 1) == data.at(196, 1) == b"G":
        return _transport_stream(data)
    streams: list[_Stream] = []
    position, tags, limit = 0, 0, min(data.size, 1 << 16)
    while position < data.size:
        tag = _tag_size(data, position)
        if tag:
            is_head = data.at(position, 3) == b"ID3"
            tags = position if is_head and tags < 0 else tags
            position += tag
            limit = min(data.size, position + (1 << 16)) if not streams else limit
            continue
        frame = _mpeg_frame(data.at(position, 7))
        is_new = not streams or (frame is not None and frame.kind != streams[-1].kind)
        if frame is None or (is_new and not _follows(data, position, frame)):
            position = _next_frame(data, position + 1, data.size if streams else limit)
            if position < 0:
                break
            continue
        if position + frame.size > data.size:
            raise TruncatedError(f"its last frame has {data.size - position} of {frame.size} bytes")
        is_index, stated = _index(data.at(position, 200)) if frame.samples else (False, None)
        if is_new or tags >= 0 or (is_index and streams[-1].frames):
            streams.append(_Stream(position if tags < 0 else tags, position, frame.kind))
        stream = streams[-1]
        if is_index:
            stream.stated, stream.sound = stated, position + frame.size
        else:
            stream.frames += 1
            stream.samples += frame.samples
        tags, position = -1, position + frame.size
        stream.end = position
    if not streams:
        return []
    rest = data.at(streams[-1].end, 4)
    if 0 < len(rest) < 4 and rest[0] == 0xFF:
        raise TruncatedError(f"its last frame has {len(rest)} bytes")
    parts = [stream.part() for stream in streams]
    return [dataclasses.replace(parts[0], start=0) if parts[0].decoder == "any" else parts[0], *parts[1:]]


def ogg(data: Bytes, start: int, is_file: Callable[[int], bool]) -> Part:
    """Ogg: pages that say where a logical stream begins and ends; what begins after others have ended is a new file."""
    position, begun, open_streams = start, False, set[bytes]()
    while len(head := data.at(position, 27)) == 27 and head[:4] == b"OggS":
        sizes = data.at(position + 27, head[26])
        size = 27 + head[26] + sum(sizes)
        serial, is_first, is_last = head[14:18], bool(head[5] & 2), bool(head[5] & 4)
        if is_first and begun:
            break
        begun = begun or not is_first
        if len(sizes) < head[26] or position + size > data.size:
            raise TruncatedError(f"its last page has {data.size - position} of at least {size} bytes")
        open_streams.add(serial)
        if is_last:
            open_streams.discard(serial)
        position += size
    else:
        following = data.find(b"OggS", position)
        if 0 < data.size - position < 27 and b"OggS".startswith(data.at(position, 4)):
            raise TruncatedError(f"its last page has {data.size - position} bytes")
        if following > position and _is_page(data, following):
            raise TruncatedError(f"{following - position} bytes that are no page lie in the middle of it")
    if open_streams:
        raise TruncatedError("its last page is not marked as the last one")
    return Part(start, position)


def flac(data: Bytes, start: int, is_file: Callable[[int], bool]) -> Part:
    """FLAC: a head that counts the samples, or says 0 where that was not known, and frames that number themselves."""
    end = start
    while (end := data.find(b"fLaC", end + 4)) >= 0 and data.at(end + 4, 4) not in (b"\0\0\0\x22", b"\x80\0\0\x22"):
        pass
    end = data.size if end < 0 else end
    stated = data.big(start + 21, 5) & (1 << 36) - 1
    if stated and _flac_samples(data, start, end) <= stated:
        return Part(start, end)
    return Part(start, end, "ffmpeg")


def skip_tags(data: Bytes, position: int) -> int:
    """Return where the tags end that begin at a place."""
    while size := _tag_size(data, position):
        position += size
    return position


def _tag_size(data: Bytes, position: int) -> int:
    head = data.at(position, 32)
    if head[:3] == b"ID3" and len(head) >= 10:  # four bytes of seven bits; a tag may have a foot
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        return 10 + size + (10 if head[5] & 0x10 else 0)
    if head[:8] == b"APETAGEX" and len(head) == 32:
        return 32 + (int.from_bytes(head[12:16], "little") if head[23] & 0x20 else 0)
    if head[:3] == b"TAG":
        return 227 if head[3:4] == b"+" else 128
    return 0


def _mpeg_frame(head: bytes) -> _Frame | None:
    if len(head) < 6:
        head = head.ljust(7, b"\0")
    if head[0] == 0x0B and head[1] == 0x77:
        return _ac3_frame(head)
    if head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    layer = 4 - (head[1] >> 1 & 3)
    if layer == 4:
        size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        return _Frame(("adts", head[2] & 0x3C), size) if head[1] & 0xF0 == 0xF0 and size >= 7 else None
    version, bits, rate = {3: 1, 2: 2, 0: 4}.get(head[1] >> 3 & 3), head[2] >> 4, head[2] >> 2 & 3
    if version is None or not 0 < bits < 15 or rate == 3:
        return None  # of these, a free bit rate alone may be sound: it is left to the decoder
    low = 1 if version == 1 else 2
    hertz = (44100, 48000, 32000)[rate] // version
    samples = 384 if layer == 1 else 576 if layer == 3 and low == 2 else 1152
    padding = head[2] >> 1 & 1
    kilobits = _KILOBITS[low, layer][bits - 1]
    if layer == 1:
        size = (12_000 * kilobits // hertz + padding) * 4
    else:
        size = samples // 8 * 1000 * kilobits // hertz + padding
    return _Frame(("mpeg", version, layer, hertz), size, samples)


def _ac3_frame(head: bytes) -> _Frame | None:
    if head[5] >> 3 > 10:  # E-AC-3 states the size itself
        return _Frame(("eac3", head[4] >> 6), 2 * ((head[2] & 7) << 8 | head[3]) + 2)
    rate, code = head[4] >> 6, head[4] & 0x3F
    if rate == 3 or code >= 2 * len(_AC3_KILOBITS):
        return None
    kilobits = _AC3_KILOBITS[code // 2]
    words = (2 * kilobits, 320 * kilobits // 147 + code % 2, 3 * kilobits)[rate]
    return _Frame(("ac3", rate), 2 * words)


def _follows(data: Bytes, position: int, frame: _Frame) -> bool:
    """Tell whether three frames of a kind stand here one after the other, as junk would hardly have them."""
    for _ in range(2):
        position += frame.size
        if position == data.size:
            return True
        following = _mpeg_frame(data.at(position, 7))
        if following is None or following.kind != frame.kind:
            return False
        frame = following
    return True


def _next_frame(data: Bytes, position: int, limit: int) -> int:
    """Return where frames or a tag begin after junk, or -1 if nowhere before `limit`."""
    while position < limit:
        for found in _BEGINNING.finditer(data.at(position, (1 << 16) + 8)):
            at = position + found.start()
            frame = _mpeg_frame(data.at(at, 7))
            if at < limit and ((frame is not None and _follows(data, at, frame)) or _tag_size(data, at)):
                return at
        position += 1 << 16
    return -1


def _index(frame: bytes) -> tuple[bool, int | None]:
    """Tell whether a frame is an index, and the number of frames that it counts, if it does."""
    for name in (b"Xing", b"Info"):
        at = frame.find(name, 4, 44)
        if at > 0:
            counts = frame[at + 7] & 1
            return True, int.from_bytes(frame[at + 8 : at + 12], "big") if counts else None
    if frame[36:40] == b"VBRI":
        return True, int.from_bytes(frame[50:54], "big")
    return False, None


def _transport_stream(data: Bytes) -> list[Part]:
    """Look whether the last packet of each sound stream is whole; only the end is looked at."""
    width, first = (188, 0) if data.at(0, 1) == data.at(188, 1) == b"G" else (192, 4)
    if data.at(first + 2 * width, 1) not in (b"G", b""):
        return []
    rest = data.size % width
    if rest and data.at(data.size - rest + first, 1) in (b"G", b""):
        raise TruncatedError(f"its last packet has {rest} of {width} bytes")
    begin = max(0, data.size - _TAIL) // width * width
    tail, missing = data.at(begin, _TAIL + width), dict[int, int]()
    for at in range(first, len(tail), width):
        packet = tail[at : at + 188]
        if len(packet) < 188 or packet[0] != 0x47:
            continue
        program, control = int.from_bytes(packet[1:3], "big") & 0x1FFF, packet[3] >> 4 & 3
        content = packet[5 + packet[4] :] if control == 3 else packet[4:] if control == 1 else b""
        if packet[1] & 0x40 and content[:3] == b"\0\0\1":
            stated = int.from_bytes(content[4:6], "big")
            is_sound = content[3] & 0xE0 == 0xC0 or content[3] == 0xBD
            missing[program] = 6 + stated - len(content) if stated and is_sound else 0
        elif program in missing:
            missing[program] -= len(content)
    if any(count > 0 for count in missing.values()):
        raise TruncatedError(f"{max(missing.values())} bytes of its last packet of sound are missing")
    end = data.size - rest
    while end > width and data.at(end - width + first, 1) != b"G":
        end -= width
    return [Part(0, end)]


def _is_page(data: Bytes, position: int) -> bool:
    head = data.at(position, 27)
    return len(head) == 27 and head[4] == 0 and head[5] < 8


def _flac_samples(data: Bytes, start: int, end: int) -> int:
    """Return where the last frame of a FLAC stream ends, by its own number; 0 if none is found."""
    block = data.big(start + 10, 2)  # the largest; all have it, but the last, where frames are numbered
    begin = max(start + 42, end - (1 << 20))
    tail = data.at(begin, end - begin)
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        if tail[at + 1 : at + 2] in (b"\xf8", b"\xf9") and (found := _flac_frame(tail[at : at + 16], block)):
            return found
    return 0


def _flac_frame(head: bytes, block: int) -> int | None:
    """Return the sample that follows a frame, or None if this is not the head of one (RFC 9639, section 9.1)."""
    if len(head) < 7 or head[2] >> 4 == 0 or head[2] & 15 == 15 or head[3] & 1:
        return None
    width = 1 if head[4] < 0x80 else 8 - (head[4] ^ 0xFF).bit_length()
    if not (width == 1 or 2 <= width <= 7) or any(byte & 0xC0 != 0x80 for byte in head[5 : 4 + width]):
        return None
    number = head[4] if width == 1 else head[4] & (1 << 7 - width) - 1
    for byte in head[5 : 4 + width]:
        number = number << 6 | byte & 0x3F
    at, code = 4 + width, head[2] >> 4
    if code in (6, 7):
        samples = int.from_bytes(head[at : at + code - 5], "big") + 1
        at += code - 5
    else:
        samples = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
    at += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if len(head) <= at or _crc8(head[:at]) != head[at]:
        return None
    return (number if head[1] & 1 else number * block) + samples


def _crc8(values: bytes) -> int:
    register = 0
    for value in values:
        register ^= value
        for _ in range(8):
            register = (register << 1 ^ 0x07 if register & 0x80 else register << 1) & 0xFF
    return register
