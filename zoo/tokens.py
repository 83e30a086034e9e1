"""`Tokens`, what every tokenizer's `encode` returns and every `decode` takes, and `TokenSpec`, the facts about them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from zoo import bits
from zoo.errors import ConfigError, InputError, TokenError

__all__ = ["PAD_ID", "Modality", "TokenSpec", "Tokens"]

Modality = Literal["speech", "image", "video", "action"]
MODALITIES: tuple[str, ...] = ("speech", "image", "video", "action")

PAD_ID = 0
"""The code at padding positions: a valid index, so that an embedding table can be read without a mask."""

_MAX_ID = 2**63 - 1


@dataclass(frozen=True)
class TokenSpec:
    """The facts that a token model needs from its tokenizer.

    Args:
        modality: What is tokenized.
        codebook_size: Number of different ids in each codebook, V.
        num_codebooks: Codebooks read in parallel at each position, K. Ids are (B, T) for one, (B, T, K) for several.
        num_tokens: Positions for an input of `input_size`, or None if the count varies from item to item.
        token_rate: Positions per second of signal, or None where there is no time axis or no known rate.
        sample_rate: Samples (speech), frames (video) or commands (actions) per second, or None.
        input_size: Size of one input: (H, W) of an image, (T, H, W) of a clip, (T, D) of an action chunk; None if free.
        is_ordered: Whether every prefix of an item's tokens is itself a valid, coarser code.
        licence: SPDX identifier of the licence of the weights.
    """

    modality: Modality
    codebook_size: int
    num_codebooks: int = 1
    num_tokens: int | None = None
    token_rate: float | None = None
    sample_rate: float | None = None
    input_size: tuple[int, ...] | None = None
    is_ordered: bool = False
    licence: str = "Apache-2.0"

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise ConfigError(f"modality must be one of {', '.join(MODALITIES)}, got {self.modality!r}.")
        if self.codebook_size < 2 or self.num_codebooks < 1:
            raise ConfigError(
                f"a spec needs at least 2 codes in at least 1 codebook, got codebook_size={self.codebook_size}, "
                f"num_codebooks={self.num_codebooks}."
            )

    @property
    def is_fixed_length(self) -> bool:
        """Whether every input of `input_size` gives the same number of tokens."""
        return self.num_tokens is not None

    @property
    def bits_per_token(self) -> float:
        """Information in one position: num_codebooks · log2(codebook_size) bits."""
        return self.num_codebooks * math.log2(self.codebook_size)

    @property
    def bit_rate(self) -> float | None:
        """Bits per second of signal, or None without a token rate."""
        return None if self.token_rate is None else self.token_rate * self.bits_per_token

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain values, `bits_per_token` and `bit_rate` included."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["input_size"] = None if self.input_size is None else list(self.input_size)
        return {**plain, "bits_per_token": self.bits_per_token, "bit_rate": self.bit_rate}


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
    """

    ids: Tensor
    lengths: Tensor
    codebook_size: int
    model: str = ""
    grid: tuple[int, ...] | None = None
    signal_lengths: Tensor | None = None
    base: int = 0

    @classmethod
    def from_ids(
        cls,
        ids: Any,
        *,
        codebook_size: int,
        lengths: Any = None,
        model: str = "",
        grid: tuple[int, ...] | None = None,
        signal_lengths: Tensor | None = None,
    ) -> Tokens:
        """Check ids from anywhere and wrap them.

        Args:
            ids: Integers: a tensor or array (T,), (B, T) or (B, T, K), or a list of lists of possibly unequal length.
            codebook_size: V; ids must be in 0 … V - 1.
            lengths: (B,) valid positions of each item; all of them if None (ragged lists bring their own).
            model: Name of the tokenizer the ids belong to.
            grid: Arrangement of the positions.
            signal_lengths: (B,) length of each decoded signal.

        Raises:
            TokenError: Ids that are not integers, out of range or of the wrong rank, or lengths that do not fit.
        """
        ids, ragged = _as_ids(ids)
        if ids.ndim == 1:
            ids = ids[None]
        if ids.ndim not in (2, 3):
            raise TokenError(f"ids must be (B, T) or (B, T, K), got the shape {tuple(ids.shape)}.")
        if ids.dtype == torch.bool or ids.is_floating_point() or ids.is_complex():
            raise TokenError(f"ids must be integers, got {ids.dtype}; a model's logits need an argmax first.")
        ids = ids.to(torch.int64)
        if ids.numel():
            low, high = (int(x) for x in ids.aminmax())
            if low < 0 or high >= codebook_size:
                raise TokenError(
                    f"ids must be in 0 … {codebook_size - 1}, got values from {low} to {high}. If they come from a "
                    "language model's vocabulary, subtract the offset first (and remove special tokens)."
                )
        batch, positions = ids.shape[:2]
        if lengths is None:
            lengths = ragged if ragged is not None else torch.full((batch,), positions, device=ids.device)
        lengths = torch.as_tensor(lengths, device=ids.device)
        if lengths.shape != (batch,) or lengths.is_floating_point() or lengths.dtype == torch.bool:
            raise TokenError(
                f"lengths must be {batch} integers, one an item, got {lengths.dtype} of shape {tuple(lengths.shape)}."
            )
        if batch and (int(lengths.min()) < 0 or int(lengths.max()) > positions):
            raise TokenError(f"lengths must be in 0 … {positions}, got {lengths.tolist()}.")
        tokens = cls(ids, lengths.to(torch.int64), codebook_size, model, grid, signal_lengths)
        return tokens._cleared()

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

        An integer selects one item and keeps the batch dimension. Positions and codebooks take slices of step 1;
        codebooks start at 0, since each refines those before it.
        """
        parts = index if isinstance(index, tuple) else (index,)
        if len(parts) > self.ids.ndim:
            raise IndexError(f"tokens of shape {tuple(self.ids.shape)} take at most {self.ids.ndim} indices.")
        tokens = self._select(parts[0])
        if len(parts) > 1 and parts[1] != slice(None):
            tokens = tokens._positions(parts[1])
        if len(parts) > 2 and parts[2] != slice(None):
            start, stop, step = _bounds(parts[2], self.ids.shape[2])
            if start != 0 or step != 1 or stop < 1:
                raise IndexError("codebooks are refinements of those before them: slice them as [:, :, :k], k ≥ 1.")
            tokens = replace(tokens, ids=tokens.ids[:, :, :stop])
        return tokens

    def truncate(self, num_tokens: int | Tensor) -> Tokens:
        """Keep at most the first `num_tokens` positions: one number for all, or (B,) integers, one an item."""
        limit = torch.as_tensor(num_tokens, device=self.ids.device)
        if limit.is_floating_point() or limit.shape not in ((), (len(self),)):
            raise TokenError(f"truncate takes one integer or {len(self)}, got {limit.dtype} {tuple(limit.shape)}.")
        if limit.numel() and int(limit.min()) < 0:
            raise TokenError(f"truncate needs counts of 0 or more, got {limit.tolist()}.")
        lengths = torch.minimum(self.lengths, limit)
        longest = int(lengths.max()) if len(self) else 0
        if torch.equal(lengths, self.lengths):
            return replace(self, ids=self.ids[:, :longest])
        cut = replace(self, ids=self.ids[:, :longest], lengths=lengths, grid=None, signal_lengths=None)
        return cut._cleared()

    @staticmethod
    def cat(parts: Sequence[Tokens], dim: Literal["batch", "time"] = "batch") -> Tokens:
        """Join tokens of one tokenizer: more items (`batch`), or each item continued by the next part's (`time`).

        Raises:
            TokenError: Nothing to join, or parts that differ in codebooks, model or offset, or in the number of items
                when joined in time.
        """
        if not parts:
            raise TokenError("there is nothing to concatenate: give at least one Tokens.")
        first = parts[0]
        for other in parts[1:]:
            for fact in ("codebook_size", "num_codebooks", "model", "base"):
                if getattr(other, fact) != getattr(first, fact):
                    raise TokenError(
                        f"only tokens of one kind can be concatenated, but {fact} is {getattr(first, fact)!r} in one "
                        f"part and {getattr(other, fact)!r} in another."
                    )
            if dim == "time" and len(other) != len(first):
                raise TokenError(f"in time, parts need equal batch sizes, got {len(first)} and {len(other)}.")
        signals = [part.signal_lengths for part in parts]
        known = [signal for signal in signals if signal is not None]
        if dim == "batch":
            sequences = [item for part in parts for item in part._sequences()]
            grid = first.grid if all(part.grid == first.grid for part in parts) else None
            signal_lengths = torch.cat(known) if len(known) == len(parts) else None
        else:
            sequences = [torch.cat(items) for items in zip(*(part._sequences() for part in parts), strict=True)]
            grid = None
            # A sum is the joined signal's length only where no part but the last was padded; decoders of segmented
            # signals know their own segment length, and others give back everything.
            signal_lengths = None
        lengths = torch.tensor([len(s) for s in sequences], dtype=torch.int64, device=first.ids.device)
        longest = max((len(s) for s in sequences), default=0)
        ids = first.ids.new_full((len(sequences), longest, *first.ids.shape[2:]), PAD_ID)
        for row, sequence in zip(ids, sequences, strict=True):
            row[: len(sequence)] = sequence
        joined = replace(first, ids=ids, lengths=lengths, grid=grid, signal_lengths=signal_lengths)
        return joined._cleared()

    def to(self, device: torch.device | str) -> Tokens:
        """Move to a device."""
        signal = None if self.signal_lengths is None else self.signal_lengths.to(device)
        return replace(self, ids=self.ids.to(device), lengths=self.lengths.to(device), signal_lengths=signal)

    def offset(self, amount: int, vocab_size: int | None = None) -> Tokens:
        """Shift the ids into a language model's vocabulary, or back with a negative amount.

        Several codebooks get disjoint ranges: codebook k's id i becomes i + k·V + amount.

        Args:
            amount: What to add. The total of all shifts must not become negative.
            vocab_size: Size of the language model's vocabulary, checked if given.

        Raises:
            TokenError: The shifted ids would be negative, exceed `vocab_size`, or overflow int64.
        """
        base = self.base + amount
        end = base + self.codebook_size * self.num_codebooks
        limit = _MAX_ID if vocab_size is None else vocab_size
        if base < 0:
            raise TokenError(f"an offset of {amount} would make ids negative: these tokens are shifted by {self.base}.")
        if end > limit:
            raise TokenError(
                f"ids shifted by {base} reach {end - 1}, past the vocabulary's last id {limit - 1}. Enlarge the "
                f"vocabulary to {end}, or choose an offset of at most {limit - (end - base)}."
            )
        ids = self.ids + amount
        if self.num_codebooks > 1 and (self.base == 0) != (base == 0):
            ids = ids + self._spread() if self.base == 0 else ids - self._spread()
        return replace(self, ids=ids, base=base)

    def tolist(self) -> list[Any]:
        """Return the valid ids of each item as Python integers: a list of lists, one level deeper for K codebooks."""
        return [sequence.tolist() for sequence in self._sequences()]

    def numpy(self) -> np.ndarray:
        """Return the padded ids in the smallest unsigned dtype that holds the (shifted) vocabulary."""
        top = self.base + self.codebook_size * (self.num_codebooks if self.base else 1) - 1
        return self.ids.cpu().numpy().astype(bits.smallest_dtype(top))

    def pack(self) -> list[bytes]:
        """Return each item's valid ids as packed bits, ceil(log2 V) a code, most significant bit first.

        Raises:
            TokenError: The tokens are shifted by `offset`.
        """
        self.require_unshifted("pack")
        return [bits.pack(sequence.flatten().cpu().numpy(), self.codebook_size) for sequence in self._sequences()]

    @classmethod
    def unpack(
        cls,
        packed: Sequence[bytes],
        lengths: Sequence[int],
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
        rows = [
            bits.unpack(data, length * num_codebooks, codebook_size)
            for data, length in zip(packed, lengths, strict=True)
        ]
        ids = np.zeros((len(rows), max(lengths, default=0), num_codebooks), dtype=np.int64)
        for row, values, length in zip(ids, rows, lengths, strict=True):
            row[:length] = values.reshape(length, num_codebooks)
        shaped = ids if num_codebooks > 1 else ids[:, :, 0]
        return cls.from_ids(torch.from_numpy(shaped), codebook_size=codebook_size, lengths=list(lengths), model=model)

    def equal(self, other: Tokens) -> bool:
        """Whether both hold the same ids and lengths over the same vocabulary, padding aside."""
        return (
            self.codebook_size == other.codebook_size
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

    def _select(self, index: Any) -> Tokens:
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"item {index} of {len(self)}.")
            index = slice(index % len(self), index % len(self) + 1)
        signal = None if self.signal_lengths is None else self.signal_lengths[index]
        return replace(self, ids=self.ids[index], lengths=self.lengths[index], signal_lengths=signal)

    def _positions(self, index: Any) -> Tokens:
        start, stop, step = _bounds(index, self.ids.shape[1])
        if step != 1:
            raise IndexError("positions take a slice of step 1, such as tokens[:, :16]; for single ids use tokens.ids.")
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


def _bounds(index: Any, size: int) -> tuple[int, int, int]:
    if not isinstance(index, slice):
        raise IndexError(f"positions and codebooks take slices, got {index!r}; for single ids use tokens.ids.")
    start, stop, step = index.indices(size)
    return start, max(start, stop), step


def _as_ids(ids: Any) -> tuple[Tensor, list[int] | None]:
    """Return ids as a tensor, and the lengths if they came as unequal lists."""
    if isinstance(ids, Tensor):
        return ids, None
    if isinstance(ids, np.ndarray):
        wide = ids.astype(np.int64) if ids.dtype.kind == "u" else ids
        return torch.as_tensor(wide), None
    try:
        if isinstance(ids, (list, tuple)) and ids and all(isinstance(row, (list, tuple)) for row in ids):
            lengths = [len(row) for row in ids]
            if len(set(lengths)) > 1:
                rows = [torch.as_tensor(row) for row in ids]
                shape = next(row for row in rows if len(row)).shape[1:]
                padded = torch.zeros((len(rows), max(lengths), *shape), dtype=torch.int64)
                for target, row in zip(padded, rows, strict=True):
                    if len(row):
                        if row.is_floating_point() or row.dtype == torch.bool:
                            raise TokenError(f"ids must be integers, got {row.dtype}.")
                        target[: len(row)] = row
                return padded, lengths
        return torch.as_tensor(ids), None
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, (TokenError, InputError)):
            raise
        raise TokenError(f"ids must be integers in a tensor, an array or nested lists, got {ids!r:.80}.") from error
