"""Encoding what files hold, batch by batch."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from zoo.cli._inputs import LeftOut, as_flags
from zoo.cli._output import note, ticking
from zoo.errors import InputError, ZooError
from zoo.process.progress import listening

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.cli._output import Ticker
    from zoo.data.signals import Recording
    from zoo.tokenfile.spool import Spool
    from zoo.tokenizer import Tokenizer
    from zoo.tokens import Tokens

__all__ = ["Cost", "costs", "encode_items"]

_MOST_CLIPPED = 0.05
"""Share of the data that may be clipped without a word: quantiles of 1 and 99 % leave 2 %."""

# A batch is padded to its longest item, and copied: what would be larger than 17 minutes of speech goes in parts.
_MOST_VALUES = 1 << 24


@dataclass(frozen=True)
class Cost:
    """What an item was, and what its tokens cost; `bits` is log2 V for each token."""

    name: str
    tokens: int
    bits: float
    raw_bits: int
    seconds: float | None

    @property
    def compression(self) -> float | None:
        """Bits of the signal over those of the tokens, None without tokens."""
        return self.raw_bits / self.bits if self.bits else None


class _Read(NamedTuple):
    """An item that was read; what is too long to be held is an iterator of its parts."""

    place: int
    item: Recording
    signal: Tensor | Iterator[Tensor]
    rate: float | None


def encode_items(
    tokenizer: Tokenizer,
    items: Sequence[Recording],
    spool: Spool,
    batch_size: int,
    options: Mapping[str, Any],
    left_out: list[LeftOut] | None = None,
    workers: int = 0,
) -> None:
    """Encode items into a spool, from where an earlier run has stopped.

    Args:
        tokenizer: Encodes them.
        items: Not read yet.
        spool: Gets their tokens.
        batch_size: Items at a time, at most.
        options: Of `tokenizer.encode`.
        left_out: Gets the items that cannot be encoded; the first one is an error if None.
        workers: Threads that read files ahead, where that can be done.

    Raises:
        InputError: An item cannot be encoded, or none of them.
        TokenError: Their tokens cannot be in one file.
    """
    import torch

    from zoo.data import signals
    from zoo.modalities import ActionTokenizer, SegmentedSpeechTokenizer, VideoTokenizer

    kind = signals.of(tokenizer.spec.modality)
    done = spool.go_on([item.stamp for item in items])
    if spool.is_anew:
        note(f"what {spool.folder} holds is of another model, other settings or other inputs, and is begun anew.")
    if done:
        note(f"going on after {done:,} of {len(items):,} inputs, which an interrupted run has done.")
    bad: dict[int, LeftOut] = {}
    with torch.no_grad(), ticking("encoding", len(items)) as ticker:
        ticker.advance(done)
        # Segments and windows that have nothing in common need not be there at the same time.
        streams = isinstance(tokenizer, (SegmentedSpeechTokenizer, VideoTokenizer)) and not options.get("overlap")
        ahead = _ahead(items, done, workers if kind.is_read_ahead else 0)
        tell = partial(_told, ticker, kind.time_axis or 0) if streams else None
        groups = _batches(ahead, batch_size, kind.batch_shape, tell, None if left_out is None else bad)
        for group, tokens in _encoded(tokenizer, groups, options, None if left_out is None else bad, ticker):
            facts: dict[str, Any] = {"raw_bits": [], "seconds": []}
            for index, read in enumerate(group):
                if isinstance(read.signal, torch.Tensor):
                    size, seconds = read.signal.numel(), kind.seconds(read.signal, read.rate)
                else:
                    steps = int(cast("torch.Tensor", tokens.signal_lengths)[index])
                    size = steps * kind.values_per_step(tokenizer.spec)
                    seconds = steps / read.rate if read.rate else None
                facts["raw_bits"].append(size * kind.raw_bits)
                facts["seconds"].append(seconds)
            if isinstance(tokenizer, ActionTokenizer):
                batch: list[Any] = [read.signal for read in group]
                facts["clipped"] = tokenizer.clipped_share(batch, **_before(tokenizer, batch)) * len(batch)
            end = group[-1].place + 1
            facts["left_out"] = [bad.pop(place) for place in sorted(bad) if place < end]
            names, rates = [read.item.name for read in group], [read.rate for read in group]
            spool.append(tokens, names, rates, inputs=end, note=facts)
            ticker.advance(end - done)
            done = end
    if left_out is not None:
        left_out += [LeftOut(*one) for facts in spool.notes for one in facts["left_out"]]
        left_out += [bad[place] for place in sorted(bad)]
    if not spool.names:
        raise InputError(f"none of the inputs could be encoded, of {len(left_out or ())}: see the notes.")
    if (share := sum(facts.get("clipped", 0.0) for facts in spool.notes) / len(spool.names)) > _MOST_CLIPPED:
        note(
            f"WARNING: {share:.0%} of the data lies outside what {tokenizer.name} was fitted on and is clipped: check "
            "its unit, or fit a tokenizer on data like it."
        )


def costs(spool: Spool) -> list[Cost]:
    """Return what each item in a spool costs."""
    spec = spool.origin.spec
    raw_bits, seconds = ([value for facts in spool.notes for value in facts[name]] for name in ("raw_bits", "seconds"))
    width = math.log2(spec.require_codebook())
    books = spec.num_codebooks
    return [
        Cost(name, length * books, length * (books * width), *rest)
        for name, length, *rest in zip(spool.names, spool.lengths, raw_bits, seconds, strict=True)
    ]


def _encoded(
    tokenizer: Tokenizer,
    groups: Iterable[list[_Read]],
    options: Mapping[str, Any],
    bad: dict[int, LeftOut] | None,
    ticker: Ticker,
) -> Iterator[tuple[list[_Read], Tokens]]:
    """Yield groups with their tokens; one that has a bad item falls apart into those that can be encoded."""
    for group in groups:
        try:
            tokens = _tokens(tokenizer, [read.signal for read in group], options, ticker)
        except InputError as error:
            if bad is None:
                raise _located(error, tokenizer, group, options) from error
            if len(group) > 1:
                yield from _encoded(tokenizer, ([one] for one in group), options, bad, ticker)
            else:
                bad[group[0].place] = LeftOut(group[0].item.name, as_flags(_alone(error)))
            continue
        yield group, tokens


def _tokens(tokenizer: Tokenizer, batch: list[Any], options: Mapping[str, Any], ticker: Ticker) -> Tokens:
    import torch

    from zoo.modalities import SegmentedSpeechTokenizer, VideoTokenizer

    if not isinstance(batch[0], torch.Tensor):
        if isinstance(tokenizer, VideoTokenizer):
            return tokenizer.encode_stream(batch[0], **options).to("cpu")
        return cast("SegmentedSpeechTokenizer", tokenizer).encode_stream(batch[0]).to("cpu")
    with listening(lambda share: ticker.partly(share * len(batch))):
        return tokenizer.encode(batch, **options, **_before(tokenizer, batch)).to("cpu")


def _before(tokenizer: Tokenizer, batch: list[Any]) -> dict[str, Any]:
    """Return what action tokenizers need to know of the time before a batch."""
    import torch

    from zoo.modalities.action import ActionTokenizer

    if not isinstance(tokenizer, ActionTokenizer):
        return {}
    return tokenizer.at_rest(torch.stack([signal[0] for signal in batch]))


def _ahead(
    items: Sequence[Recording], start: int, workers: int
) -> Iterator[tuple[int, Recording, Callable[[], tuple[Tensor, float | None]]]]:
    """Yield items in order, each with what returns its signal; some of them are being read meanwhile."""
    if not workers:
        yield from ((place, items[place], items[place].read) for place in range(start, len(items)))
        return
    waiting: deque[Any] = deque()
    with ThreadPoolExecutor(workers, "zoo-read") as pool:
        try:
            for place in range(start, len(items)):
                item = items[place]
                # What may be too long to be held is not read ahead either.
                is_long = item.blocks is not None
                waiting.append((place, item, item.read if is_long else pool.submit(item.read).result))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _batches(
    items: Iterable[tuple[int, Recording, Callable[[], tuple[Tensor, float | None]]]],
    batch_size: int,
    alike: Callable[[Sequence[int]], tuple[int, ...]],
    streamed: Callable[[Iterator[Tensor], int], Iterator[Tensor]] | None,
    bad: dict[int, LeftOut] | None,
) -> Iterator[list[_Read]]:
    """Read items and yield them in batches; pictures of different sizes cannot be in one, nor much that is long.

    With `streamed`, what may be too long to be held is alone, and not read yet; it gets its parts and their length.
    """
    batch: list[_Read] = []
    longest = 0
    shape: tuple[int, ...] = ()
    for place, item, read in items:
        try:
            if streamed is not None and item.blocks is not None:
                if batch:
                    yield batch
                    batch, longest = [], 0
                parts, rate = item.blocks.read()
                yield [_Read(place, item, streamed(parts, item.blocks.length), rate)]
                continue
            signal, rate = read()
        except InputError as error:
            if bad is None:
                raise InputError(as_flags(str(error))) from error
            bad[place] = LeftOut(item.name, as_flags(str(error)))
            continue
        longest = max([signal.numel(), longest])
        is_full = len(batch) == batch_size or (len(batch) + 1) * longest > _MOST_VALUES
        if batch and (is_full or alike(signal.shape) != shape):
            yield batch
            batch, longest = [], signal.numel()
        shape = alike(signal.shape)
        batch.append(_Read(place, item, signal, rate))
    if batch:
        yield batch


def _told(ticker: Ticker, axis: int, parts: Iterator[Tensor], length: int) -> Iterator[Tensor]:
    """Yield the parts of a signal, and show how much of it has been taken, if its length is known."""
    seen = 0
    for part in parts:
        yield part
        seen += part.shape[axis]
        if length:
            ticker.partly(min(1.0, seen / length))


def _located(error: InputError, tokenizer: Tokenizer, group: list[_Read], options: Mapping[str, Any]) -> InputError:
    """Return an error that names the item: encoding one item alone fails just as it does in a batch."""
    for read in group:
        if isinstance(read.signal, Iterator):
            return InputError(as_flags(f"{read.item.name}: {error}"))
        try:
            tokenizer.encode([read.signal], **options, **_before(tokenizer, [read.signal]))
        except ZooError as alone:
            return InputError(f"{read.item.name}: {_alone(alone)}")
    return error


def _alone(error: ZooError) -> str:
    """Return the message about a batch of one item."""
    return str(error).removeprefix("item 0: ").removeprefix("item 0, ")
