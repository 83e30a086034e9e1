"""Tokens and what language models need of them: vocabularies, packed bits."""

from __future__ import annotations

from zoo.tokens.tokens import PAD_ID, Tokens

__all__ = ["PAD_ID", "Tokens"]
