"""The utterances of a manifest that a suite measures on."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from zoo.data.manifest import Utterance

__all__ = ["choose", "key"]


def choose(utterances: Sequence[Utterance], folder: Path, max_items: int | None) -> list[Utterance]:
    """Return up to `max_items` utterances, as many of each source as there are, whatever order they are given in.

    Args:
        utterances: What to choose from.
        folder: Where their paths start; what lies in it under the same name is the same utterance elsewhere.
        max_items: None is all.
    """
    by_source: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in sorted(utterances, key=lambda utterance: key(utterance, folder)):
        by_source[utterance.source].append(utterance)
    ranked = sorted((rank, source) for source, members in by_source.items() for rank in range(len(members)))
    taken = [by_source[source][rank] for rank, source in ranked[:max_items]]
    return sorted(taken, key=lambda utterance: key(utterance, folder))


def key(utterance: Utterance, folder: Path) -> int:
    """Return a number that stands for an utterance, wherever its folder is."""
    path = utterance.path.relative_to(folder) if utterance.path.is_relative_to(folder) else utterance.path
    name = path.as_posix() + (f"@{utterance.offset!r}" if utterance.offset else "")
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
