"""Cutting what is longer than a network sees at once: speech to encode, and sequences to make.

Of speech every token comes from exactly one piece. All positions are in tokens from the start of the speech: pieces
begin on the grid of the tokens, so what they give can be put together without losing or doubling any, whatever the
length. What is made in `Windows` has overlaps in which one window fades into the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.errors import ConfigError, InputError, shown
from zoo.process.progress import counted

__all__ = ["Chunking", "Piece", "Windows", "cut", "groups", "in_chunks", "whole_tokens"]

_MAX_SECONDS = 1e9


class Piece(NamedTuple):
    """A stretch that is encoded alone, and which of its tokens are kept.

    Attributes:
        start: Its first token.
        stop: After its last token.
        first: The first token that is kept of it.
        last: After the last token that is kept of it.
    """

    start: int
    stop: int
    first: int
    last: int

    def samples(self, wave: Tensor, token_samples: int) -> Tensor:
        """Return its samples of the wave (samples,)."""
        return wave[self.start * token_samples : self.stop * token_samples]

    def kept(self, ids: Tensor) -> Tensor:
        """Return the kept ones of its ids (T,) or (T, K)."""
        return ids[self.first - self.start : self.last - self.start]


class Chunking(NamedTuple):
    """Chunks whose tokens are made from them and their surroundings; all in tokens.

    Attributes:
        size: Tokens of a chunk.
        left: Tokens before it that are encoded with it.
        right: Tokens after it that are encoded with it.
    """

    size: int
    left: int
    right: int

    def piece(self, number: int, num_tokens: int) -> Piece:
        """Return chunk `number`, from 0, of speech of `num_tokens`."""
        first = number * self.size
        last = min(first + self.size, num_tokens)
        return Piece(max(0, first - self.left), min(first + self.size + self.right, num_tokens), first, last)


@dataclass(frozen=True)
class Windows:
    """Windows on a fixed grid that a long sequence is made in, so that time and memory grow no faster than its length.

    Attributes:
        size: Steps of a window. A sequence that is no longer is made at once.
        overlap: Steps that neighbours have in common; the last window begins where it is not covered without it.
        margin: Steps at either end of an overlap where only the window that is further from its own end counts, since
            near an end a network knows but one side. Between the margins, one fades into the other.

    Raises:
        ConfigError: Nothing is left of a window without its overlaps, or of an overlap without its margins.
    """

    size: int
    overlap: int
    margin: int

    def __post_init__(self) -> None:
        if not 0 <= 2 * self.margin < self.overlap <= self.size // 2:
            raise ConfigError(
                "windows: size must be at least twice the overlap, and the overlap more than twice the margin, got "
                f"{self.size}, {self.overlap} and {self.margin}."
            )

    def spans(self, length: int) -> list[tuple[int, int]]:
        """Return where the windows of a sequence start and stop."""
        step = self.size - self.overlap
        starts = range(0, max(1, length - self.overlap), step)
        return [(start, min(start + self.size, length)) for start in starts]

    def blended(self, length: int, make: Callable[[int, int], Tensor]) -> Tensor:
        """Return a sequence (…, length), made window by window.

        Args:
            length: Of the sequence, at least 1.
            make: Start and stop of a window → its part of the sequence, (…, stop - start).
        """
        spans = self.spans(length)
        windows = counted(spans, len(spans))
        made = make(*next(windows))
        if len(spans) == 1:
            return made
        whole = made.new_empty(*made.shape[:-1], length)
        whole[..., : self.size] = made
        fade = torch.arange(1, self.overlap + 1, dtype=made.dtype, device=made.device) - self.margin
        fade = (fade / (self.overlap - 2 * self.margin + 1)).clamp(0, 1)
        for start, stop in windows:
            made, seen = make(start, stop), start + self.overlap
            whole[..., start:seen].lerp_(made[..., : self.overlap], fade)
            whole[..., seen:stop] = made[..., self.overlap :]
        return whole


def cut(num_tokens: int, longest: int, shared: int = 0) -> list[Piece]:
    """Cut speech into pieces of at most `longest` tokens.

    Args:
        num_tokens: Its length.
        longest: Tokens of a piece; the last may have fewer, where nothing is shared.
        shared: Tokens that a piece has in common with the next, of which each keeps the half that is further from its
            end. The last piece begins so early that it is as long as the others, and shares more.

    Returns:
        The pieces in order. What they keep is 0 … num_tokens - 1, each once.
    """
    if num_tokens <= longest:
        return [Piece(0, num_tokens, 0, num_tokens)]
    step = longest - shared
    starts = list(range(0, num_tokens - shared, step))
    if shared:
        starts[-1] = num_tokens - longest
    stops = [min(start + longest, num_tokens) for start in starts]
    # In the middle of what two neighbours have in common.
    borders = [0, *((start + stop) // 2 for start, stop in zip(starts[1:], stops, strict=False)), num_tokens]
    return [Piece(*each) for each in zip(starts, stops, borders, borders[1:], strict=False)]


def in_chunks(
    blocks: Iterable[Tensor],
    chunking: Chunking,
    token_samples: int,
    encode: Callable[[Tensor], Tensor],
) -> Iterator[tuple[Tensor, int]]:
    """Encode speech that arrives bit by bit, keeping no more of it than the next chunk needs.

    Args:
        blocks: Consecutive waves (samples,), of any lengths.
        chunking: What is encoded at once.
        token_samples: Samples of a token.
        encode: Wave (samples,) → ids (T,) or (T, K).

    Yields:
        The ids of each chunk, as soon as what is right of it has arrived, and its number of samples. The end of speech
        is made from what there is.

    Raises:
        InputError: There are no samples.
    """
    held: list[Tensor] = []
    dropped = arrived = number = 0  # samples before what is held, samples in all, the next chunk

    def made(num_tokens: int) -> tuple[Tensor, int]:
        nonlocal held, dropped, number
        piece = chunking.piece(number, num_tokens)
        wave = torch.cat(held)[piece.start * token_samples - dropped :]
        dropped = piece.start * token_samples
        ids = piece.kept(encode(wave[: piece.stop * token_samples - dropped]))
        held, number = [wave], number + 1
        return ids, min(piece.last * token_samples, arrived) - piece.first * token_samples

    for block in blocks:
        held.append(block)
        arrived += len(block)
        while arrived >= (needed := (number + 1) * chunking.size + chunking.right) * token_samples:
            yield made(needed)
    if not arrived:
        raise InputError("there is no speech: the file or stream holds no samples.")
    num_tokens = -(-arrived // token_samples)
    while number * chunking.size < num_tokens:
        yield made(num_tokens)


def groups(waves: list[Tensor], budget: int) -> Iterator[list[Tensor]]:
    """Yield consecutive waves of at most `budget` samples together, at least one at a time."""
    group: list[Tensor] = []
    for wave in waves:
        if group and sum(map(len, group)) + len(wave) > budget:
            yield group
            group = []
        group.append(wave)
    yield group


def whole_tokens(name: str, seconds: float, token_rate: float) -> int:
    """Return how many tokens an option of so many seconds is.

    Raises:
        ConfigError: It is negative, or not a whole number of tokens.
    """
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and abs(seconds) < _MAX_SECONDS
    tokens = round(seconds * token_rate) if number else -1
    if tokens < 0 or abs(seconds * token_rate - tokens) > 1e-6 * max(1, tokens):
        raise ConfigError(
            f"{name} is in seconds, 0 or more, and a multiple of the {1 / token_rate:g} s of a token, got "
            f"{shown(seconds)}."
        )
    return tokens
