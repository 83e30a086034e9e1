"""Integers in as few bits as their vocabulary needs."""

from __future__ import annotations

import numpy as np

from zoo.errors import TokenError

__all__ = ["pack", "shrink", "smallest_dtype", "unpack", "width"]


def smallest_dtype(largest: int) -> np.dtype:
    """Return the smallest unsigned NumPy dtype that holds `largest`."""
    for dtype in (np.uint8, np.uint16, np.uint32):
        if largest <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.uint64)


def shrink(ids: np.ndarray, end: int) -> np.ndarray:
    """Return ids of 0 … end - 1 in the smallest dtype.

    Raises:
        TokenError: An id is outside, and would be cut to another one.
    """
    _require_range(ids, end)
    return ids.astype(smallest_dtype(end - 1))


def width(codebook_size: int) -> int:
    """Return the bits that one id of 0 … codebook_size - 1 takes."""
    return max(1, (codebook_size - 1).bit_length())


def pack(ids: np.ndarray, codebook_size: int) -> bytes:
    """Pack ids (n,) into ceil(n · width / 8) bytes, most significant bit first, zero bits at the end.

    Raises:
        TokenError: An id is outside, and would be cut to another one.
    """
    _require_range(ids, codebook_size)
    places = np.arange(width(codebook_size) - 1, -1, -1)
    return np.packbits((ids[:, None] >> places & 1).astype(np.uint8)).tobytes()


def unpack(data: bytes, count: int, codebook_size: int) -> np.ndarray:
    """Undo `pack`: return `count` ids as int64.

    Raises:
        TokenError: `data` does not have the length that `count` ids take.
    """
    size = width(codebook_size)
    if len(data) != -(-count * size // 8):
        raise TokenError(f"{count} ids of {size} bits take {-(-count * size // 8)} bytes, got {len(data)}.")
    flags = np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=count * size)
    return flags.reshape(count, size).astype(np.int64) @ (1 << np.arange(size - 1, -1, -1, dtype=np.int64))


def _require_range(ids: np.ndarray, end: int) -> None:
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < end:
        raise TokenError(f"ids must be in 0 … {end - 1} to be stored, got values from {ids.min()} to {ids.max()}.")
