"""Where a tokenizer's codes lie in the vocabulary of a language model whose last ids are given up for them."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from zoo.errors import ConfigError, TokenError

__all__ = ["from_llm_ids", "to_llm_ids"]

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


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
            f"{int(words[wrong][0])}: cut words, separators and end-of-sequence marks off first, and restrict sampling "
            "to the codes."
        )
    return codes


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
