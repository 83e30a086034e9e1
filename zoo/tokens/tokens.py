"""`Tokens`: what every tokenizer's `encode` returns and every `decode` takes."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from zoo.errors import TokenError
from zoo.spec import Modality, TokenSpec
from zoo.tokens import bits
from zoo.tokens.conditions import Conditions
from zoo.tokens.ids import as_ids, as_lengths, as_rows

__all__ = ["PAD_ID", "Modality", "TokenSpec", "Tokens"]

PAD_ID = 0
"""The code at padding positions: a valid index, so that an embedding table can be read without a mask."""

_MAX_VOCABULARY = 2**63


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Tokens:
    """A batch of token sequences: cheap to slice, join, move, store and shift into a language model's vocabulary.

    The constructor checks nothing, so that a tokenizer can build one in a microsecond; ids from elsewhere (a language
    model, a file) go through `Tokens.from_ids`, which checks everything.

    Args:
        ids: (B, T), or (B, T, K) for K codebooks, int64. Code 0 (`PAD_ID`) fills the positions past an item's length.
        lengths: (B,) int64, the valid positions of each item.
        codebook_size: V; every id is in base … base + V - 1 (+ k·V in codebook k, if shifted by `offset`).
        model: Name of the tokenizer that made them, "" if unknown. `decode` refuses another tokenizer's tokens.
        grid: Arrangement of the T positions, such as (rows, columns), or None. Row-major.
        signal_lengths: (B,) int64, the length of each input in samples, frames or commands, or None if unknown. With
            it, `decode` gives back exactly as much signal as was encoded.
        base: What `offset` has added to the ids.
        conditions: What the items were encoded and are decoded with beside their ids, such as captions, or None.
    """

    ids: Tensor
    lengths: Tensor
    codebook_size: int
    model: str = ""
    grid: tuple[int, ...] | None = None
    signal_lengths: Tensor | None = None
    base: int = 0
    conditions: Conditions | None = None

    @classmethod
    def from_ids(
        cls,
        ids: Any,
        *,
        codebook_size: int,
        lengths: Any = None,
        model: str = "",
        grid: tuple[int, ...] | None = None,
        signal_lengths: Any = None,
        conditions: Conditions | None = None,
    ) -> Tokens:
        """Check ids from anywhere and wrap them.

        Args:
            ids: Integers: a tensor or array (T,), (B, T) or (B, T, K), or a list of lists, arrays or tensors, one an
                item, of possibly unequal length.
            codebook_size: V; ids must be in 0 … V - 1.
            lengths: (B,) valid positions of each item; all that it has if None.
            model: Name of the tokenizer the ids belong to.
            grid: Arrangement of the positions.
            signal_lengths: (B,) length of each decoded signal.
            conditions: What the items are decoded with beside their ids.

        Raises:
            TokenError: Ids that are not integers, out of range or of the wrong rank, or lengths that do not fit.
        """
        if type(codebook_size) is not int or codebook_size < 2:
            raise TokenError(f"codebook_size must be a Python integer of at least 2, got {codebook_size!r}.")
        ids, own_lengths = as_ids(ids)
        if ids.numel():
            low, high = (int(x) for x in ids.aminmax())
            if low < 0 or high >= codebook_size:
                raise TokenError(
                    f"ids must be in 0 … {codebook_size - 1}, got values from {low} to {high}. If they come from a "
                    "language model's vocabulary, subtract the offset first (and remove special tokens)."
                )
        batch, positions = ids.shape[:2]
        own = as_lengths([positions] * batch if own_lengths is None else own_lengths, batch, ids.device)
        checked = own if lengths is None else as_lengths(lengths, batch, ids.device)
        if bool(((checked < 0) | (checked > own)).any()):
            raise TokenError(f"lengths must be 0 … {own.tolist()}, got {checked.tolist()}.")
        if grid is not None and math.prod(grid) != positions:
            raise TokenError(f"a grid of {grid} has {math.prod(grid)} positions, the ids have {positions}.")
        if signal_lengths is not None:
            signal_lengths = as_lengths(signal_lengths, batch, ids.device)
            if bool((signal_lengths < 0).any()):
                raise TokenError(f"signal lengths must be 0 or more, got {signal_lengths.tolist()}.")
        if conditions is not None and len(conditions) != batch:
            raise TokenError(f"{batch} items need as many conditions, got {len(conditions)}.")
        return cls(ids, checked, codebook_size, model, grid, signal_lengths, 0, conditions)._cleared()

    @property
    def batch_size(self) -> int:
        """Number of items, B."""
        return self.ids.shape[0]

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks, K."""
        return self.ids.shape[2] if self.ids.ndim == 3 else 1

    @property
    def num_bits(self) -> Tensor:
        """Information in each item, (B,) float64: lengths · K · log2(V) bits."""
        return self.lengths.double() * (self.num_codebooks * math.log2(self.codebook_size))

    @property
    def mask(self) -> Tensor:
        """(B, T) bool, True at valid positions."""
        return torch.arange(self.ids.shape[1], device=self.ids.device) < self.lengths[:, None]

    def __len__(self) -> int:
        return self.ids.shape[0]

    def __iter__(self) -> Iterator[Tokens]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        counts = self.lengths.tolist()
        shown = str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)}…{max(counts)}" if counts else "0"
        books = f" × {self.num_codebooks} codebooks" if self.ids.ndim == 3 else ""
        return (
            f"Tokens({len(self)} item{'s' * (len(self) != 1)} of {shown} ids{books}, "
            f"codebook_size={self.codebook_size}, model={self.model!r})"
        )

    def __getitem__(self, index: Any) -> Tokens:
        """Select items, then a range of positions, then leading codebooks: `tokens[2:5, :16]`.

        An integer selects one item and keeps the batch dimension; slices, lists of integers and masks (B,) select
        several. Positions and codebooks take slices of step 1; codebooks start at 0, since each refines those before.

        Raises:
            IndexError: Anything else; negative positions where items differ in length, since they would count from the
                end of the longest.
        """
        items, *rest = index if isinstance(index, tuple) and index else (index,)
        if 1 + len(rest) > self.ids.ndim:
            raise IndexError(f"tokens of shape {tuple(self.ids.shape)} take at most {self.ids.ndim} indices.")
        whole = isinstance(items, slice) and items == slice(None)
        tokens = self if whole else self._items(as_rows(items, len(self), self.ids.device))
        if rest:
            tokens = tokens._positions(rest[0])
        if len(rest) > 1:
            _, stop = _bounds(rest[1], self.num_codebooks, "codebooks")
            if (rest[1].start or 0) != 0 or stop < 1:
                raise IndexError("codebooks are refinements of those before them: slice them as [:, :, :k], k ≥ 1.")
            tokens = replace(tokens, ids=tokens.ids[:, :, :stop])
        return tokens

    def truncate(self, num_tokens: int | Sequence[int] | Tensor) -> Tokens:
        """Keep at most the first `num_tokens` positions: one number for all, or (B,) integers, one an item."""
        limit = torch.as_tensor(num_tokens, device=self.ids.device)
        if limit.is_floating_point() or limit.dtype == torch.bool or limit.shape not in ((), (len(self),)):
            raise TokenError(f"truncate takes one integer or {len(self)}, got {limit.dtype} {tuple(limit.shape)}.")
        if limit.numel() and int(limit.min()) < 0:
            raise TokenError(f"truncate needs counts of 0 or more, got {limit.tolist()}.")
        lengths = torch.minimum(self.lengths, limit.long())
        longest = int(lengths.max()) if len(self) else 0
        grid = self.grid if longest == self.ids.shape[1] else None
        if torch.equal(lengths, self.lengths):
            return replace(self, ids=self.ids[:, :longest], grid=grid)
        return replace(self, ids=self.ids[:, :longest], lengths=lengths, grid=None, signal_lengths=None)._cleared()

    @staticmethod
    def cat(parts: Iterable[Tokens], dim: Literal["batch", "time"] = "batch") -> Tokens:
        """Join tokens of one tokenizer: more items (`batch`), or each item continued by the next part's (`time`).

        Raises:
            TokenError: Nothing to join, or parts that differ in codebooks, model or offset, or in the number of items
                when joined in time.
        """
        parts = list(parts)
        if not parts:
            raise TokenError("there is nothing to concatenate: give at least one Tokens.")
        if dim not in ("batch", "time"):
            raise TokenError(f"tokens are joined along 'batch' or 'time', got dim={dim!r}.")
        first = parts[0]
        for other in parts[1:]:
            for fact in ("codebook_size", "num_codebooks", "model", "base"):
                if getattr(other, fact) != getattr(first, fact):
                    raise TokenError(
                        f"only tokens of one kind can be concatenated, but {fact} is {getattr(first, fact)!r} in one "
                        f"part and {getattr(other, fact)!r} in another."
                    )
            if other.ids.ndim != first.ids.ndim:
                raise TokenError(
                    f"ids (B, T) and (B, T, 1) cannot be joined: got {first.ids.ndim} and {other.ids.ndim} axes."
                )
            if dim == "time" and len(other) != len(first):
                raise TokenError(f"in time, parts need equal batch sizes, got {len(first)} and {len(other)}.")
        signals = [part.signal_lengths for part in parts]
        known = [signal for signal in signals if signal is not None]
        if dim == "batch":
            sequences = [item for part in parts for item in part._sequences()]
            grid = first.grid if all(part.grid == first.grid for part in parts) else None
            signal_lengths = torch.cat(known) if len(known) == len(parts) else None
            conditions = Conditions.cat([part.conditions for part in parts])
        else:
            sequences = [torch.cat(items) for items in zip(*(part._sequences() for part in parts), strict=True)]
            grid = None
            # A sum is the joined signal's length only where no part but the last was padded; decoders of segmented
            # signals know their own segment length, and others give back everything.
            signal_lengths = None
            conditions = first.conditions
            for other in parts[1:]:
                if conditions is not other.conditions and not (conditions and conditions.equal(other.conditions)):
                    raise TokenError("in time, parts need the same conditions: one caption is of the whole item.")
        lengths = torch.tensor([len(s) for s in sequences], dtype=torch.int64, device=first.ids.device)
        longest = max((len(s) for s in sequences), default=0)
        ids = first.ids.new_full((len(sequences), longest, *first.ids.shape[2:]), PAD_ID)
        for row, sequence in zip(ids, sequences, strict=True):
            row[: len(sequence)] = sequence
        joined = replace(
            first, ids=ids, lengths=lengths, grid=grid, signal_lengths=signal_lengths, conditions=conditions
        )
        return joined._cleared()

    def to(self, device: torch.device | str) -> Tokens:
        """Move to a device."""
        signal = None if self.signal_lengths is None else self.signal_lengths.to(device)
        conditions = None if self.conditions is None else self.conditions.to(device)
        return replace(
            self,
            ids=self.ids.to(device),
            lengths=self.lengths.to(device),
            signal_lengths=signal,
            conditions=conditions,
        )

    def offset(self, amount: int, vocab_size: int | None = None) -> Tokens:
        """Shift the ids into a language model's vocabulary, or back with a negative amount.

        Several codebooks get disjoint ranges: codebook k's id i becomes i + k·V + amount.

        Args:
            amount: What to add. Shifts that add up to 0 give back the original ids.
            vocab_size: Size of the language model's vocabulary, checked if given.

        Raises:
            TokenError: The shifted ids would be negative, exceed `vocab_size`, or overflow int64; or an amount of 0
                for several codebooks, which could not be told from no shift.
        """
        try:
            amount = operator.index(amount)
        except TypeError:
            raise TokenError(f"an offset is an integer, got {amount!r}.") from None
        base = self.base + amount
        books = self.num_codebooks
        if amount == 0 == self.base and books > 1:
            raise TokenError(
                f"an offset of 0 would leave the ids of {books} codebooks on top of each other: reserve at least one "
                "id before them, and use an offset of 1 or more."
            )
        if base < 0:
            raise TokenError(f"an offset of {amount} would make ids negative: these tokens are shifted by {self.base}.")
        span = self.codebook_size * (books if base else 1)
        limit = _MAX_VOCABULARY if vocab_size is None else min(vocab_size, _MAX_VOCABULARY)
        if base + span > limit:
            room = f", or choose an offset of at most {limit - span - self.base}" if limit >= span else ""
            raise TokenError(
                f"ids shifted by {base} reach {base + span - 1}, past the vocabulary's last id {limit - 1}: enlarge "
                f"the vocabulary to {base + span}{room}."
            )
        ids = self.ids + amount
        if books > 1 and (self.base == 0) != (base == 0):
            ids = ids + self._spread() if self.base == 0 else ids - self._spread()
        return replace(self, ids=ids, base=base)

    def tolist(self) -> list[Any]:
        """Return the valid ids of each item as Python integers: a list of lists, one level deeper for K codebooks."""
        return [sequence.tolist() for sequence in self._sequences()]

    def numpy(self) -> np.ndarray:
        """Return the padded ids in the smallest unsigned dtype that holds the (shifted) vocabulary.

        Raises:
            TokenError: Ids outside the vocabulary.
        """
        end = self.base + self.codebook_size * (self.num_codebooks if self.base else 1)
        return bits.shrink(self.ids.cpu().numpy(), end)

    def pack(self) -> list[bytes]:
        """Return each item's valid ids as packed bits, ceil(log2 V) a code, most significant bit first.

        Raises:
            TokenError: The tokens are shifted by `offset`, or outside the codebook.
        """
        self.require_unshifted("pack")
        return [bits.pack(sequence.flatten().cpu().numpy(), self.codebook_size) for sequence in self._sequences()]

    @classmethod
    def unpack(
        cls,
        packed: Sequence[bytes],
        lengths: Sequence[int] | Tensor,
        *,
        codebook_size: int,
        num_codebooks: int = 1,
        model: str = "",
    ) -> Tokens:
        """Undo `pack`.

        Args:
            packed: One byte string an item.
            lengths: Valid positions of each item (packed bits do not tell their own count).
            codebook_size: V.
            num_codebooks: K.
            model: Name of the tokenizer.

        Raises:
            TokenError: A byte string that is too short or too long for its length, or an id out of range.
        """
        counts = [int(length) for length in lengths]
        if len(counts) != len(packed) or min(counts, default=0) < 0:
            raise TokenError(f"unpack needs a length of 0 or more for each of {len(packed)} items, got {counts}.")
        ids = np.zeros((len(counts), max(counts, default=0), num_codebooks), dtype=np.int64)
        for row, data, count in zip(ids, packed, counts, strict=True):
            row[:count] = bits.unpack(data, count * num_codebooks, codebook_size).reshape(count, num_codebooks)
        shaped = ids if num_codebooks > 1 else ids[:, :, 0]
        return cls.from_ids(shaped, codebook_size=codebook_size, lengths=counts, model=model)

    def equal(self, other: Tokens) -> bool:
        """Whether both hold the same ids, lengths and conditions over the same vocabulary, padding aside."""
        return (
            (self.conditions.equal(other.conditions) if self.conditions is not None else other.conditions is None)
            and self.codebook_size == other.codebook_size
            and self.base == other.base
            and torch.equal(self.lengths.cpu(), other.lengths.cpu())
            and self.tolist() == other.tolist()
        )

    def require_unshifted(self, action: str) -> None:
        """Raise `TokenError` if the ids are shifted into another vocabulary."""
        if self.base:
            raise TokenError(
                f"cannot {action} ids that are shifted by {self.base}: call tokens.offset({-self.base}) first."
            )

    def _sequences(self) -> list[Tensor]:
        return [row[:length] for row, length in zip(self.ids, self.lengths.tolist(), strict=True)]

    def _items(self, rows: slice | Tensor) -> Tokens:
        signal = None if self.signal_lengths is None else self.signal_lengths[rows]
        conditions = None if self.conditions is None else self.conditions[rows]
        return replace(
            self, ids=self.ids[rows], lengths=self.lengths[rows], signal_lengths=signal, conditions=conditions
        )

    def _positions(self, index: Any) -> Tokens:
        size = self.ids.shape[1]
        start, stop = _bounds(index, size, "positions")
        if start == 0 and stop == size:
            return self
        if ((index.start or 0) < 0 or (index.stop or 0) < 0) and bool((self.lengths != size).any()):
            raise IndexError(
                "negative positions would count from the end of the longest item, and these items differ in length: "
                "use positions from 0, or tokens.truncate(tokens.lengths - n)."
            )
        lengths = (self.lengths.clamp(max=stop) - start).clamp(min=0)
        return replace(self, ids=self.ids[:, start:stop], lengths=lengths, grid=None, signal_lengths=None)

    def _cleared(self) -> Tokens:
        """Return the tokens with the pad code at every position past the lengths."""
        mask = self.mask if self.ids.ndim == 2 else self.mask[:, :, None]
        pad = self.ids.new_tensor(PAD_ID + self.base)
        if self.base and self.ids.ndim == 3:
            pad = pad + self._spread()
        return replace(self, ids=torch.where(mask, self.ids, pad))

    def _spread(self) -> Tensor:
        """Return where each codebook's range begins once several are shifted into one vocabulary, (K,)."""
        return torch.arange(self.num_codebooks, device=self.ids.device) * self.codebook_size


def _bounds(index: Any, size: int, what: str) -> tuple[int, int]:
    if not isinstance(index, slice) or index.step not in (None, 1):
        raise IndexError(f"{what} take a slice of step 1, such as tokens[:, :16], got {index!r}; see also tokens.ids.")
    start, stop, _ = index.indices(size)
    return start, max(start, stop)
