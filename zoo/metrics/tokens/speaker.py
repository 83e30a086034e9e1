"""Whether tokens of a sentence stay the same whoever speaks.

STAB-style speaker invariance: specification of STAB (arXiv 2409.02384), section 3.1. The paper's distance, data and
normalisation are unknown. Chosen here: `similarities` of pairs of recordings of one text by different speakers,
averaged within each text first, so that one which many have read weighs no more, then over texts; the floor is that of
pairs of other texts and other speakers of about the same duration.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.errors import InputError
from zoo.metrics.tokens.similarity import MEASURES, chance_corrected, similarities
from zoo.metrics.tokens.streams import Units, key, labelled
from zoo.process.random import derive_seed

__all__ = ["speaker_invariance", "speaker_similarities"]

_CLOSE = 0.2  # durations of a mismatched pair differ by at most this share of the longer


class _Recording(NamedTuple):
    text: int
    speaker: int
    microseconds: int
    ids: list[int]


def speaker_similarities(
    units: Units, texts: Sequence[str], speakers: Sequence[str], *, max_pairs: int = 200, seed: int = 0
) -> Tensor:
    """Return how alike the tokens of each text are when others speak, for `bootstrap_interval` over texts.

    Args:
        units: Tokens of N recordings, one codebook.
        texts: What is said, N; what is equal is compared.
        speakers: Who says it, N.
        max_pairs: Of a text with more pairs so many are drawn.
        seed: Of the draw, which depends on nothing else but the text and its recordings, in whatever order.

    Returns:
        float64 [G, 3], the mean of `MEASURES` for each of the G texts by several speakers.

    Raises:
        InputError: There are not as many texts or speakers as recordings, or max_pairs is below 1.
    """
    streams = labelled(units, texts=texts, speakers=speakers)
    recordings = [
        _Recording(key(text), key(speaker), 0, ids) for text, speaker, ids in zip(texts, speakers, streams, strict=True)
    ]
    return torch.from_numpy(_by_text(recordings, _other_speakers, max_pairs, seed))


def speaker_invariance(
    units: Units,
    texts: Sequence[str],
    speakers: Sequence[str],
    durations: Sequence[float],
    *,
    max_pairs: int = 200,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Measure how far tokens of a text are the same whoever speaks.

    Args:
        units: Tokens of N recordings, one codebook.
        texts: What is said, N.
        speakers: Who says it, N.
        durations: Seconds, N.
        max_pairs: Of a text with more pairs so many are drawn; of mismatched pairs so many a text.
        seed: Of the draws, which do not depend on the order of recordings.

    Returns:
        For each of `MEASURES` (`collapsed` is the one to quote) `similarity_…` of texts by different speakers,
        `floor_…` of other texts by other speakers whose durations differ by at most a fifth, `index_…`, the former
        corrected for chance by the latter, and `repeated_…` of takes of one text by one speaker, the most that can be
        hoped for; and `num_texts`, by several speakers. What there is no pair for is NaN, and so is an index where the
        floor is 1.

    Raises:
        InputError: There is not one of everything for each recording, a duration is not above 0, or max_pairs is below
            1.
    """
    streams = labelled(units, texts=texts, speakers=speakers, durations=durations)
    return _result(_recordings(streams, texts, speakers, durations), max_pairs, seed)


def _recordings(
    streams: list[list[int]], texts: Sequence[str], speakers: Sequence[str], durations: Sequence[float]
) -> list[_Recording]:
    for duration in durations:
        if not (math.isfinite(duration) and duration > 0):
            raise InputError(f"durations must be seconds above 0, got {duration!r}.")
    return [
        _Recording(key(text), key(speaker), round(duration * 1e6), ids)
        for text, speaker, duration, ids in zip(texts, speakers, durations, streams, strict=True)
    ]


def _result(recordings: list[_Recording], max_pairs: int, seed: int) -> dict[str, Tensor]:
    related = _by_text(recordings, _other_speakers, max_pairs, seed)
    repeated = _by_text(recordings, _same_speaker, max_pairs, seed)
    floor = _mean(_measured(_draw(list(_mismatched(recordings)), max_pairs * max(1, len(related)), seed)))
    similarity, best = _mean(related), _mean(repeated)
    figures = {"num_texts": float(len(related))}
    for number, name in enumerate(MEASURES):
        figures[f"similarity_{name}"] = similarity[number]
        figures[f"floor_{name}"] = floor[number]
        figures[f"index_{name}"] = chance_corrected(similarity[number], floor[number])
        figures[f"repeated_{name}"] = best[number]
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()}


Pair = tuple[_Recording, _Recording]


def _by_text(
    recordings: list[_Recording], related: Callable[[Pair], bool], max_pairs: int, seed: int
) -> NDArray[np.float64]:
    """Return the mean similarities of the related pairs of each text that has any, [G, 3]."""
    if max_pairs < 1:
        raise InputError(f"max_pairs must be at least 1, got {max_pairs!r}.")
    texts: defaultdict[int, list[_Recording]] = defaultdict(list)
    for recording in sorted(recordings):  # neither order nor processes may change what is drawn
        texts[recording.text].append(recording)
    rows = []
    for text, members in texts.items():
        pairs = [pair for pair in combinations(members, 2) if related(pair)]
        if pairs:
            rows.append(_mean(_measured(_draw(pairs, max_pairs, derive_seed(seed, text)))))
    return np.array(rows, dtype=np.float64).reshape(-1, len(MEASURES))


def _other_speakers(pair: Pair) -> bool:
    return pair[0].speaker != pair[1].speaker


def _same_speaker(pair: Pair) -> bool:
    return pair[0].speaker == pair[1].speaker


def _mismatched(recordings: list[_Recording]) -> Iterator[Pair]:
    """Yield the pairs of other text and speaker and about the same duration."""
    by_duration = sorted(recordings, key=lambda recording: (recording.microseconds, recording))
    for number, short in enumerate(by_duration):
        for long in by_duration[number + 1 :]:
            if short.microseconds < (1 - _CLOSE) * long.microseconds:
                break
            if short.text != long.text and short.speaker != long.speaker:
                yield short, long


def _draw(pairs: list[Pair], most: int, seed: int) -> list[Pair]:
    if len(pairs) <= most:
        return pairs
    chosen = np.random.default_rng(seed).choice(len(pairs), most, replace=False)
    return [pairs[number] for number in chosen]


def _measured(pairs: list[Pair]) -> NDArray[np.float64]:
    rows = [similarities(first.ids, second.ids) for first, second in pairs]
    return np.array(rows, dtype=np.float64).reshape(-1, len(MEASURES))


def _mean(rows: NDArray[np.float64]) -> list[float]:
    return rows.mean(0).tolist() if len(rows) else [math.nan] * rows.shape[1]
