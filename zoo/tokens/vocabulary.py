"""Where a tokenizer's codes lie in the vocabulary of a language model, and what of a generated sequence they are.

Codes get ids of their own after the words (`Tokens.offset` and `Tokens.from_llm`), or the vocabulary's last ids, which
are given up for them (`to_llm_ids`, `cut_llm_ids` and `from_llm_ids`).
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from zoo.errors import ConfigError, TokenError
from zoo.tokens.ids import as_ids

if TYPE_CHECKING:
    from zoo.tokens.tokens import Tokens

__all__ = ["Generated", "cut_llm_ids", "from_llm_ids", "read_generated", "shifted", "to_llm_ids"]

_MAX_VOCABULARY = 2**63

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class Generated(NamedTuple):
    """What `Tokens.from_llm` found in sequences that a language model generated.

    Args:
        tokens: The items, unshifted.
        num_dropped: (B,) int64, ids that were dropped: those that are no tokens, and all from the item's end on.
        ends: (B,) int64, where each item ended: the position of its end-of-sequence id (counted in single ids), or the
            number of ids given where none ended it, as when generation was cut off.
    """

    tokens: Tokens
    num_dropped: Tensor
    ends: Tensor


def to_llm_ids(
    ids: Any,
    *,
    llm_vocab_size: int,
    codebook_size: int,
    order: Literal["reversed", "forward"] = "reversed",
    skip: int = 0,
) -> Tensor:
    """Map codes to ids of a language model.

    `reversed` counts down from the vocabulary's end, id = llm_vocab_size - 1 - skip - code: RT-2, OpenVLA and BEAST-F
    (whose code passes its vocabulary size less one), and openpi's FAST with skip=128. `forward` counts up to the end,
    id = llm_vocab_size - skip - codebook_size + code.

    OpenVLA itself counts bins from 1 and subtracts them from the vocabulary size, which is the same id.

    Args:
        ids: Codes in 0 … codebook_size - 1, of any shape.
        llm_vocab_size: Size of the language model's vocabulary.
        codebook_size: Number of codes, V.
        order: Direction in which codes are laid out.
        skip: Ids at the vocabulary's end that stay as they are.

    Returns:
        int64 ids of the same shape.

    Raises:
        TokenError: A code out of range, or values that are no integers.
        ConfigError: The vocabulary is too small.
    """
    codes = _checked(ids)
    base, sign = _layout(llm_vocab_size, codebook_size, order, skip)
    wrong = (codes < 0) | (codes >= codebook_size)
    if wrong.any():
        raise TokenError(
            f"codes must be in 0 … {codebook_size - 1}, got {int(codes[wrong][0])}: these are not codes of this "
            "tokenizer, or they are ids of a language model already."
        )
    return base + sign * codes


def from_llm_ids(
    ids: Any,
    *,
    llm_vocab_size: int,
    codebook_size: int,
    order: Literal["reversed", "forward"] = "reversed",
    skip: int = 0,
) -> Tensor:
    """Undo `to_llm_ids`.

    Args:
        ids: Ids of the language model, of any shape.
        llm_vocab_size: Size of the language model's vocabulary.
        codebook_size: Number of codes, V.
        order: Direction in which codes are laid out.
        skip: Ids at the vocabulary's end that are no codes.

    Returns:
        int64 codes of the same shape.

    Raises:
        TokenError: An id that is no code, such as a word or an end-of-sequence mark, or values that are no integers.
        ConfigError: The vocabulary is too small.
    """
    words = _checked(ids)
    base, sign = _layout(llm_vocab_size, codebook_size, order, skip)
    codes = sign * (words - base)
    wrong = (codes < 0) | (codes >= codebook_size)
    if wrong.any():
        first = min(base, base + sign * (codebook_size - 1))
        raise TokenError(
            f"the codes are the ids {first} … {first + codebook_size - 1} of this vocabulary, got "
            f"{int(words[wrong][0])}: cut words, separators and end-of-sequence marks off first (cut_llm_ids), and "
            "restrict sampling to the codes."
        )
    return codes


def cut_llm_ids(
    ids: Any, *, tokens: range, eos_id: int | Sequence[int] | None = None, special_ids: Iterable[int] = ()
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Cut generated sequences at their end, and drop the special ids before it.

    An item ends at the first `eos_id` after its first token, or the first of all where it has no token.

    Args:
        ids: (T,) or (B, T), or rows of unequal length.
        tokens: The ids that are tokens.
        eos_id: What ends an item: one id, or several.
        special_ids: Ids to drop where they stand before the end.

    Returns:
        The ids of each item that are tokens, int64 (T_i,); how many were dropped, (B,); where items ended, (B,), which
        is the number of ids given where no `eos_id` ended them.

    Raises:
        TokenError: An id that is neither token nor named, or a named id that is a token's.
    """
    given, own_lengths = as_ids(ids)
    if given.ndim != 2:
        raise TokenError(f"generated ids must be (T,) or (B, T), got the shape {tuple(given.shape)}.")
    ending = _named([] if eos_id is None else eos_id if isinstance(eos_id, Iterable) else [eos_id], "eos_id", tokens)
    special = _named(special_ids, "special_ids", tokens)
    counts = [given.shape[1]] * len(given) if own_lengths is None else own_lengths
    rows, ends = [], []
    for item, (padded, count) in enumerate(zip(given, counts, strict=True)):
        row = padded[:count]
        is_token = (row >= tokens.start) & (row < tokens.stop)
        is_end = torch.isin(row, ending.to(row.device))
        first = int(is_token.nonzero()[0]) if bool(is_token.any()) else 0
        closing = is_end[first:].nonzero()
        end = first + int(closing[0]) if len(closing) else count
        unknown = ~(is_token | is_end | torch.isin(row, special.to(row.device)))[:end]
        if bool(unknown.any()):
            at = int(unknown.nonzero()[0])
            raise TokenError(
                f"item {item} has the id {int(row[at])} at position {at}, and the tokens are {tokens.start} … "
                f"{tokens.stop - 1}: if it is a word or mark of the language model, name it (eos_id, pad_id, "
                "special_ids); otherwise the ids are of another vocabulary, or the offset or codebook_size is wrong."
            )
        rows.append(row[:end][is_token[:end]])
        ends.append(end)
    dropped = [count - len(row) for row, count in zip(rows, counts, strict=True)]
    return rows, given.new_tensor(dropped), given.new_tensor(ends)


def read_generated(
    ids: Any,
    offset: int,
    codebook_size: int,
    num_codebooks: int,
    eos_id: int | Sequence[int] | None,
    pad_id: int | None,
    special_ids: Iterable[int],
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Return the codes of each item, (T_i,) or (T_i, K), and what `cut_llm_ids` counts; see `Tokens.from_llm`.

    Raises:
        TokenError: As `Tokens.from_llm` says.
    """
    sizes = (offset, codebook_size, num_codebooks)
    least = (0 if num_codebooks == 1 else 1, 2, 1)  # unshifted, several codebooks have no ranges of their own
    if any(type(size) is not int or size < low for size, low in zip(sizes, least, strict=True)):
        raise TokenError(
            f"offset, codebook_size and num_codebooks are Python integers of at least {least}, got {sizes!r:.80}."
        )
    given, own_lengths = as_ids(ids)
    if given.ndim == 3 and given.shape[2] != num_codebooks:
        raise TokenError(f"ids {tuple(given.shape)} have {given.shape[2]} codebooks, not {num_codebooks}.")
    counts = [given.shape[1]] * len(given) if own_lengths is None else own_lengths
    flat = [row[:count].flatten() for row, count in zip(given, counts, strict=True)]
    tokens = range(offset, offset + codebook_size * num_codebooks)
    special = _named(special_ids, "special_ids", tokens).tolist()
    special += [] if pad_id is None else _named([pad_id], "pad_id", tokens).tolist()
    rows, dropped, ends = cut_llm_ids(flat, tokens=tokens, eos_id=eos_id, special_ids=special)
    if num_codebooks == 1:
        return [row - offset for row in rows], dropped, ends
    items = []
    for item, row in enumerate(rows):
        codes = row - offset
        due = torch.arange(len(codes), device=codes.device) % num_codebooks
        strays = (codes // codebook_size != due).nonzero()
        if len(strays):
            at = int(strays[0])
            raise TokenError(
                f"token {at} of item {item}, the id {int(row[at])}, is of codebook {int(codes[at]) // codebook_size} "
                f"where one of codebook {int(due[at])} is due: the {num_codebooks} codebooks take turns."
            )
        if len(codes) % num_codebooks:
            raise TokenError(
                f"item {item} has {len(codes)} tokens, which is no whole number of {num_codebooks} codebooks: cut the "
                f"last {len(codes) % num_codebooks} off, or generate the rest."
            )
        items.append((codes % codebook_size).reshape(-1, num_codebooks))
    return items, dropped, ends


def shifted(
    base: int,
    amount: int,
    present_pad: int | None,
    pad_id: int | None,
    *,
    codebook_size: int,
    books: int,
    vocab_size: int | None,
) -> tuple[int, int | None]:
    """Return the base and padding id of tokens that `Tokens.offset` shifts by `amount` more.

    Raises:
        TokenError: As `Tokens.offset` says.
    """
    try:
        amount = operator.index(amount)
    except TypeError:
        raise TokenError(f"an offset is an integer, got {amount!r}.") from None
    before, base = base, base + amount
    if amount == 0 == before and books > 1:
        raise TokenError(
            f"an offset of 0 would leave the ids of {books} codebooks on top of each other: reserve at least one "
            "id before them, and use an offset of 1 or more."
        )
    if base < 0:
        raise TokenError(f"an offset of {amount} would make ids negative: these tokens are shifted by {before}.")
    span = codebook_size * (books if base else 1)
    limit = _MAX_VOCABULARY if vocab_size is None else min(vocab_size, _MAX_VOCABULARY)
    if base + span > limit:
        room = f", or choose an offset of at most {limit - span - before}" if limit >= span else ""
        raise TokenError(
            f"ids shifted by {base} reach {base + span - 1}, past the vocabulary's last id {limit - 1}: enlarge "
            f"the vocabulary to {base + span}{room}."
        )
    pad_id = present_pad if pad_id is None and base else pad_id
    if pad_id is not None:
        pad_id = int(_named([pad_id], "pad_id", range(base, base + span)))
        if pad_id >= limit:
            raise TokenError(f"pad_id {pad_id} is past the vocabulary's last id {limit - 1}.")
    return base, pad_id


def _named(ids: Iterable[Any], name: str, tokens: range) -> Tensor:
    """Return ids that are told apart from tokens, int64 (N,)."""
    try:
        marks = [operator.index(mark) for mark in ids]
        named = torch.tensor(marks, dtype=torch.int64, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TokenError(f"{name} must be integers, got {ids!r:.80}.") from error
    taken = next((mark for mark in marks if mark in tokens), None)
    if taken is not None:
        raise TokenError(
            f"{name} {taken} is the id of a token, which are {tokens.start} … {tokens.stop - 1}: choose one outside."
        )
    return named


def _layout(llm_vocab_size: int, codebook_size: int, order: str, skip: int) -> tuple[int, int]:
    """Return the id of code 0, and the distance to that of code 1."""
    if order not in ("reversed", "forward"):
        raise ConfigError(f"order must be 'reversed' or 'forward', got {order!r}.")
    if codebook_size < 1 or skip < 0:
        raise ConfigError(f"codebook_size must be 1 or more and skip 0 or more, got {codebook_size} and {skip}.")
    if codebook_size + skip > llm_vocab_size:
        raise ConfigError(
            f"{codebook_size} codes and {skip} skipped ids do not fit into a vocabulary of {llm_vocab_size}: enlarge "
            f"it to {codebook_size + skip} or more."
        )
    end = llm_vocab_size - skip
    return (end - 1, -1) if order == "reversed" else (end - codebook_size, 1)


def _checked(ids: Any) -> Tensor:
    try:
        values = ids if isinstance(ids, Tensor) else torch.as_tensor(ids, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TokenError(f"ids must be integers in a tensor, an array or nested lists, got {ids!r:.80}.") from error
    if values.numel() and values.dtype not in _INTEGERS:
        raise TokenError(f"ids must be integers, got {values.dtype}; a model's logits need an argmax first.")
    return values.to(torch.int64)
