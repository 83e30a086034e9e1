"""Encoding what files hold, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from zoo.cli._inputs import LeftOut, as_flags
from zoo.cli._output import note, ticking
from zoo.errors import InputError, TokenError, ZooError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data.signals import Recording
    from zoo.tokenizer import Tokenizer
    from zoo.tokens import Tokens

    _Read = tuple[Recording, Tensor | Iterator[Tensor], float | None]

__all__ = ["Cost", "encode_items"]

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


def encode_items(
    tokenizer: Tokenizer,
    items: list[Recording],
    batch_size: int,
    options: dict[str, float],
    left_out: list[LeftOut] | None = None,
) -> tuple[Tokens, list[Cost], list[float | None]]:
    """Return the tokens of the items, what each of them costs, and the rates of their signals.

    Args:
        tokenizer: Encodes them.
        items: Not read yet.
        batch_size: Items at a time, at most.
        options: Of `tokenizer.encode`.
        left_out: Gets the items that cannot be encoded; the first one is an error if None.

    Raises:
        InputError: An item cannot be encoded, or none of them.
        TokenError: Their tokens cannot be in one file.
    """
    import torch

    from zoo.data import signals
    from zoo.modalities.action import ActionTokenizer
    from zoo.modalities.speech import SegmentedSpeechTokenizer
    from zoo.tokens import Tokens

    clipped: list[float] = []
    kind = signals.of(tokenizer.spec.modality)
    parts: list[Tokens] = []
    costs: list[Cost] = []
    rates: list[float | None] = []
    grid_of: dict[tuple[int, ...] | None, str] = {}
    with torch.no_grad(), ticking("encoding", len(items)) as ticker:
        # Segments that have nothing in common need not be there at the same time.
        streams = isinstance(tokenizer, SegmentedSpeechTokenizer) and not options.get("overlap")
        groups = _batches(items, batch_size, kind.padding is None, streams, left_out)
        for group, tokens in _encoded(tokenizer, groups, options, left_out):
            if isinstance(tokenizer, ActionTokenizer):
                batch: list[Any] = [signal for _, signal, _ in group]
                clipped.append(tokenizer.clipped_share(batch, **_before(tokenizer, batch)) * len(batch))
            grid_of.setdefault(tokens.grid, group[0][0].name)
            if len(grid_of) > 1:
                shapes = " and ".join(f"{grid} ({name})" for grid, name in grid_of.items())
                raise TokenError(f"a token file has one grid, these items differ: {shapes}. Encode them apart.")
            for (item, signal, rate), one in zip(group, tokens, strict=True):
                count = int(one.lengths[0]) * one.num_codebooks
                if isinstance(signal, torch.Tensor):
                    size, seconds = signal.numel(), kind.seconds(signal, rate)
                else:
                    size = int(cast("torch.Tensor", one.signal_lengths)[0])
                    seconds = size / rate if rate else None
                raw_bits = size * kind.raw_bits
                costs.append(Cost(item.name, count, float(one.num_bits[0]), raw_bits, seconds))
                rates.append(rate)
            parts.append(tokens)
            ticker.advance(len(group))
    if not costs:
        raise InputError(f"none of the inputs could be encoded, of {len(left_out or ())}: see the notes.")
    if (share := sum(clipped) / len(costs)) > _MOST_CLIPPED:
        note(
            f"WARNING: {share:.0%} of the data lies outside what {tokenizer.name} was fitted on and is clipped: check "
            "its unit, or fit a tokenizer on data like it."
        )
    return Tokens.cat(parts), costs, rates


def _encoded(
    tokenizer: Tokenizer, groups: Iterable[list[_Read]], options: dict[str, float], left_out: list[LeftOut] | None
) -> Iterator[tuple[list[_Read], Tokens]]:
    """Yield groups with their tokens; one that has a bad item falls apart into those that can be encoded."""
    for group in groups:
        try:
            tokens = _tokens(tokenizer, [signal for _, signal, _ in group], options)
        except InputError as error:
            if left_out is None:
                raise _located(error, tokenizer, group) from error
            if len(group) > 1:
                yield from _encoded(tokenizer, ([one] for one in group), options, left_out)
            else:
                left_out.append(LeftOut(group[0][0].name, as_flags(_alone(error))))
            continue
        yield group, tokens


def _tokens(tokenizer: Tokenizer, batch: list[Any], options: dict[str, float]) -> Tokens:
    import torch

    from zoo.modalities.speech import SegmentedSpeechTokenizer

    if isinstance(tokenizer, SegmentedSpeechTokenizer) and not isinstance(batch[0], torch.Tensor):
        return tokenizer.encode_stream(batch[0]).to("cpu")
    return tokenizer.encode(batch, **options, **_before(tokenizer, batch)).to("cpu")


def _before(tokenizer: Tokenizer, batch: list[Any]) -> dict[str, Any]:
    """Return what action tokenizers need to know of the time before a batch."""
    import torch

    from zoo.modalities.action import ActionTokenizer

    if not isinstance(tokenizer, ActionTokenizer):
        return {}
    return tokenizer.at_rest(torch.stack([signal[0] for signal in batch]))


def _batches(
    items: list[Recording], batch_size: int, by_shape: bool, streams: bool, left_out: list[LeftOut] | None
) -> Iterator[list[_Read]]:
    """Read items and yield them in batches; pictures of different sizes cannot be in one, nor much that is long.

    With `streams`, what may be too long to be held is alone, and not read yet.
    """
    batch: list[_Read] = []
    longest, shape = 0, None
    for item in items:
        try:
            if streams and item.blocks is not None:
                if batch:
                    yield batch
                    batch, longest = [], 0
                yield [(item, *item.blocks())]
                continue
            signal, rate = item.read()
        except InputError as error:
            if left_out is None:
                raise InputError(as_flags(str(error))) from error
            left_out.append(LeftOut(item.name, as_flags(str(error))))
            continue
        longest = max([signal.numel(), longest])
        is_full = len(batch) == batch_size or (len(batch) + 1) * longest > _MOST_VALUES
        if batch and (is_full or (by_shape and signal.shape != shape)):
            yield batch
            batch, longest = [], signal.numel()
        shape = signal.shape
        batch.append((item, signal, rate))
    if batch:
        yield batch


def _located(error: InputError, tokenizer: Tokenizer, group: list[_Read]) -> InputError:
    """Return an error that names the item: encoding one item alone fails just as it does in a batch."""
    for item, signal, _ in group:
        if isinstance(signal, Iterator):
            return InputError(as_flags(f"{item.name}: {error}"))
        try:
            tokenizer.encode([signal], **_before(tokenizer, [signal]))
        except ZooError as alone:
            return InputError(f"{item.name}: {_alone(alone)}")
    return error


def _alone(error: ZooError) -> str:
    """Return the message about a batch of one item."""
    return str(error).removeprefix("item 0: ").removeprefix("item 0, ")
