"""Giving memory back that nothing uses any more."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

__all__ = ["give_back"]


def give_back() -> None:
    """Hand the allocator's free memory back to the system, where it is glibc's; elsewhere do nothing.

    Work in pieces of several hundred MB leaves holes between what lives on, of which glibc keeps more with every piece:
    an hour of speech cost 1 GB that nothing was in.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):  # another C library
        return None
