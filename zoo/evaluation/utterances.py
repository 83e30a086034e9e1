"""The utterances of a manifest that a suite measures on."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from zoo.data.audio import read_audio
from zoo.data.manifest import Utterance
from zoo.errors import InputError

__all__ = ["choose", "key", "read_wave"]


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
    return int.from_bytes(hashlib.sha256(path.as_posix().encode()).digest()[:8])


def read_wave(utterance: Utterance, sample_rate: int) -> Tensor:
    """Return the sound of an utterance, (samples,).

    Raises:
        InputError: It is not mono at the suite's rate.
    """
    channels, rate = read_audio(utterance.path)
    if rate != sample_rate or len(channels) != 1:
        raise InputError(
            f"{utterance.path} has {len(channels)} channel(s) at {rate} Hz: the suite's data must be mono at "
            f"{sample_rate} Hz. Convert it first."
        )
    return channels[0]
