"""What suites of all kinds have: where data is cached, how intervals are made, what is measured, and on which items."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import zoo
from zoo.errors import InputError
from zoo.resources import cache
from zoo.tokenizer import Tokenizer

__all__ = ["Bootstrap", "balanced", "cache", "load_for"]

T = TypeVar("T")


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made."""

    num_resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0


def load_for(name: str, modality: str, device: str = "cpu") -> Tokenizer:
    """Load a model for a suite.

    Raises:
        InputError: It tokenizes something else.
    """
    tokenizer = zoo.load(name, device=device)
    if tokenizer.spec.modality != modality:
        raise InputError(f"{name} tokenizes {tokenizer.spec.modality}, this suite is for {modality}.")
    return tokenizer


def balanced(items: Sequence[T], source: Callable[[T], str], key: Callable[[T], int], max_items: int | None) -> list[T]:
    """Return up to `max_items` items, as many of each source as there are, whatever order they are given in.

    Args:
        items: What to choose from.
        source: Where an item is from.
        key: A number that stands for an item, and orders what is returned.
        max_items: None is all.
    """
    by_source: dict[str, list[T]] = defaultdict(list)
    for item in sorted(items, key=key):
        by_source[source(item)].append(item)
    ranked = sorted((rank, name) for name, members in by_source.items() for rank in range(len(members)))
    return sorted((by_source[name][rank] for rank, name in ranked[:max_items]), key=key)
