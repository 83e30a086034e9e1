"""What a token file holds, and the rules that it keeps, whatever it is written as."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo import registry
from zoo.checkpoint.fingerprint import fingerprint, fingerprint_in
from zoo.errors import TokenError, ZooError
from zoo.spec import TokenSpec
from zoo.tokenizer import Tokenizer
from zoo.tokens import Tokens, bits

__all__ = ["Contents", "Origin", "TokenFile", "check_name", "collect", "require_consistent"]

_MAX_NAME_BYTES = 1024


@dataclass(frozen=True)
class Origin:
    """Which tokenizer made tokens; the fields are those of `TokenFile`."""

    model: str
    source: str
    fingerprint: str
    spec: TokenSpec
    fast_name: str | None = None

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Origin:
        """Say it of a tokenizer."""
        fast = tokenizer.fast_dtype
        return cls(tokenizer.name, _source(tokenizer), fingerprint(tokenizer), tokenizer.spec, _dtype_name(fast))


@dataclass(frozen=True)
class Contents:
    """What is written of a token file: its tokens without padding, in memory or in files that are read meanwhile.

    Args:
        origin: What made them.
        names: One an item, B of them.
        rates: One an item, None where unknown.
        grid: Arrangement of an item's positions, or None.
        lengths: Positions of each item, (B,) int64.
        ids: Of all items one after the other, (S,), or (S, K) of K codebooks, in the smallest unsigned dtype that holds
            the codebook; perhaps a memory map.
        signal_lengths: (B,) int64, or None if unknown.
        captions: One an item, or None.
        states: What a text encoder made of them, as `Conditions.to_arrays` gives it; empty if it is not kept.
    """

    origin: Origin
    names: tuple[str, ...]
    rates: tuple[float | None, ...]
    grid: tuple[int, ...] | None
    lengths: np.ndarray
    ids: np.ndarray
    signal_lengths: np.ndarray | None = None
    captions: tuple[str, ...] | None = None
    states: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def longest(self) -> int:
        """Positions of the longest item."""
        return int(self.lengths.max())


@dataclass(frozen=True)
class TokenFile:
    """What a token file holds.

    Args:
        tokens: The tokens of all items.
        model: Name of the tokenizer that made them.
        source: Where it can be had: what `zoo.load` takes, or "" if nobody knows.
        fingerprint: Its weights and settings, as `fingerprint` gives them.
        spec: Facts about its tokens.
        names: One relative path an item.
        rates: Samples, frames or commands a second of each signal, None where unknown.
        fast_dtype: Of the weights of a tokenizer in fast mode; None if the ids are exact.
    """

    tokens: Tokens
    model: str
    source: str
    fingerprint: str
    spec: TokenSpec
    names: tuple[str, ...]
    rates: tuple[float | None, ...]
    fast_dtype: torch.dtype | None = None

    @property
    def fast_name(self) -> str | None:
        """The name of `fast_dtype`, such as "bfloat16"."""
        return _dtype_name(self.fast_dtype)

    def contents(self) -> Contents:
        """Return it as it is written.

        Raises:
            TokenError: An id is outside the codebook.
        """
        tokens = self.tokens
        signal, conditions = tokens.signal_lengths, tokens.conditions
        return Contents(
            Origin(self.model, self.source, self.fingerprint, self.spec, self.fast_name),
            self.names,
            self.rates,
            tokens.grid,
            tokens.lengths.numpy(),
            bits.shrink(tokens.ids[tokens.mask].numpy(), tokens.codebook_size),
            None if signal is None else signal.numpy(),
            None if conditions is None else conditions.captions,
            {} if conditions is None else conditions.to_arrays(),
        )

    def require_made_by(self, tokenizer: Tokenizer) -> None:
        """Raise `TokenError` if a tokenizer has other weights or settings than the one that made the tokens.

        One that made them without its decoder has said nothing of that, and any decoder of its ids will do. Ids are
        ids: in which mode they were made does not matter.
        """
        if tokenizer.fast_dtype not in (None, torch.float32, self.fast_dtype):
            raise TokenError(
                f"{tokenizer.name} has weights rounded to {tokenizer.fast_dtype} for fast mode, and nobody can tell "
                "whether they are those that made these tokens: load it without dtype."
            )
        found = fingerprint_in(tokenizer, self.fast_dtype)
        if self.fingerprint not in (found, fingerprint_in(tokenizer, self.fast_dtype, decoder=False)):
            raise TokenError(
                f"these tokens were made by {self.model} with the fingerprint {self.fingerprint[:12]}, and "
                f"{tokenizer.name} from {tokenizer.source or 'memory'} has {found[:12]}: its weights or settings "
                "differ, and it would decode them to something else."
            )


def collect(
    tokens: Tokens,
    tokenizer: Tokenizer,
    names: Sequence[str] | None = None,
    *,
    rates: Sequence[float | None] | None = None,
) -> TokenFile:
    """Put together, in memory, what a token file of these tokens holds.

    Args:
        tokens: What `tokenizer.encode` returned.
        tokenizer: The tokenizer that made them.
        names: One relative path an item, `/` between folders, taken as given; numbered ones if None.
        rates: Samples, frames or commands a second of each signal, None where unknown.

    Raises:
        TokenError: Another tokenizer's tokens, shifted ones, none at all, or names or rates that do not fit.
    """
    tokens = tokenizer.as_tokens(tokens).to("cpu")
    if not len(tokens):
        raise TokenError("there is nothing to store: the tokens have no items.")
    file = TokenFile(
        tokens,
        tokenizer.name,
        _source(tokenizer),
        fingerprint(tokenizer),
        tokenizer.spec,
        tuple(f"item_{number:06d}" for number in range(len(tokens))) if names is None else tuple(names),
        tuple(None if rate is None else float(rate) for rate in rates or [None] * len(tokens)),
        tokenizer.fast_dtype,
    )
    require_consistent(file.names, file.rates, tokens.grid, len(tokens), int(tokens.lengths.max()))
    return file


def check_name(name: Any) -> None:
    """Raise `TokenError` if a name could lead out of the folder that it is decoded into, or cannot be a file's."""
    rule = "names are relative paths in UTF-8, with / between folders, without '.', '..' and control characters"
    if not isinstance(name, str):
        raise TokenError(f"{rule}; got {type(name).__name__}.")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        size = 0  # a file name that is not UTF-8
    parts = name.split("/")
    controls = any(character < " " or "\x7f" <= character < "\xa0" for character in name)
    if not 0 < size <= _MAX_NAME_BYTES or {"", ".", ".."} & set(parts) or "\\" in name or controls:
        raise TokenError(f"{rule}; got {name!r:.80}.")


def require_consistent(
    names: Sequence[str],
    rates: Sequence[float | None] | None,
    grid: tuple[int, ...] | None,
    count: int,
    longest: int,
) -> None:
    """Raise `TokenError` if names, rates or grid do not fit `count` items of up to `longest` positions."""
    if len(names) != count:
        raise TokenError(f"{count} items need as many names, got {len(names)}.")
    for name in names:
        check_name(name)
    if rates is not None and len(rates) != count:
        raise TokenError(f"{count} items need as many rates, got {len(rates)}.")
    for rate in rates or ():
        if rate is not None and not (rate > 0 and math.isfinite(rate)):
            raise TokenError(f"rates must be above 0, or None if unknown, got {rate}.")
    if grid is not None and (not grid or min(grid) < 1 or math.prod(grid) != longest):
        raise TokenError(f"a grid of {list(grid)} does not have the {longest} positions of the longest item.")


def _dtype_name(dtype: torch.dtype | None) -> str | None:
    return None if dtype is None else str(dtype).removeprefix("torch.")


def _source(tokenizer: Tokenizer) -> str:
    """Return where a tokenizer can be had again, if possible as a name that means the same on another machine."""
    source = tokenizer.source
    if not source or source.startswith("hf://"):
        return source
    folder = Path(source).resolve()
    try:
        entry = registry.model(tokenizer.name)
        if entry.is_shipped and entry.folder.resolve() == folder:
            return entry.name
    except ZooError:  # a name of the user's own
        pass
    return str(folder)
