"""Captions as tokens of a transformer, and what a tokenizer knows of captions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.components.layers.start import start_table
from zoo.components.text import KnownCaptions, TextEncoder, TextStates, build, padded
from zoo.errors import InputError, MissingExtraError, ZooError, shown
from zoo.families.textok.config import TexTokConfig
from zoo.tokens import Conditions

__all__ = ["Captions", "TextTokens"]


class TextTokens(nn.Module):
    """States of captions (B, L, text_dim) → tokens (B, L, width), and which of them count.

    Encoder and decoder have one each. A caption without any states is none: its place is taken by one learned token.

    Args:
        config: Sizes and options.
        width: Of the tokens.

    Attributes:
        norm: Of the states; the identity if there is none.
        project: States → tokens.
        null: (width,), the token of no caption; None if training shows every item with its caption.
        positions: (text_len, width), added to the tokens; None if there are none, since states know their order.
    """

    def __init__(self, config: TexTokConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(config.text_dim, eps=config.norm_eps) if config.text_norm else nn.Identity()
        self.project = nn.Linear(config.text_dim, width)
        self.null = start_table((width,), config.token_std) if config.null_rate else None
        self.positions = start_table((config.text_len, width)) if config.positions == "all" else None

    def forward(self, text: TextStates) -> tuple[Tensor, Tensor | None]:
        """Return tokens (B, L, width), and bool (B, L) where they count, None if all do.

        Args:
            text: The states. L is at most `text_len`, and that if padding is not hidden.
        """
        states, valid = text.states.to(self.project.weight.dtype), text.mask
        has_caption = valid.any(1)
        if not self.config.mask_padding:
            states = F.pad(states, (0, 0, 0, self.config.text_len - states.shape[1]))
            valid = has_caption[:, None].expand(-1, states.shape[1])
        tokens = self.project(self.norm(states))
        if self.positions is not None:
            tokens = tokens + self.positions[: tokens.shape[1]]
        if self.null is not None:
            tokens = torch.where(has_caption[:, None, None], tokens, self.null.to(tokens.dtype))
            first = torch.arange(tokens.shape[1], device=valid.device) == 0
            valid = valid | (first & ~has_caption[:, None])
        return tokens, None if bool(valid.all()) else valid


class Captions:
    """What a tokenizer knows of captions: states that came with it, and an encoder for all others.

    The encoder is built when a caption is met whose states are not known.

    Args:
        config: Says which encoder.

    Attributes:
        known: Captions whose states came with the tokenizer.
        cache: A folder where the encoder keeps states from run to run; in memory alone if None.
    """

    def __init__(self, config: TexTokConfig) -> None:
        self.config = config
        self.known = KnownCaptions()
        self.cache: str | None = None
        self._encoder: TextEncoder | None = None
        self._has_warned = False

    @property
    def encoder(self) -> TextEncoder:
        """The encoder; another one may be set.

        Raises:
            MissingExtraError: A package is not installed.
            CheckpointError: Its files are missing or damaged.
        """
        if self._encoder is None:
            self._encoder = build(self.config.text, self.config.text_len, cache=self.cache)
        return self._encoder

    @encoder.setter
    def encoder(self, encoder: TextEncoder) -> None:
        self._encoder = encoder

    def rows(self, captions: Sequence[str]) -> list[Tensor]:
        """Return the states of captions, (L, text_dim) each; none of "" where no caption is learned.

        Raises:
            InputError: A caption is too long, or there is nothing that knows its states.
            ZooError: As of `encoder`, with the captions whose states are known.
        """
        missing: list[str] = []
        found: dict[str, Tensor] = {}
        for caption in dict.fromkeys(captions):
            if not caption and self.config.null_rate:
                found[caption] = torch.zeros(0, self.config.text_dim, dtype=torch.float32, device="cpu")
            elif (states := self.known.get(caption)) is not None:
                found[caption] = states.float()
            else:
                missing.append(caption)
        if missing:
            found |= zip(missing, self._asked().rows(missing), strict=True)
        return [found[caption] for caption in captions]

    def fitted(self, captions: Sequence[str]) -> tuple[str, ...]:
        """Return captions, of those that are too long the first words that fit."""
        return tuple(c if self.known.get(c) is not None else self._asked().fitted(c) for c in captions)

    def conditions(self, caption: Any, states: Any, mask: Any, cut: bool, batch: int) -> Conditions | None:
        """Return what a caller says of a batch's captions, checked; None if nothing.

        Args:
            caption: One for all, or one an item, "" for none.
            states: (B, L, text_dim), or a list of (L, text_dim), in place of captions.
            mask: Bool (B, L), where states count.
            cut: Take of captions that are too long the words that fit.
            batch: B.

        Raises:
            InputError: It is of the wrong kind, number or shape.
        """
        if caption is not None and states is not None:
            raise InputError("pass captions or their states, not both.")
        if mask is not None and (states is None or not isinstance(states, Tensor)):
            raise InputError("a mask belongs to states (B, L, D): pass them together.")
        if states is not None:
            return self._given(states, mask, batch)
        if caption is None:
            return None
        texts = (caption,) * batch if isinstance(caption, str) else caption
        if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
            raise InputError(f"captions are a text, or a list of them, one an item, got {shown(caption)}.")
        if len(texts) != batch:
            raise InputError(f"{batch} images need as many captions, or a single one for all, got {len(texts)}.")
        return Conditions(self.fitted(texts) if cut else tuple(texts))

    def rows_of(self, conditions: Conditions | None, batch: int) -> list[Tensor]:
        """Return the states of a batch's conditions, (L, text_dim) each, none where there is no caption."""
        if conditions is None:
            if not self.config.null_rate:
                self._warn()
            return self.rows([""] * batch)
        if conditions.states is None:
            if "" in (conditions.captions or ()) and not self.config.null_rate:
                self._warn()
            return self.rows(conditions.captions or ())
        rows = [row.float().cpu() for row in conditions.rows()]
        widths = {row.shape[1] for row in rows}
        if widths - {self.config.text_dim} or max(map(len, rows), default=0) > self.config.text_len:
            raise InputError(
                f"states of captions are {self.config.text_dim} wide, at most {self.config.text_len} a caption, got "
                f"{max(map(len, rows))} of the width {max(widths)}."
            )
        if not self.config.null_rate and not all(map(len, rows)):
            raise InputError("this model was trained with captions throughout: every item needs states.")
        return rows

    def batched(self, rows: Sequence[Tensor], device: torch.device) -> TextStates:
        """Return the states of several captions as one batch."""
        states, mask = padded(rows, self.config.text_dim)
        return TextStates(states.to(device), mask.to(device))

    def _given(self, states: Any, mask: Any, batch: int) -> Conditions:
        given = [states] if isinstance(states, Tensor) else states if isinstance(states, (list, tuple)) else [None]
        rows = [row for row in given if isinstance(row, Tensor)]
        if len(rows) < len(given) or not all(row.is_floating_point() and bool(row.isfinite().all()) for row in rows):
            raise InputError(f"states are finite tensors (B, L, D), or a list of (L, D), got {shown(states)}.")
        if not isinstance(states, Tensor):
            if any(row.ndim != 2 or row.shape[1] != self.config.text_dim for row in rows):
                raise InputError(f"states of an item are (L, {self.config.text_dim}).")
            states, mask = padded([row.detach().float().cpu() for row in rows], self.config.text_dim)
        if states.ndim != 3 or len(states) != batch or states.shape[2] != self.config.text_dim:
            raise InputError(
                f"states of {batch} images must be ({batch}, L, {self.config.text_dim}), got {tuple(states.shape)}."
            )
        if mask is not None and (
            not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != states.shape[:2]
        ):
            raise InputError(f"the mask must be bool {tuple(states.shape[:2])}, got {shown(mask)}.")
        longest = states.shape[1] if mask is None else int(mask.sum(1).max()) if mask.numel() else 0
        if longest > self.config.text_len:
            raise InputError(f"a caption has {longest} states, and at most {self.config.text_len} are taken.")
        return Conditions(states=states.detach(), mask=mask)

    def _asked(self) -> TextEncoder:
        try:
            return self.encoder
        except MissingExtraError as error:
            raise MissingExtraError(f"{error}{self._told()}") from error
        except ZooError as error:
            raise type(error)(f"{error}{self._told()}") from error

    def _told(self) -> str:
        """Return what is to be said of the captions that need no encoder."""
        texts = self.known.captions
        if not texts:
            return " Without it, pass states of captions instead (states=…)."
        some = ", ".join(map(repr, texts[:3]))
        return f" Without it there are the {len(texts)} captions whose states came with this model, such as {some}."

    def _warn(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                "this model was trained with a caption for every image: without one it is given that of an empty "
                "text, which it has never seen.",
                UserWarning,
                stacklevel=5,
            )
