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
from zoo.tokens import bits, joining, vocabulary
from zoo.tokens.conditions import Conditions
from zoo.tokens.ids import as_ids, as_lengths, as_rows
from zoo.tokens.vocabulary import Generated

__all__ = ["PAD_ID", "Modality", "TokenSpec", "Tokens"]

PAD_ID = 0
"""The code at padding positions: a valid index, so that an embedding table can be read without a mask."""


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
        pad_id: The id at padding positions that `offset` was given, None for that of code 0.
    """

    ids: Tensor
    lengths: Tensor
    codebook_size: int
    model: str = ""
    grid: tuple[int, ...] | None = None
    signal_lengths: Tensor | None = None
    base: int = 0
    conditions: Conditions | None = None
    pad_id: int | None = None

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
                    "language model's vocabulary, read them by Tokens.from_llm."
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

        An integer selects one item, without its padding, and keeps the batch dimension; slices, lists of integers and
        masks (B,) select several. Positions and codebooks take slices of step 1; negative positions count from each
        item's own end; codebooks start at 0, since each refines those before.

        Raises:
            IndexError: Anything else.
        """
        items, *rest = index if isinstance(index, tuple) and index else (index,)
        if 1 + len(rest) > self.ids.ndim:
            raise IndexError(f"tokens of shape {tuple(self.ids.shape)} take at most {self.ids.ndim} indices.")
        whole = isinstance(items, slice) and items == slice(None)
        tokens = self if whole else self._items(as_rows(items, len(self), self.ids.device))
        if not isinstance(items, (slice, list)) and getattr(items, "ndim", 0) == 0:
            tokens = tokens.truncate(self.ids.shape[1])  # one item ends where it ends, not where its neighbours did
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
            TokenError: Nothing to join, or parts that differ in codebooks, model, offset or padding id, or in the
                number of items when joined in time.
        """
        return joining.cat(parts, dim)

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

    def offset(self, amount: int, vocab_size: int | None = None, pad_id: int | None = None) -> Tokens:
        """Shift the ids into a language model's vocabulary, or back with a negative amount.

        Several codebooks get disjoint ranges: codebook k's id i becomes i + k·V + amount. `from_llm` reads what the
        language model generates.

        Args:
            amount: What to add. Shifts that add up to 0 give back the original ids, and code 0 at padding.
            vocab_size: Size of the language model's vocabulary, checked if given.
            pad_id: Id at padding positions, such as the language model's own or -100 for labels. None keeps the one
                of the shift before, or, without one, leaves the id of code 0: tell it apart by `mask`.

        Raises:
            TokenError: The shifted ids would be negative, exceed `vocab_size`, or overflow int64; an amount of 0
                for several codebooks, which could not be told from no shift; or a `pad_id` that is a token's.
        """
        books = self.num_codebooks
        base, pad_id = vocabulary.shifted(
            self.base, amount, self.pad_id, pad_id, codebook_size=self.codebook_size, books=books, vocab_size=vocab_size
        )
        ids = self.ids + (base - self.base)
        if books > 1 and (self.base == 0) != (base == 0):
            ids = ids + self._spread() if self.base == 0 else ids - self._spread()
        moved = replace(self, ids=ids, base=base, pad_id=pad_id)
        return moved if self.pad_id is None and pad_id is None else moved._cleared()

    @classmethod
    def from_llm(
        cls,
        ids: Any,
        *,
        offset: int,
        codebook_size: int,
        num_codebooks: int = 1,
        eos_id: int | Sequence[int] | None = None,
        pad_id: int | None = None,
        special_ids: Iterable[int] = (),
        **facts: Any,
    ) -> Generated:
        """Undo `offset` on what a language model generated: cut each sequence at its end, drop what is no token.

        An item ends at the first `eos_id` after its first token (or the first of all, without a token), so that
        padding on the left may be the same id. Only ids that are named are dropped before that.

        Args:
            ids: (T,), (B, T) or (B, T, K), or rows of unequal length. K codebooks may stand flat, K ids a position.
            offset: What `offset` was given.
            codebook_size: V.
            num_codebooks: K.
            eos_id: What ends an item: one id, or several.
            pad_id: Padding, dropped wherever it is.
            special_ids: Other ids to drop: marks, separators, or a `range` of words.
            facts: `model`, `grid`, `signal_lengths` and `conditions`, as `from_ids` takes them.

        Returns:
            The unshifted tokens, how many ids were dropped, and where each item ended.

        Raises:
            TokenError: An id that is neither token nor named (another vocabulary's), a named id that is a token's,
                codebooks out of turn, or a number of ids that is no whole number of K.
        """
        rows, dropped, ends = vocabulary.read_generated(
            ids, offset, codebook_size, num_codebooks, eos_id, pad_id, special_ids
        )
        return Generated(cls.from_ids(rows, codebook_size=codebook_size, **facts), dropped, ends)

    def tolist(self) -> list[Any]:
        """Return the valid ids of each item as Python integers: a list of lists, one level deeper for K codebooks."""
        return [sequence.tolist() for sequence in self._sequences()]

    def numpy(self) -> np.ndarray:
        """Return the padded ids in the smallest unsigned dtype that holds the (shifted) vocabulary.

        Raises:
            TokenError: Ids outside the vocabulary.
        """
        end = self.base + self.codebook_size * (self.num_codebooks if self.base else 1)
        end = end if self.pad_id is None else max(end, self.pad_id + 1)
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
        """Raise `TokenError` if the ids are shifted into another vocabulary, or padded by its id."""
        if self.base:
            raise TokenError(
                f"cannot {action} ids that are shifted by {self.base}: call tokens.offset({-self.base}) first."
            )
        if self.pad_id is not None:
            raise TokenError(f"cannot {action} ids padded with {self.pad_id}: call tokens.offset(0) first.")

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
        if (index.start or 0) < 0 or (index.stop or 0) < 0:
            return self._from_the_end(index)
        lengths = (self.lengths.clamp(max=stop) - start).clamp(min=0)
        return replace(self, ids=self.ids[:, start:stop], lengths=lengths, grid=None, signal_lengths=None)

    def _from_the_end(self, index: slice) -> Tokens:
        """Slice positions that count from each item's own end where they are negative."""
        size = self.ids.shape[1]

        def places(at: Any) -> Tensor:
            at = max(-size, min(size, operator.index(at)))  # an int64 holds it
            return (self.lengths + at).clamp(min=0) if at < 0 else self.lengths.clamp(max=at)

        starts, stops = places(index.start or 0), places(size if index.stop is None else index.stop)
        if not bool(starts.any()):
            return self.truncate(stops)
        lengths = (stops - starts).clamp(min=0)
        at = starts[:, None] + torch.arange(int(lengths.max()), device=self.ids.device)
        at = at.clamp(max=size - 1).reshape(*at.shape, *[1] * (self.ids.ndim - 2))
        ids = self.ids.gather(1, at.expand(-1, -1, *self.ids.shape[2:]))
        return replace(self, ids=ids, lengths=lengths, grid=None, signal_lengths=None)._cleared()

    def _cleared(self) -> Tokens:
        """Return the tokens with the pad code at every position past the lengths."""
        mask = self.mask if self.ids.ndim == 2 else self.mask[:, :, None]
        pad = self.ids.new_tensor(PAD_ID + self.base if self.pad_id is None else self.pad_id)
        if self.base and self.pad_id is None and self.ids.ndim == 3:
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
