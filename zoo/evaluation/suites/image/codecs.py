"""JPEG and WebP of at most so many bits: what anybody gets for the bits that tokens take.

Of a file only what a decoder could not know counts. JPEG's tables follow from its quality, and its file is far more of
tables than of picture where there are so few bits: counted are the entropy-coded data and five bytes for quality and
size. Of WebP the whole VP8 bitstream is counted, which has its size and quantizers in it. Containers are not counted.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.data._image import checked_8_bit, from_8_bit, resize
from zoo.errors import InputError

__all__ = ["CODECS", "Codec", "Coded", "encode_within", "sides"]

_JPEG_FACTS = 5  # bytes: quality, height, width
_SCAN, _STUFFED = 0xDA, 2
_STEP = 2**-0.5  # of one size to the next
_WORSE = 2  # so many sizes in a row that are worse end the search


@dataclass(frozen=True)
class Codec:
    """A format, of pictures or of clips.

    Args:
        title: For people.
        options: How it is written.
        qualities: The least and the greatest.
        payload: Bytes of a file that count.
        encode: Makes a file of pixels (3, …, H, W) in 0…1 at a quality.
        decode: Makes pixels of it again.
        multiple: What height and width are a multiple of, but for those of the original.
        least_side: Pixels of the shortest side that it is tried at.
    """

    title: str
    options: Mapping[str, object]
    qualities: tuple[int, int]
    payload: Callable[[bytes], int]
    encode: Callable[[Tensor, int], bytes]
    decode: Callable[[bytes], Tensor]
    multiple: int = 1
    least_side: int = 1


@dataclass(frozen=True)
class Coded:
    """A picture or clip as a codec makes it.

    Args:
        pixels: (3, …, H, W) in 0…1, as large as the original.
        bits: That count.
        file_bits: Of the whole file.
        size: Height and width that it was coded at.
        quality: The codec's.
    """

    pixels: Tensor
    bits: int
    file_bits: int
    size: tuple[int, int]
    quality: int


def _jpeg_payload(file: bytes) -> int:
    """Return the bytes of a baseline JPEG's only scan, and of the facts that its decoder needs."""
    place = 2
    while True:
        length = int.from_bytes(file[place + 2 : place + 4], "big")
        if file[place + 1] == _SCAN:
            return len(file) - (place + 2 + length) - _STUFFED + _JPEG_FACTS
        place += 2 + length


def _webp_payload(file: bytes) -> int:
    """Return the bytes of a WebP's VP8 bitstream."""
    place = 12
    while file[place : place + 4] != b"VP8 ":
        length = int.from_bytes(file[place + 4 : place + 8], "little")
        place += 8 + length + length % 2
    return int.from_bytes(file[place + 4 : place + 8], "little")


def _pillow(
    title: str, options: Mapping[str, object], qualities: tuple[int, int], payload: Callable[[bytes], int]
) -> Codec:
    def encode(pixels: Tensor, quality: int) -> bytes:
        file = io.BytesIO()
        picture = Image.fromarray(checked_8_bit(pixels).permute(1, 2, 0).contiguous().numpy())
        picture.save(file, quality=quality, **options)  # type: ignore[arg-type]
        return file.getvalue()

    return Codec(title, options, qualities, payload, encode, _decoded)


def _decoded(file: bytes) -> Tensor:
    with Image.open(io.BytesIO(file)) as picture:
        return from_8_bit(torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)).contiguous()


CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        "JPEG": _pillow("JPEG", {"format": "JPEG", "subsampling": "4:2:0", "optimize": False}, (1, 95), _jpeg_payload),
        "WEBP": _pillow("WebP", {"format": "WEBP", "method": 6}, (0, 100), _webp_payload),
    }
)
"""By name in a suite."""


def encode_within(pixels: Tensor, bits: float, codec: Codec) -> Coded:
    """Return the best that a codec makes of a picture or clip with at most so many bits.

    At every size, each √½ of the one before, the greatest quality that fits is looked for; the size with the greatest
    PSNR, once it is scaled up again, is taken.

    Args:
        pixels: (3, …, H, W) in 0…1.
        bits: At most.
        codec: Which.

    Raises:
        InputError: Not even the smallest size fits.
    """
    best: tuple[float, Coded] | None = None
    worse = 0
    whole = (pixels.shape[-2], pixels.shape[-1])
    for size in sides(whole, codec.multiple, codec.least_side):
        found = _greatest(resize(pixels, size, None), bits, codec)
        if found is None:
            continue
        file, quality = found
        made = resize(codec.decode(file), whole, None)
        error = float((made - pixels).square().mean())
        if best is None or error < best[0]:
            best = error, Coded(made, 8 * codec.payload(file), 8 * len(file), size, quality)
            worse = 0
        else:
            worse += 1
        if worse == _WORSE or quality == codec.qualities[1]:
            break
    if best is None:
        raise InputError(f"no {codec.title} has as few as {bits:g} bits.")
    return best[1]


def sides(size: tuple[int, int], multiple: int = 1, least: int = 1) -> list[tuple[int, int]]:
    """Return the sizes that a picture of this size is coded at, down to a side of `least`, or to the size itself."""
    found: list[tuple[int, int]] = [size]
    scale = 1.0
    while max(found[-1]) > least * multiple:
        scale *= _STEP
        height, width = (max(1, round(side * scale / multiple)) * multiple for side in size)
        if min(height, width) < least:
            break
        if (height, width) != found[-1]:
            found.append((height, width))
    return found


def _greatest(pixels: Tensor, bits: float, codec: Codec) -> tuple[bytes, int] | None:
    """Return the file of the greatest quality that fits, by bisection, and the quality; None if the least does not."""

    def fits(quality: int) -> bytes | None:
        file = codec.encode(pixels, quality)
        return file if 8 * codec.payload(file) <= bits else None

    low, high = codec.qualities
    file = fits(low)
    if file is None:
        return None
    while low < high:
        middle = (low + high + 1) // 2
        if smaller := fits(middle):
            low, file = middle, smaller
        else:
            high = middle - 1
    return file, low
