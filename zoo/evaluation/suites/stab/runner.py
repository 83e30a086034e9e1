"""Runs a STAB-style suite: every tokenizer on the same recordings and the same disturbed waves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo import config
from zoo.errors import ConfigError
from zoo.evaluation.figures import Sheet
from zoo.evaluation.kinds import Progress, SuiteKind
from zoo.evaluation.report import Column, Report
from zoo.evaluation.subject import Stream, Subject, read_subject
from zoo.evaluation.suite import environment
from zoo.evaluation.suites.stab.adversarial import adversarial_columns, attack
from zoo.evaluation.suites.stab.codes import codes
from zoo.evaluation.suites.stab.columns import COLUMNS
from zoo.evaluation.suites.stab.config import StabSuite
from zoo.evaluation.suites.stab.corpus import Corpus, Disturber, Recording, read_corpus
from zoo.evaluation.suites.stab.invariance import ContextTally, language, speaker
from zoo.evaluation.suites.stab.page import write_page
from zoo.evaluation.suites.stab.place import PlaceTally, place_columns
from zoo.evaluation.suites.stab.robustness import robustness
from zoo.metrics.tokens.robustness import robustness_rows

__all__ = ["EXAMPLE", "STAB", "measure"]

EXAMPLE = ("real", 20.0)
"""The disturbance that is drawn, if the suite has it; else its last."""

SPECIFICATION = "STAB-style 1, reconstructed from arXiv 2409.02384"
"""Of what was measured; the number grows when a definition changes."""

_NUM_PEAKS = 240  # of a wave, for a picture

Sheets = dict[str, Sheet]


def measure(suite: StabSuite, models: Sequence[str] | None, path: Path, progress: Progress) -> Report:
    """Run a STAB-style suite. See `zoo.evaluation.run`."""
    names = list(dict.fromkeys(suite.models if models is None else models))
    if not names:
        raise ConfigError("there is nothing to measure: name at least one model.")
    progress("reading recordings", 0, 1)
    is_own = not suite.data.sha256
    corpus = read_corpus(suite.data, path)
    clips = corpus.long_clips(suite.max_clips)
    masked = corpus.long_clips(suite.max_context_clips)
    moved = [] if suite.place is None else corpus.long_clips(suite.place.max_clips)
    attacked = [] if suite.adversarial is None else clips
    steps = _Steps(progress, len(names) * (3 + len(masked) + len(moved) + len(attacked)) + len(clips))
    subjects = _subjects(names, corpus, suite, steps)
    sheets: dict[str, Sheets] = {subject.name: {stream.name: {} for stream in subject.streams} for subject in subjects}

    disturber = Disturber(suite.strengths, corpus, suite.seed)
    examples = _disturb(subjects, sheets, clips, disturber, suite, steps)
    for subject in subjects:
        for stream, sheet in _compared(subject, corpus, suite, steps):
            sheets[subject.name][stream.name] |= sheet
        tally = ContextTally(subject, suite)
        for clip in masked:
            steps(f"masking the context: {subject.name}")
            tally.update(clip)
        for stream in subject.streams:
            sheets[subject.name][stream.name] |= tally.figures(stream)
        if suite.place is not None:
            _move(subject, sheets[subject.name], moved, PlaceTally(subject, suite, suite.place), steps)
        if suite.adversarial is not None:
            found = attack(subject, clips, suite.adversarial, suite, partial(steps, f"attacking clips: {subject.name}"))
            for name, sheet in found.items():
                sheets[subject.name][name] |= sheet
    steps.end()

    report = Report(
        suite=suite.kind,
        title=suite.title,
        protocol=_protocol(suite),
        data={
            "file": path.resolve().name if is_own else suite.data.file,
            "specification": SPECIFICATION,
            "sha256": corpus.sha256,
            "is_reference": corpus.sha256 == suite.data.sha256,
            "made_by": "" if is_own else suite.data.made_by,
            "disturbed_sha256": disturber.digest.hexdigest(),
            "clamped": disturber.num_clamped,
            "parts": corpus.describe(),
            "sources": dict(sorted(Counter(recording.source for recording in corpus.recordings).items())),
            "clips_disturbed": [clip.key for clip in clips],
            "clips_masked": [clip.key for clip in masked],
            "clips_moved": [clip.key for clip in moved],
            "suite": _plain_suite(suite),
        },
        environment=environment(),
        examples=examples,
    )
    for subject in subjects:
        for stream in subject.streams:
            name = _column(subject, stream)
            report.models[name] = sheets[subject.name][stream.name]
            report.settings[name] = {
                "codebook_sizes": list(stream.codebook_sizes),
                "token_rate": subject.token_rate,
                "hop": subject.hop,
                "is_deterministic": subject.is_deterministic,
                "remark": subject.remark,
                **subject.settings,
            }
    return report


class _Steps:
    """Counts what is done."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, text: str) -> None:
        self._progress(text, self._done, self._total)
        self._done += 1

    def end(self) -> None:
        self._progress("measured", self._total, self._total)


def _subjects(names: Sequence[str], corpus: Corpus, suite: StabSuite, steps: _Steps) -> list[Subject]:
    """Return what is measured, under different names."""

    def waves() -> list[Tensor]:
        found = [recording.wave for recording in corpus.part("train")]
        if not found:
            raise ConfigError("a callable with `fit` learns from recordings for the part 'train', and there are none.")
        return found

    subjects: list[Subject] = []
    for name in names:
        steps(f"getting {name} ready")
        subject = read_subject(name, suite.data.sample_rate, waves, suite.seed)
        same = sum(other.name.partition(" (")[0] == subject.name for other in subjects)
        if same:
            subject.name += f" ({same + 1})"
        wave = corpus.recordings[0].wave
        first, again = subject.encode([wave]), subject.encode([wave])
        if subject.is_deterministic and not torch.equal(first[0], again[0]):
            raise ConfigError(
                f"{name} gave two answers for one wave: it must draw no random numbers, or say that "
                "is_deterministic is False."
            )
        subjects.append(subject)
    return subjects


def _disturb(
    subjects: Sequence[Subject],
    sheets: dict[str, Sheets],
    clips: Sequence[Recording],
    disturber: Disturber,
    suite: StabSuite,
    steps: _Steps,
) -> dict[str, Any]:
    """Disturb clips, each once for all tokenizers; return what they make of the first, for pictures."""
    rows: dict[str, dict[str, list[list[dict[str, float]]]]] = {
        subject.name: {stream.name: [] for stream in subject.streams} for subject in subjects
    }
    examples: dict[str, Any] = {}
    conditions = disturber.conditions
    drawn = next((place for place, found in enumerate(conditions) if found[:2] == EXAMPLE), len(conditions) - 1)
    for clip in clips:
        steps("disturbing clips")
        waves = [clip.wave, *disturber(clip)]
        is_example = not examples and bool(conditions)
        if is_example:
            examples = {
                "clip": clip.key,
                "source": clip.source,
                "seconds": len(clip.wave) / suite.data.sample_rate,
                "condition": conditions[drawn][2],
                "peaks": {"clean": _peaks(clip.wave), "noisy": _peaks(waves[drawn + 1])},
                "ids": {},
            }
        for subject in subjects:
            ids = subject.encode(waves)
            for stream in subject.streams:
                clean, *noisy = subject.split(ids, stream)
                rows[subject.name][stream.name].append(robustness_rows(noisy, [clean] * len(noisy)))
                if is_example and stream.codebook is not None:
                    pair = {"clean": clean.tolist(), "noisy": noisy[drawn].tolist()}
                    examples["ids"][_column(subject, stream)] = pair
    for subject in subjects:
        for stream in subject.streams:
            found = rows[subject.name][stream.name]
            sheets[subject.name][stream.name] |= robustness(found, conditions, disturber.missing, suite)
    return examples


def _move(subject: Subject, sheets: Sheets, clips: Sequence[Recording], tally: PlaceTally, steps: _Steps) -> None:
    """Move clips within what a tokenizer sees, and add what came of it to its sheets."""
    for clip in clips:
        steps(f"moving clips: {subject.name}")
        tally.update(clip)
    for stream in subject.streams:
        sheets[stream.name] |= tally.figures(stream)


def _compared(subject: Subject, corpus: Corpus, suite: StabSuite, steps: _Steps) -> list[tuple[Stream, Sheet]]:
    """Return what is measured of undisturbed recordings, by stream."""
    steps(f"comparing speakers and languages: {subject.name}")
    encode: Callable[[Sequence[Recording]], list[Tensor]] = lambda found: subject.encode([one.wave for one in found])  # noqa: E731
    speakers, languages = corpus.part("speaker"), corpus.part("language")
    said, translated = encode(speakers), encode(languages)
    found = [
        (
            stream,
            speaker(subject.split(said, stream), speakers, suite)
            | language(subject.split(translated, stream), languages, stream, suite),
        )
        for stream in subject.streams
    ]
    steps(f"compressing: {subject.name}")
    test = corpus.part("test")
    trained, tested = encode(corpus.part("train")), encode(test)
    for stream, sheet in found:
        sheet |= codes(
            subject.split(trained, stream),
            subject.split(tested, stream),
            stream=stream,
            token_rate=subject.token_rate,
            seconds=corpus.seconds(test),
            suite=suite,
        )
    return found


def _column(subject: Subject, stream: Stream) -> str:
    """Return what a stream is called in a report."""
    return f"{subject.name}, {stream.name}" if stream.name else subject.name


def _peaks(wave: Tensor) -> list[float]:
    """Return the largest amplitudes of equal parts of a wave."""
    return [round(float(part.abs().max()), 3) for part in wave.tensor_split(min(_NUM_PEAKS, len(wave)))]


def _plain_suite(suite: StabSuite) -> dict[str, Any]:
    kept = (
        "contexts",
        "segment_seconds",
        "context_noise",
        "quoted_context",
        "max_pairs",
        "num_merges",
        "num_tokens",
        "seed",
    )
    return {
        "strengths": {kind: list(values) for kind, values in asdict(suite.strengths).items() if values},
        **{name: list(value) if isinstance(value := getattr(suite, name), tuple) else value for name in kept},
        "place": None if suite.place is None else config.to_dict(suite.place),
        "adversarial": None if suite.adversarial is None else config.to_dict(suite.adversarial),
        "bootstrap": asdict(suite.bootstrap),
    }


def _protocol(suite: StabSuite) -> str:
    boot = suite.bootstrap
    extensions = [wanted.protocol for wanted in (suite.place, suite.adversarial) if wanted is not None]
    return (
        "STAB-style: the dimensions are those of the Speech Tokenizer Assessment Benchmark (arXiv 2409.02384), the "
        "formulas, data and strengths are this library's own, so that no figure is a STAB score. Similarity is 1 - "
        "edit distance over the longer length, of ids with runs collapsed unless it says raw; an index is corrected "
        "for chance: 0 where unrelated recordings are as alike, 1 where all are equal. Context: share of a segment's "
        f"{suite.segment_seconds:g} s of tokens that stay when all but {suite.quoted_context:g} s around it is silent. "
        f"{''.join(extensions)}Intervals of {boot.confidence:.0%} from {boot.num_resamples} resamples of sentences or "
        "clips; floors, and figures of all tokens together, have none."
    )


def _more_columns(report: Report) -> Sequence[Column]:
    return [*place_columns(report), *adversarial_columns(report)]


STAB = SuiteKind(StabSuite, measure, COLUMNS, page=write_page, more_columns=_more_columns)
