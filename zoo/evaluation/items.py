"""What suites of all kinds have: where data is cached, how intervals are made, and what is measured."""

from __future__ import annotations

from dataclasses import dataclass

import zoo
from zoo.errors import InputError
from zoo.resources import cache
from zoo.tokenizer import Tokenizer

__all__ = ["Bootstrap", "cache", "load_for"]


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made."""

    num_resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0


def load_for(name: str, modality: str) -> Tokenizer:
    """Load a model for a suite.

    Raises:
        InputError: It tokenizes something else.
    """
    tokenizer = zoo.load(name)
    if tokenizer.spec.modality != modality:
        raise InputError(f"{name} tokenizes {tokenizer.spec.modality}, this suite is for {modality}.")
    return tokenizer
