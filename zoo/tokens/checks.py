"""What a caller hands to `decode`, or a file holds: are these tokens, and this tokenizer's?"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch

from zoo.errors import TokenError
from zoo.spec import TokenSpec
from zoo.tokens.tokens import Tokens

__all__ = ["checked_tokens", "require_lengths", "require_padding"]

# Padding is not in the file, so its size is bounded by nothing else: 2 GiB, or 16 times what the file holds.
_MAX_PADDED = 2**28
_MAX_PADDING_FACTOR = 16
_STEPS = {"action": "commands", "video": "frames"}


def checked_tokens(tokens: Any, lengths: Any, spec: TokenSpec, name: str) -> Tokens:
    """Return tokens, or bare ids with their lengths, as `Tokens` of the tokenizer `name` with the facts `spec`.

    Raises:
        TokenError: Ids out of range, of the wrong rank or number of codebooks, shifted, or another model's.
    """
    if spec.codebook_size is None:
        raise TokenError(f"{name} is continuous and has no ids: use decode_latents, and encode_latents before it.")
    if isinstance(tokens, Tokens):
        if lengths is not None:
            raise TokenError("lengths are part of Tokens: pass them only with bare ids.")
        tokens.require_unshifted("decode")
        if tokens.model and tokens.model != name:
            raise TokenError(
                f"these tokens were made by {tokens.model!r}, this tokenizer is {name!r}: decode them with "
                f"zoo.load({tokens.model!r})."
            )
        if tokens.codebook_size != spec.codebook_size:
            raise TokenError(
                f"these tokens have a codebook of {tokens.codebook_size}, {name} has one of {spec.codebook_size}."
            )
        # The ids may have been edited, or built without checks; a bad id must not become an index.
        checked = tokens
        if not _is_plausible(tokens):
            checked = Tokens.from_ids(
                tokens.ids,
                codebook_size=tokens.codebook_size,
                lengths=tokens.lengths,
                model=tokens.model,
                grid=tokens.grid,
                signal_lengths=tokens.signal_lengths,
                conditions=tokens.conditions,
            )
    else:
        checked = Tokens.from_ids(tokens, codebook_size=spec.codebook_size, lengths=lengths, model=name)
    if checked.num_codebooks != spec.num_codebooks or checked.ids.ndim != 2 + (spec.num_codebooks > 1):
        shape = "(B, T)" if spec.num_codebooks == 1 else f"(B, T, {spec.num_codebooks})"
        raise TokenError(
            f"{name} has {spec.num_codebooks} codebook(s), these ids have the shape {tuple(checked.ids.shape)}: "
            f"expected {shape}."
        )
    return checked


def require_padding(padded: int, size: int) -> None:
    """Raise `TokenError` if items are so unequal that a file of them could not be read again."""
    if padded > max(_MAX_PADDED, _MAX_PADDING_FACTOR * size):
        raise TokenError(
            f"padded to the longest item, {size} ids would become {padded}, which is not read: put long and short "
            "items in files of their own."
        )


def require_lengths(spec: TokenSpec, lengths: np.ndarray, signal: np.ndarray | None) -> None:
    """Raise `TokenError` if items have other numbers of ids than signals of their lengths give."""
    rank = {"action": 2, "video": 3}.get(spec.modality)  # of the size of a chunk or window
    if signal is None or rank is None or spec.num_tokens is None or len(spec.input_size or ()) != rank:
        return
    if spec.modality == "video" and spec.is_ordered:  # whose tokens may be a prefix
        return
    wanted = -(-signal // cast("tuple[int, ...]", spec.input_size)[0]) * spec.num_tokens
    if (wanted != lengths).any():
        item = int(np.flatnonzero(wanted != lengths)[0])
        raise TokenError(
            f"item {item} has {int(lengths[item])} ids, and its {int(signal[item])} {_STEPS[spec.modality]} give "
            f"{int(wanted[item])}."
        )


def _is_plausible(tokens: Tokens) -> bool:
    """Whether every id is in the codebook and every length within the ids."""
    ids, lengths = tokens.ids, tokens.lengths
    if ids.dtype != torch.int64 or ids.ndim not in (2, 3) or lengths.shape != ids.shape[:1]:
        return False
    bounds = [(ids, tokens.codebook_size - 1), (lengths, ids.shape[1])]
    return all(int(low) >= 0 and int(high) <= most for x, most in bounds if x.numel() for low, high in [x.aminmax()])
