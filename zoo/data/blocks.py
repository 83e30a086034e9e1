"""Reading a long sound file block by block."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from zoo.data._source import Source, describe
from zoo.data.audio import blocks_of, change_rate
from zoo.errors import InputError

__all__ = ["change_rate_of_blocks", "read_blocks"]


def read_blocks(
    source: Source, *, sample_rate: int, mix_down: bool = False, resample: bool = False
) -> Iterator[Tensor]:
    """Read whatever `zoo.data.media.read_audio` reads, a few seconds at a time, in memory that its length leaves alone.

    Args:
        source: A path, a whole file in memory, or a file open in binary mode.
        sample_rate: The rate in Hz that the waves have.
        mix_down: Average the channels instead of refusing more than one.
        resample: Convert sound of another rate instead of refusing it.

    Returns:
        An iterator over consecutive waves (samples,), float32. The values are those of `read_audio`; after resampling
        they may differ by a rounding.

    Raises:
        InputError: The file is missing, unreadable, truncated, or of another rate or number of channels; what is wrong
            further on is told where it is reached.
    """
    blocks = blocks_of(source)
    first = next(blocks)
    rate, channels = first.sample_rate, len(first.values)
    if (rate != sample_rate and not resample) or (channels > 1 and not mix_down):
        blocks.close()  # type: ignore[attr-defined]
        raise InputError(
            f"{describe(source)} has {rate} Hz and {channels} channel(s), {sample_rate} Hz and one channel are "
            "expected: resample=True converts the rate, mix_down=True averages channels."
        )
    values = (block.values for block in itertools.chain([first], blocks))
    waves = (block.mean(dim=0) if channels > 1 else block[0] for block in values)
    return waves if rate == sample_rate else change_rate_of_blocks(waves, rate, sample_rate)


def change_rate_of_blocks(blocks: Iterable[Tensor], rate: int, new_rate: int) -> Iterator[Tensor]:
    """Resample consecutive waves (samples,) as `zoo.data.audio.change_rate` resamples the whole.

    Yields:
        Consecutive waves (samples,), not of the same lengths as the blocks.

    Raises:
        InputError: As for `change_rate`.
    """
    common = math.gcd(rate, new_rate)
    old, new = rate // common, new_rate // common
    # Every `old` samples make `new`. They depend on the filter's reach to both sides, here in such groups: torchaudio's
    # is six zero crossings at 0.99 of the lower rate's band.
    reach = -(-math.ceil(6 * old / (0.99 * min(old, new))) // old)
    held, skipped = torch.zeros(0), 0  # skipped: groups at the start of `held` that are there for their neighbours only
    for block in blocks:
        held = torch.cat([held, block])
        ready = len(held) // old - reach - 1 - skipped
        if ready * old >= rate:  # a second at least: shorter ones would mostly be surroundings
            made = change_rate(held, rate, new_rate)
            yield made[skipped * new : (skipped + ready) * new]
            dropped = max(0, skipped + ready - reach)
            held, skipped = held[dropped * old :], skipped + ready - dropped
    if len(held) > skipped * old:
        yield change_rate(held, rate, new_rate)[skipped * new :]
