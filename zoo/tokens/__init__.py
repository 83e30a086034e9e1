"""Tokens, latents and conditions, and what language models need of tokens: vocabularies, packed bits."""

from __future__ import annotations

from zoo.tokens.conditions import Conditions
from zoo.tokens.latents import Latents
from zoo.tokens.tokens import PAD_ID, Tokens
from zoo.tokens.vocabulary import Generated

__all__ = ["PAD_ID", "Conditions", "Generated", "Latents", "Tokens"]
