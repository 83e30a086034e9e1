"""States of captions in a file: what a text encoder said once, for those who do not have it.

The file is safetensors. Each tensor, float16 (L, D), is named by the digest of its caption (`base.digest`); the uint8
tensor `about` is JSON: `encoder`, the name of what the states are of, and `captions`, those that may be told.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from zoo.components.text.base import TextEncoder, digest
from zoo.errors import CheckpointError, InputError, near_matches, shown
from zoo.resources import expanded
from zoo.strict import is_file, parse_json

__all__ = ["KnownCaptions", "Precomputed"]

_ABOUT = "about"


@dataclass(frozen=True)
class KnownCaptions:
    """States of some captions.

    Attributes:
        states: (L, D) float16 by digest of the caption.
        encoder: Name of what they are of, "" if there are none.
        captions: The captions themselves, as far as they may be told.
    """

    states: Mapping[str, Tensor] = field(default_factory=dict)
    encoder: str = ""
    captions: tuple[str, ...] = ()

    @classmethod
    def of(cls, encoder: TextEncoder, captions: Iterable[str]) -> KnownCaptions:
        """Return the states of captions, as an encoder makes them.

        Raises:
            InputError: As of `TextEncoder.encode`.
        """
        texts = tuple(dict.fromkeys(captions))
        rows = encoder.rows(texts)
        return cls({digest(text): row.half() for text, row in zip(texts, rows, strict=True)}, encoder.name, texts)

    @classmethod
    def from_bytes(cls, content: bytes, where: str = "the captions") -> KnownCaptions:
        """Read a file's content.

        Raises:
            CheckpointError: It is damaged, or something else.
        """
        try:
            tensors = load(content)
        except (SafetensorError, ValueError, TypeError) as error:
            raise CheckpointError(f"{where} cannot be read as safetensors: {error}.") from error
        about = tensors.pop(_ABOUT, None)
        if about is None or about.dtype != torch.uint8:
            raise CheckpointError(f"{where} lack the tensor {_ABOUT!r}, and are no states of captions.")
        told = parse_json(bytes(about.tolist()).decode("utf-8", "replace"), where, CheckpointError)
        encoder, captions = told.get("encoder"), told.get("captions")
        is_list = isinstance(captions, list) and all(isinstance(text, str) for text in captions)
        if not isinstance(encoder, str) or not is_list:
            raise CheckpointError(f"{where} must tell their encoder and captions, got {shown(told)}.")
        widths = {tensor.shape[1] if tensor.ndim == 2 else 0 for tensor in tensors.values()}
        kinds = {tensor.dtype for tensor in tensors.values()}
        if widths and (len(widths) > 1 or 0 in widths or kinds != {torch.float16}):
            raise CheckpointError(f"{where} must be float16 (L, D) of one width, got {sorted(map(str, kinds))}.")
        if not all(bool(tensor.isfinite().all()) and len(tensor) for tensor in tensors.values()):
            raise CheckpointError(f"{where} have states that are empty, NaN or infinite.")
        return cls(tensors, encoder, tuple(captions or ()))

    @classmethod
    def from_file(cls, path: str | Path) -> KnownCaptions:
        """Read a file.

        Raises:
            CheckpointError: It is missing, damaged, or something else.
        """
        place = expanded(path, CheckpointError)
        if not is_file(place):
            raise CheckpointError(f"{place} is not a file: give that of precomputed states of captions.")
        return cls.from_bytes(place.read_bytes(), str(place))

    def to_bytes(self) -> bytes:
        """Return the content of the file, the same for the same captions."""
        told = json.dumps({"captions": list(self.captions), "encoder": self.encoder}, ensure_ascii=False).encode()
        about = torch.frombuffer(bytearray(told), dtype=torch.uint8)
        rows = {key: self.states[key].contiguous() for key in sorted(self.states)}
        content: bytes = save({_ABOUT: about, **rows})
        return content

    def __len__(self) -> int:
        return len(self.states)

    def get(self, caption: str) -> Tensor | None:
        """Return the states of a caption, (L, D) float16, if they are here."""
        return self.states.get(digest(caption))


class Precomputed(TextEncoder):
    """The states of a file, and of no other captions.

    Args:
        known: The states.
        dim: Width they must have.
        max_length: As of `TextEncoder`.
        remedy: What to do about other captions, for error messages.

    Raises:
        CheckpointError: They are of another width.
    """

    def __init__(
        self,
        known: KnownCaptions,
        dim: int,
        max_length: int = 128,
        remedy: str = "add it to the file, or name an encoder that reads it",
    ) -> None:
        widths = {states.shape[1] for states in known.states.values()}
        if widths - {dim}:
            raise CheckpointError(f"states of captions must be {dim} wide, those given are {max(widths)}.")
        super().__init__(known.encoder or "precomputed", dim, max_length)
        self.known = known
        self.remedy = remedy

    def _known(self, caption: str) -> Tensor | None:
        return self.known.get(caption)

    def _count(self, caption: str) -> int:
        return len(self._states(caption))

    def _states(self, caption: str) -> Tensor:
        states = self.known.get(caption)
        if states is None:
            told = f"; {near_matches(caption[:80], self.known.captions)}" if self.known.captions else ""
            raise InputError(f"there are no states of the caption {shown(caption)} here: {self.remedy}{told}")
        return states

    def _computed(self, captions: Sequence[str]) -> list[Tensor]:
        return [self._states(caption) for caption in captions]
