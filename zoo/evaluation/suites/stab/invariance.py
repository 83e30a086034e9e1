"""Speaker, context and language invariance of one stream of tokens."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.errors import InputError
from zoo.evaluation.figures import Sheet, figure, index, interval
from zoo.evaluation.report import Figure
from zoo.evaluation.subject import LARGEST_TABLE, Stream, Subject, seen_only
from zoo.evaluation.suites.stab.config import StabSuite
from zoo.evaluation.suites.stab.corpus import Recording
from zoo.metrics.tokens.context import ContextInvariance, Probe, probe_context
from zoo.metrics.tokens.language import bag_similarity, language_invariance, retrieval_rows
from zoo.metrics.tokens.similarity import MEASURES
from zoo.metrics.tokens.speaker import speaker_invariance, speaker_similarities
from zoo.metrics.tokens.streams import collapse_runs
from zoo.metrics.tokens.vocabulary import VocabularyUse

__all__ = ["MODES", "ContextTally", "language", "speaker"]

_ENDINGS = dict(zip(MEASURES, ("", "_raw", "_ngram"), strict=True))

MODES = ("both", "past", "future", "crop")
"""What is silenced beyond the context; the last is cut off instead."""


def speaker(units: Sequence[Tensor], recordings: Sequence[Recording], suite: StabSuite) -> Sheet:
    """Return the figures of `speaker_invariance`, over all sets and of each."""
    sets = sorted({recording.set for recording in recordings})
    sheet = _speaker(units, recordings, suite)
    for name in sets if len(sets) > 1 else []:
        places = [place for place, recording in enumerate(recordings) if recording.set == name]
        one = _speaker([units[place] for place in places], [recordings[place] for place in places], suite)
        sheet |= {f"{key}@{name}": one[key] for key in ("speaker_index", "speaker_similarity", "speaker_texts")}
    return sheet


def _speaker(units: Sequence[Tensor], recordings: Sequence[Recording], suite: StabSuite) -> Sheet:
    texts = [recording.text_id for recording in recordings]
    speakers = [recording.speaker for recording in recordings]
    durations = [len(recording.wave) / suite.data.sample_rate for recording in recordings]
    options = {"max_pairs": suite.max_pairs, "seed": suite.seed}
    found = {
        name: float(value) for name, value in speaker_invariance(units, texts, speakers, durations, **options).items()
    }
    rows = speaker_similarities(units, texts, speakers, **options).numpy()
    sheet = {"speaker_texts": Figure(found["num_texts"])}
    for column, (measure, ending) in enumerate(_ENDINGS.items()):
        similarity = interval(rows[:, column], suite.bootstrap, "no text is read by several speakers")
        floor = found[f"floor_{measure}"]
        sheet[f"speaker_index{ending}"] = index(similarity, floor)
        sheet[f"speaker_similarity{ending}"] = similarity
        sheet[f"speaker_floor{ending}"] = figure(floor, "no two recordings of other texts by others are as long")
        sheet[f"speaker_repeated{ending}"] = figure(found[f"repeated_{measure}"], "nobody reads a text twice")
    return sheet


def language(units: Sequence[Tensor], recordings: Sequence[Recording], stream: Stream, suite: StabSuite) -> Sheet:
    """Return the figures of `language_invariance`: of each set of sentences, and the mean of sets.

    The mean of all pairs of a set's languages is taken of each sentence first; it is sentences that are resampled.
    """
    units, vocab_size = seen_only(units, stream)
    sets: dict[str, dict[str, dict[str, Tensor]]] = defaultdict(lambda: defaultdict(dict))
    for ids, recording in zip(units, recordings, strict=True):
        sets[recording.set][recording.language].setdefault(recording.group, ids)
    rows: list[list[float]] = []
    means: list[dict[str, float]] = []
    names: list[str] = []
    for name in sorted(sets):
        found = _language_pairs(sets[name], vocab_size, suite)
        if found is not None:
            rows += [[len(means), *row] for row in found[0]]
            means.append(found[1])
            names.append(name)
    numbers = np.array(rows, dtype=np.float64).reshape(-1, 5)
    sheet = _language_sheet(numbers, means, suite)
    for place, name in enumerate(names if len(names) > 1 else []):
        one = _language_sheet(numbers[numbers[:, 0] == place], [means[place]], suite)
        kept = ("language_bag_index", "language_top1", "language_chance", "language_distribution", "language_sentences")
        sheet |= {f"{key}@{name}": one[key] for key in kept}
    if stream.vocab_size > LARGEST_TABLE:
        for key in ("language_kl", "language_kl_back"):
            sheet[key] = Figure.missing("the vocabulary is too large for a table of smoothed counts")
    return sheet | _by_language(units, recordings, vocab_size, stream)


def _language_pairs(
    said: dict[str, dict[str, Tensor]], vocab_size: int, suite: StabSuite
) -> tuple[list[list[float]], dict[str, float]] | None:
    """Return a row for each sentence (overlap collapsed and raw, top 1, reciprocal rank), and means over pairs."""
    sentences: defaultdict[str, list[list[float]]] = defaultdict(list)
    results: list[dict[str, float]] = []
    for first, second in combinations(sorted(said), 2):
        common = sorted(said[first].keys() & said[second].keys())
        if not common:
            continue
        ours, theirs = ([said[side][group] for group in common] for side in (first, second))
        found = language_invariance(ours, theirs, vocab_size=vocab_size, seed=suite.seed)
        results.append({key: float(value) for key, value in found.items()})
        ranks = (retrieval_rows(ours, theirs) + retrieval_rows(theirs, ours)).numpy() / 2
        for group, a, b, rank in zip(common, ours, theirs, ranks, strict=True):
            x, y = a.tolist(), b.tolist()
            overlaps = bag_similarity(collapse_runs(x), collapse_runs(y)), bag_similarity(x, y)
            sentences[group].append([*overlaps, *rank])
    if not results:
        return None
    rows = [np.mean(sentences[group], axis=0).tolist() for group in sorted(sentences)]
    means = {key: float(np.mean([result[key] for result in results])) for key in results[0]}
    return rows, means | {"pairs": len(results), "sentences": len(rows)}


def _language_sheet(rows: NDArray[np.float64], means: Sequence[dict[str, float]], suite: StabSuite) -> Sheet:
    reason = "no sentence is there in several languages"

    def mean(key: str) -> float:
        return float(np.mean([one[key] for one in means])) if means else math.nan

    def column(number: int) -> Figure:
        return interval(rows, suite.bootstrap, reason, lambda drawn: _mean_of_sets(drawn, number))

    sheet: Sheet = {}
    for number, ending in ((1, ""), (2, "_raw")):
        overlap = column(number)
        sheet[f"language_bag_index{ending}"] = index(overlap, mean(f"bag_floor{ending}"))
        sheet[f"language_bag{ending}"] = overlap
        sheet[f"language_bag_floor{ending}"] = figure(mean(f"bag_floor{ending}"), reason)
    sheet |= {"language_top1": column(3), "language_mrr": column(4), "language_chance": figure(mean("chance"), reason)}
    for key in ("distribution", "kl", "kl_back"):
        sheet[f"language_{key}"] = figure(mean(key), reason)
    sheet["language_pairs"] = Figure(sum(one["pairs"] for one in means))
    sheet["language_sentences"] = Figure(sum(one["sentences"] for one in means))
    return sheet


def _mean_of_sets(rows: NDArray[np.float64], column: int) -> float:
    sets = rows[:, 0].astype(np.int64)
    counts = np.bincount(sets)
    seen = counts > 0
    return float((np.bincount(sets, rows[:, column])[seen] / counts[seen]).mean()) if len(rows) else math.nan


def _by_language(units: Sequence[Tensor], recordings: Sequence[Recording], vocab_size: int, stream: Stream) -> Sheet:
    """Return what languages use of the vocabulary, and how many of the ids that either of two uses both do."""
    languages = sorted({recording.language for recording in recordings})
    if len(languages) < 2:
        return {"vocabulary_overlap": Figure.missing("there is one language only")}
    metric = VocabularyUse(vocab_size, languages)
    metric.update(units, [recording.language for recording in recordings])
    found = metric.compute()
    sheet: Sheet = {}
    for name, coverage, counts in zip(languages, found["coverage_by_language"], metric.counts, strict=True):
        sheet[f"vocabulary_num_tokens@{name}"] = Figure(float(counts.sum()))
        share = float(coverage) * vocab_size / stream.vocab_size
        sheet[f"vocabulary_coverage@{name}"] = figure(share, "the language has no tokens")
    apart = ~torch.eye(len(languages), dtype=torch.bool)
    return sheet | {"vocabulary_overlap": figure(float(found["overlap"][apart].mean()), "a language has no tokens")}


class ContextTally:
    """Collects what becomes of the segments of clips, for all streams of a tokenizer."""

    def __init__(self, subject: Subject, suite: StabSuite) -> None:
        self._subject, self._suite = subject, suite
        self._metrics = {
            (stream.name, mode): ContextInvariance(suite.contexts) for stream in subject.streams for mode in MODES
        }
        self._rows: defaultdict[tuple[str, str], list[list[float]]] = defaultdict(list)
        self._reason = "no clip is long enough for a segment"
        if subject.hop is None:
            self._reason = "the tokens are on no grid of samples"

    def update(self, clip: Recording) -> None:
        """Mask a clip in all ways."""
        subject = self._subject
        if subject.hop is None or subject.token_rate is None:
            return
        per_hop = round(subject.token_rate * subject.hop / self._suite.data.sample_rate)
        waves: dict[bytes, Tensor] = {}

        def collect(wave: Tensor) -> Tensor:
            waves.setdefault(_digest(wave), wave)
            return torch.zeros(len(wave) // self._hop + 1, per_hop, dtype=torch.int64)

        # Waves are made twice: first to be encoded together, which takes half the time on two cores.
        for mode in MODES:
            self._probe(collect, clip, mode)
        ids = subject.encode(list(waves.values()))
        for stream in subject.streams:
            rows = dict(zip(waves, subject.split(ids, stream), strict=True))

            def answer(wave: Tensor, rows: dict[bytes, Tensor] = rows) -> Tensor:
                row = rows[_digest(wave)]
                return row[: len(row) // per_hop * per_hop].reshape(-1, per_hop)

            for mode in MODES:
                try:
                    probe = self._probe(answer, clip, mode)
                except InputError as error:
                    self._reason = f"the tokens are not where its hop says: {error}"
                    return
                if len(probe.tokens):
                    self._metrics[stream.name, mode].update(probe, clip.key)
                    row = [*probe.agreements.sum(0).tolist(), float(len(probe.tokens))]
                    self._rows[stream.name, mode].append(row)

    def figures(self, stream: Stream) -> Sheet:
        """Return the figures of a stream."""
        contexts, bootstrap = self._suite.contexts, self._suite.bootstrap
        sheet: Sheet = {}
        for mode in MODES:
            metric, rows = self._metrics[stream.name, mode], self._rows[stream.name, mode]
            found = metric.compute() if rows else None
            floor = math.nan if found is None else float(found["floor"])
            prefix = "context" if mode == "both" else f"context_{mode}"
            for place, seconds in enumerate(contexts):
                columns = np.array(rows).reshape(-1, len(contexts) + 1)[:, [place, -1]]
                share = interval(columns, bootstrap, self._reason, _share)
                sheet[f"{prefix}_{seconds:g}"] = share
                if mode == "both":
                    sheet[f"context_index_{seconds:g}"] = index(share, floor)
                    if seconds == self._suite.quoted_context:
                        sheet |= {"context_similarity": share, "context_index": index(share, floor)}
            if mode == "both":
                sheet["context_floor"] = figure(floor, self._reason if found is None else "there is one clip only")
                effective = math.inf if found is None else float(found["effective_context"])
                reason = self._reason if found is None else f"nine tenths are not reached with {contexts[-1]:g} s"
                sheet["context_effective"] = figure(effective, reason)
                sheet["context_segments"] = Figure(0 if found is None else float(found["num_segments"]))
                sheet["context_clips"] = Figure(len(rows))
        return sheet

    @property
    def _hop(self) -> int:
        return self._subject.hop or 1

    def _probe(self, tokenize: object, clip: Recording, mode: str) -> Probe:
        side: Literal["both", "past", "future"] = "past" if mode == "past" else "future" if mode == "future" else "both"
        return probe_context(
            tokenize,  # type: ignore[arg-type]
            clip.wave,
            sample_rate=self._suite.data.sample_rate,
            hop=self._hop,
            contexts=self._suite.contexts,
            seconds=self._suite.segment_seconds,
            side=side,
            crop=mode == "crop",
            noise=self._suite.context_noise,
            seed=self._suite.seed,
        )


def _share(rows: NDArray[np.float64]) -> float:
    """Return the sum of the first column over that of the second."""
    return float(rows[:, 0].sum() / rows[:, 1].sum()) if len(rows) else math.nan


def _digest(wave: Tensor) -> bytes:
    return hashlib.sha256(wave.numpy().tobytes()).digest()
