"""What a text encoder is to those who use it: captions to states, each of one caption alone, none computed twice."""

from __future__ import annotations

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from zoo.components.exact.one_by_one import canonical
from zoo.errors import InputError, shown

__all__ = ["TextEncoder", "TextStates", "digest", "padded"]

_REMEMBERED = 2**28  # bytes of states in memory
_FILE_VERSION = "1"  # of the folder of a cache


class TextStates(NamedTuple):
    """States of some captions.

    Attributes:
        states: (B, L, D) float32, zeros past a caption's end.
        mask: (B, L) bool, True at its tokens.
    """

    states: Tensor
    mask: Tensor


class TextEncoder(ABC):
    """A frozen network of text, or what it once said.

    States are rounded to half precision, whatever they were computed in, so that those of a file are bit for bit those
    of the network; they are computed a caption at a time, so that they depend on nothing but the caption. No gradient
    reaches the network, which is no module of whoever uses it.

    Args:
        name: What the states are of: the network and its weights. States of one name can stand for one another.
        dim: D, width of the states.
        max_length: The most tokens a caption may have, those that the network adds included.
        cache: A folder in which states are kept from run to run; in memory alone if None.
    """

    def __init__(self, name: str, dim: int, max_length: int, cache: str | Path | None = None) -> None:
        self.name = name
        self.dim = dim
        self.max_length = max_length
        self.cache = None if cache is None else Path(cache) / f"{re.sub(r'[^A-Za-z0-9._-]', '-', name)}.{_FILE_VERSION}"
        self._remembered: OrderedDict[str, Tensor] = OrderedDict()
        self._room = _REMEMBERED

    def encode(self, captions: Sequence[str], *, cut: bool = False) -> TextStates:
        """Return the states of captions, padded to the longest.

        Args:
            captions: Texts; "" is one as well, of the tokens that the network adds.
            cut: Take of a caption that is too long the words that fit, instead of refusing it.

        Raises:
            InputError: A caption is no text, or too long, or there is nothing that knows its states.
        """
        return padded(self.rows(captions, cut=cut), self.dim)

    def rows(self, captions: Sequence[str], *, cut: bool = False) -> list[Tensor]:
        """Return the states of each caption, (L, D) float32; arguments and errors as of `encode`."""
        checked = [self.fitted(caption) if cut else _text(caption) for caption in captions]
        known: dict[str, Tensor] = {}
        for caption in dict.fromkeys(checked):
            found = self._known(caption)
            if found is not None:
                known[caption] = found
        missing = [caption for caption in dict.fromkeys(checked) if caption not in known]
        if missing:
            for caption in missing:
                self._require_fits(caption, self._count(caption))
            for caption, states in zip(missing, self._computed(missing), strict=True):
                known[caption] = self._kept(caption, states)
        for caption, states in known.items():
            self._require_fits(caption, len(states))
        return [known[caption].float() for caption in checked]

    def fitted(self, caption: str) -> str:
        """Return a caption, or of one that is too long as many of its first words as fit.

        It is cut between words, so that what is left has the tokens that it had before.

        Raises:
            InputError: Not even one word fits.
        """
        if self._known(_text(caption)) is not None or self._count(caption) <= self.max_length:
            return caption
        words = caption.split()
        fewest, most = 0, len(words)  # words that fit, and that do not
        while most - fewest > 1:
            middle = (fewest + most) // 2
            if self._count(" ".join(words[:middle])) <= self.max_length:
                fewest = middle
            else:
                most = middle
        if not fewest:
            raise InputError(
                f"the first word of {shown(caption)} has more than {self.max_length} tokens, the most that are taken."
            )
        return " ".join(words[:fewest])

    @abstractmethod
    def _count(self, caption: str) -> int:
        """Return how many tokens a caption has."""

    @abstractmethod
    def _states(self, caption: str) -> Tensor:
        """Return the states of a caption, (L, D) in any floating dtype."""

    @property
    def device(self) -> torch.device:
        """Where states are computed."""
        return torch.device("cpu")

    def _computed(self, captions: Sequence[str]) -> list[Tensor]:
        """Return the states of captions that nobody knows yet."""
        return canonical(self.device, len(captions), lambda run: run(self._states, captions))

    def _require_fits(self, caption: str, count: int) -> None:
        if count > self.max_length:
            raise InputError(
                f"the caption {shown(caption)} has {count} tokens, and at most {self.max_length} are taken: shorten "
                "it, or ask for it to be cut (cut=True)."
            )

    def _known(self, caption: str) -> Tensor | None:
        """Return states in half precision that are in memory or in the cache."""
        key = digest(caption)
        if key in self._remembered:
            self._remembered.move_to_end(key)
            return self._remembered[key]
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            stored = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):  # cut off, or something else: it is written anew
            return None
        if stored.dtype != np.float16 or stored.ndim != 2 or stored.shape[1] != self.dim:
            return None
        return self._remember(key, torch.from_numpy(stored))

    def _kept(self, caption: str, states: Tensor) -> Tensor:
        """Round states, and keep them."""
        rounded = states.detach().to("cpu", torch.float16)
        if rounded.ndim != 2 or rounded.shape[1] != self.dim or not bool(rounded.isfinite().all()):
            raise InputError(
                f"{self.name} makes states of the shape {tuple(rounded.shape)} of {shown(caption)}, and finite ones "
                f"(L, {self.dim}) are needed."
            )
        key = digest(caption)
        if (path := self._path(key)) is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}.part")
            with part.open("wb") as file:
                np.save(file, rounded.numpy(), allow_pickle=False)
            part.replace(path)  # so that another process sees all of it or nothing
        return self._remember(key, rounded)

    def _remember(self, key: str, states: Tensor) -> Tensor:
        self._remembered[key] = states
        self._room -= states.nbytes
        while self._room < 0 and len(self._remembered) > 1:
            self._room += self._remembered.popitem(last=False)[1].nbytes
        return states

    def _path(self, key: str) -> Path | None:
        return None if self.cache is None else self.cache / key[:2] / f"{key}.npy"


def digest(caption: str) -> str:
    """Return what a caption's states are filed under: the SHA-256 of its UTF-8, hexadecimal."""
    return hashlib.sha256(caption.encode("utf-8", "surrogatepass")).hexdigest()


def padded(rows: Sequence[Tensor], dim: int) -> TextStates:
    """Return states (L, D) of several captions as one batch; there is room for one state at least."""
    longest = max([1, *map(len, rows)])
    device = rows[0].device if rows else torch.device("cpu")
    states = torch.zeros(len(rows), longest, dim, dtype=torch.float32, device=device)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool, device=device)
    for number, row in enumerate(rows):
        states[number, : len(row)] = row
        mask[number, : len(row)] = True
    return TextStates(states, mask)


def _text(caption: str) -> str:
    if not isinstance(caption, str):
        raise InputError(f"a caption is a text, got {shown(caption)} ({type(caption).__name__}).")
    return caption
