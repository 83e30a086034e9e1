"""Frozen text encoders: captions to the states of their tokens, computed once."""

from zoo.components.text.base import TextEncoder, TextStates, digest, padded
from zoo.components.text.kinds import MiniLMConfig, PrecomputedConfig, T5Config, TextEncoderConfig, build
from zoo.components.text.precomputed import KnownCaptions, Precomputed

__all__ = [
    "KnownCaptions",
    "MiniLMConfig",
    "Precomputed",
    "PrecomputedConfig",
    "T5Config",
    "TextEncoder",
    "TextEncoderConfig",
    "TextStates",
    "build",
    "digest",
    "padded",
]
