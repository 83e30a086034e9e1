"""From ids that anybody may have written to whole chunks of integers, or to a statement of what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from zoo.families.fast.bpe import CoefficientBpe

__all__ = ["Parsed", "fill", "parse"]


@dataclass(frozen=True)
class Parsed:
    """What one item's ids say.

    Args:
        integers: (n,) int64, 0 where bytes form no character.
        num_chunks: How many chunks they are taken for.
        problem: What is wrong, or "".
    """

    integers: np.ndarray
    num_chunks: int
    problem: str


def parse(quantizer: CoefficientBpe, ids: Sequence[int], shape: tuple[int, int], num_chunks: int | None) -> Parsed:
    """Read one item's ids.

    The check finds every loss of bytes, such as the `parity` variant suffers when a coefficient is new to it. Each
    character begins with a byte that says how many follow. A part of a chunk's bytes that still gives the full number
    of characters must have all of the first bytes, and then, if none is broken, all of the others.

    Args:
        quantizer: Who reads them.
        ids: Of the whole item; chunk borders are found by counting.
        shape: (T, D) of a chunk.
        num_chunks: How many there must be, or None for any whole number.
    """
    integers, is_readable = quantizer.integers(ids)
    found, per_chunk = len(integers), shape[0] * shape[1]
    chunks = num_chunks or max(1, (found + per_chunk // 2) // per_chunk)
    problem = ""
    if found != chunks * per_chunk:
        wanted = f"{chunks} × {per_chunk}" if num_chunks else f"a multiple of {per_chunk}"
        problem = f"its ids spell {found} coefficients, not {wanted} ({shape[0]} steps × {shape[1]} DoF)"
    elif not is_readable:
        problem = "some of its ids spell no coefficient"
    return Parsed(integers, chunks, problem)


def fill(parsed: Sequence[Parsed], per_chunk: int, malformed: Literal["error", "pad", "zeros"]) -> np.ndarray:
    """Return the integers of all items as whole chunks (B, n·per_chunk), with zeros where there are none.

    Of malformed items, `pad` keeps what can be read and fits, and anything else keeps nothing.
    """
    longest = max(item.num_chunks for item in parsed)
    integers = np.zeros((len(parsed), longest * per_chunk), dtype=np.int64)
    for target, item in zip(integers, parsed, strict=True):
        if not item.problem or malformed == "pad":
            kept = item.integers[: item.num_chunks * per_chunk]
            target[: len(kept)] = kept
    return integers
