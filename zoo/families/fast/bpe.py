"""FAST's quantizer: rounding, and byte-pair encoding of the rounded coefficients written as text.

Each rounded coefficient, less the smallest one of the data, is taken for a Unicode code point. A chunk becomes a
string, its UTF-8 bytes are what the byte-level BPE of text models compresses, and frequent runs of coefficients, above
all of zeros, become single tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from zoo.components.exact.precision import KeepsPrecision
from zoo.errors import CheckpointError, InputError, MissingExtraError, NotFittedError
from zoo.families.fast.vocabulary import checked_vocabulary

__all__ = ["FAR_OUTSIDE", "MAX_CODE", "CoefficientBpe"]

MAX_CODE = 0xD7FF
"""The last code point before the surrogates, which no text can hold. U+FFFD, a broken byte's mark, is above it."""

FAR_OUTSIDE = (
    "The actions are far outside the normalised range of -1 … 1: check their unit, or fit on data like them (with "
    "wider action_quantiles if they have outliers)."
)
"""What to say of actions that are too large to be encoded."""


class CoefficientBpe(KeepsPrecision):
    """Coefficients ↔ integers ↔ ids.

    Args:
        scale: What coefficients are multiplied by before rounding.
        codebook_size: V, the most ids that the vocabulary can have.

    Attributes:
        min_token: The integer that is written as code point 0, () int64. Smaller ones are raised to it.
    """

    min_token: Tensor

    def __init__(self, scale: float, codebook_size: int) -> None:
        super().__init__()
        self.scale = scale
        self.codebook_size = codebook_size
        self.register_buffer("min_token", torch.zeros((), dtype=torch.int64))
        self._bpe: Any = None
        self._json = ""
        self._pieces: list[bytes | None] = []

    @property
    def is_set(self) -> bool:
        """Whether there is a vocabulary."""
        return self._bpe is not None

    def forward(self, x: Tensor) -> tuple[Tensor, list[list[int]]]:
        """Quantise coefficients (C, T, D): return the rounded ones, in units of x, and each chunk's ids."""
        integers = self.round(x)
        return self.values(integers.clamp(min=int(self.min_token))).to(x.dtype), self.ids(integers)

    def round(self, x: Tensor) -> Tensor:
        """Return scale · x rounded half to even, int64."""
        return (x.double() * self.scale).round_().to(torch.int64)

    def values(self, integers: Tensor) -> Tensor:
        """Undo `round`, float64."""
        return integers.double() / self.scale

    def is_clipped(self, integers: Tensor) -> Tensor:
        """Return which integers are below `min_token` and would be raised to it, bool."""
        return integers < self.min_token

    def ids(self, integers: Tensor) -> list[list[int]]:
        """Return the ids of each chunk (C, T, D) of integers, low frequencies first.

        Raises:
            InputError: An integer is too large to be written as text.
        """
        # "fast" is without offsets into the text; the ids are the same.
        encodings = self._require_bpe().encode_batch_fast(self._texts(integers))
        return [encoding.ids for encoding in encodings]

    def integers(self, ids: Sequence[int]) -> tuple[np.ndarray, bool]:
        """Undo `ids` for one sequence of any number of chunks.

        Returns:
            The integers (n,) int64, and whether every id could be read. Where bytes form no character the integer is 0;
            such places, and a wrong n, mean that the sequence is malformed.
        """
        self._require_bpe()
        pieces = [self._pieces[i] for i in ids]
        data = b"".join(piece for piece in pieces if piece is not None)
        is_readable = None not in pieces
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = data.decode(errors="replace")
        codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.int64)
        broken = codes > MAX_CODE
        return np.where(broken, 0, codes + int(self.min_token)), is_readable and not broken.any()

    def fit(self, integers: Tensor, variant: Literal["parity", "safe"], margin: float) -> None:
        """Learn the vocabulary from chunks (C, T, D) of integers. The same chunks give the same vocabulary.

        Raises:
            InputError: The integers span more than the vocabulary can hold.
        """
        library = _library()
        low, high = int(integers.min()), int(integers.max())
        if variant == "safe":
            low -= math.ceil(margin * max(high - low, 1))
            alphabet = library.pre_tokenizers.ByteLevel.alphabet()
        else:
            # The released processor's: these are characters, while the text is in bytes under other names, so that most
            # of them are never used and bytes that the data lacks are missing.
            alphabet = [chr(code) for code in range(min(high - low, MAX_CODE) + 1)]
        self.min_token.fill_(low)
        bpe = library.Tokenizer(library.models.BPE())
        bpe.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=variant == "parity")
        bpe.decoder = library.decoders.ByteLevel()
        bpe.post_processor = library.processors.ByteLevel(trim_offsets=False)  # of offsets, which nobody reads
        trainer = library.trainers.BpeTrainer(
            vocab_size=self.codebook_size,
            min_frequency=2,
            show_progress=False,
            special_tokens=[],
            initial_alphabet=alphabet,
            max_token_length=10000,
        )
        bpe.train_from_iterator(self._texts(integers), trainer=trainer)
        if bpe.get_vocab_size() > self.codebook_size:
            raise InputError(
                f"the data's coefficients go from {low} to {high} after scaling by {self.scale:g}, which takes a "
                f"vocabulary of {bpe.get_vocab_size()} before any two are joined: raise bpe_vocab_size above that, "
                "lower scale, or take wider action_quantiles if outliers are the cause."
            )
        self.load(bpe.to_str())

    def load(self, text: str) -> None:
        """Take over a `tokenizer.json` of the library `tokenizers`.

        Raises:
            CheckpointError: It is not a byte-level BPE, or asks for more than that; see `checked_vocabulary`.
        """
        library = _library()
        vocabulary = checked_vocabulary(text, self.codebook_size)
        try:
            bpe = library.Tokenizer.from_str(text)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library raises bare Exception, and panics, which are none
            raise CheckpointError(f"tokenizer.json cannot be read by the library tokenizers: {error}.") from error
        self._bpe, self._json = bpe, text
        pieces = _bytes_of(vocabulary)
        self._pieces = [pieces.get(i) for i in range(self.codebook_size)]

    def to_json(self) -> str:
        """Return what `load` takes."""
        self._require_bpe()
        return self._json

    def _texts(self, integers: Tensor) -> list[str]:
        codes = (integers - self.min_token).clamp_(min=0).flatten(1)
        if codes.numel() and int(codes.max()) > MAX_CODE:
            raise InputError(
                f"a coefficient is {int(integers.max())} after scaling by {self.scale:g}, where at most "
                f"{MAX_CODE + int(self.min_token)} can be written. {FAR_OUTSIDE}"
            )
        length = codes.shape[1]
        text = codes.cpu().numpy().astype("<u4").tobytes().decode("utf-32-le")
        return [text[start : start + length] for start in range(0, len(text), length)]

    def _require_bpe(self) -> Any:
        if self._bpe is None:
            raise NotFittedError("this FAST tokenizer has no vocabulary yet: call fit(episodes) first.")
        return self._bpe

    def extra_repr(self) -> str:
        """Return the sizes, for `repr`."""
        return f"scale={self.scale:g}, codebook_size={self.codebook_size}"


def _bytes_of(vocabulary: dict[str, int]) -> dict[int, bytes]:
    """Return the bytes that each id stands for.

    Byte-level BPE writes a byte as a printable character: itself where it is one in Latin-1, one from U+0100 on where
    it is not. Entries with other characters are never produced; the library reads them as plain text.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    glyphs = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    glyphs.update({chr(0x100 + place): byte for place, byte in enumerate(others)})
    return {
        number: bytes(glyphs[c] for c in entry) if all(c in glyphs for c in entry) else entry.encode()
        for entry, number in vocabulary.items()
    }


def _library() -> Any:
    """Import the library `tokenizers`, which is an optional dependency."""
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.processors
        import tokenizers.trainers
    except ImportError as error:
        raise MissingExtraError("FAST needs the package tokenizers: pip install 'tokenizer-zoo[actions]'.") from error
    return tokenizers
