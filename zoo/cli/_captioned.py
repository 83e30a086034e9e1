"""What the demo shows of a tokenizer that reads captions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.spec import option_names
from zoo.tokenizer import Tokenizer

__all__ = ["captions_of", "with_captions"]


def captions_of(tokenizer: Tokenizer, file: Path) -> tuple[str, str] | None:
    """Return a sample's caption and another one, the lines of a file, for a tokenizer that reads captions, or None."""
    if "caption" not in option_names(tokenizer.encode_options):
        return None
    own, other = file.read_text(encoding="utf-8").splitlines()
    size = tokenizer.spec.input_size or (64, 64)
    try:  # of one that was made without text, or whose text encoder is not here, a photograph is enough
        _coders(tokenizer)[0](torch.zeros(1, 3, *size), caption=other)
    except ZooError:
        return None
    return own, other


def with_captions(
    tokenizer: Tokenizer, image: Tensor, own: str, other: str
) -> tuple[dict[str, Tensor], int, float, str]:
    """Return what becomes of a picture with its caption, without, and with another's; and how large its code is."""
    encode, decode = _coders(tokenizer)
    code = encode(image, caption=own)
    made = {
        f"“{own}”": decode(code),
        "without its caption": decode(encode(image, caption="")),
        f"decoded with “{other}”": decode(code, caption=other),
    }
    count = int(code.lengths.sum())
    bits = 32.0 * code.values.numel() if tokenizer.spec.is_continuous else float(code.num_bits.sum())
    remark = (
        f"{tokenizer.name}: the caption, {len(own.encode())} bytes, is not in the {bits / 8:.0f} bytes of the tokens, "
        "and is needed to decode them."
    )
    return made, count, bits, remark


def _coders(tokenizer: Any) -> tuple[Callable[..., Any], Callable[..., Tensor]]:
    """Return what encodes and what decodes, of a continuous tokenizer latents."""
    if tokenizer.spec.is_continuous:
        return tokenizer.encode_latents, tokenizer.decode_latents
    return tokenizer.encode, tokenizer.decode
