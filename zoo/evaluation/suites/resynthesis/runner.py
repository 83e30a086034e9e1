"""Runs a suite of resynthesis: every system makes every clip, and every judge hears it.

A clip is a unit of the bootstrap. What is the same for all clips of a group, and the figures of a group, have its name
before theirs, but for the group `heard`.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from zoo.data.manifest import Utterance
from zoo.errors import InputError
from zoo.evaluation.figures import row_interval
from zoo.evaluation.items import Bootstrap
from zoo.evaluation.kinds import Progress, SuiteKind
from zoo.evaluation.report import Column, Figure, Report
from zoo.evaluation.suite import environment
from zoo.evaluation.suites.resynthesis.config import GROUPS, Clips, ResynthesisSuite
from zoo.evaluation.suites.resynthesis.judges import TEXT_RATES, Judges, text_counts
from zoo.evaluation.suites.resynthesis.systems import Recording, System, systems
from zoo.evaluation.utterances import choose, find, read_wave, told
from zoo.metrics.rows import Row, mean_of, ratio

__all__ = ["RESYNTHESIS", "measure"]

_NUM_EXAMPLES = 5

_HEARD = (
    Column("wer", "word errors %", "{:.1f}"),
    Column("cer", "character errors %", "{:.1f}"),
    Column("mel_distance", "log-mel distance, dB", "{:.2f}"),
    Column("cepstral_distortion", "mel-cepstral distortion, dB", "{:.2f}"),
    Column("stoi", "STOI", "{:.3f}"),
    Column("pesq", "PESQ, wide band", "{:.2f}"),
    Column("dnsmos", "DNSMOS, overall", "{:.2f}"),
    Column("distill_mos", "DistillMOS", "{:.2f}"),
    Column("real_time_factor", "real-time factor", "{:.3f}"),
)

_COLUMNS = _HEARD + tuple(
    replace(column, key=f"unheard_{column.key}", title=f"{column.title}; voices never trained on") for column in _HEARD
)


@dataclass
class _Tally:
    """What the judges said of one system.

    Args:
        rows: Of each group the measures of each clip.
        heard: What the recogniser read in the first clips.
    """

    rows: dict[str, list[Row]] = field(default_factory=lambda: {group: [] for group in GROUPS})
    heard: list[str] = field(default_factory=list)


def measure(suite: ResynthesisSuite, models: Sequence[str] | None, path: Path, progress: Progress) -> Report:
    """Run a resynthesis suite. See `zoo.evaluation.run`; models may also be `module:function`."""
    named = dict.fromkeys(suite.models if models is None else models)
    makers: list[System] = [Recording(), *(system for name in named for system in systems(name))]
    is_own, rate = not suite.data.sha256, suite.data.sample_rate
    found, folder = find(path, suite.data.test)
    clips = _clips(suite, found, folder)
    chosen = [utterance for _, utterance in clips]
    for system in makers[1:]:
        # Untimed: weights may be read when a decoder is first called.
        system(read_wave(clips[0][1], rate, resample=is_own)[:rate], rate)
    transcribed = set(suite.transcribed(chosen))
    texts = {number: each.text for number, each in enumerate(chosen) if each in transcribed}
    judges = Judges(suite, has_texts=bool(texts))

    tallies = {system.name: _Tally() for system in makers}
    digest = hashlib.sha256()
    seconds = dict.fromkeys(GROUPS, 0.0)
    for number, (group, utterance) in enumerate(clips):
        recording = read_wave(utterance, rate, resample=is_own)
        digest.update(recording.numpy().tobytes() + utterance.text.encode())
        seconds[group] += len(recording) / rate
        for place, system in enumerate(makers):
            progress(f"measuring {system.name}", number * len(makers) + place, len(clips) * len(makers))
            _add(tallies[system.name], system, judges, group, texts.get(number), recording, rate)
    progress("resampling clips", len(clips) * len(makers), len(clips) * len(makers))

    report = Report(
        suite=suite.kind,
        title=suite.title,
        protocol=_protocol(suite, judges) + (told(chosen, found) if is_own else ""),
        data={
            "file": path.resolve().name if is_own else suite.data.file,
            "sha256": digest.hexdigest(),
            "is_reference": digest.hexdigest() == suite.data.sha256,
            "made_by": "" if is_own else suite.data.made_by,
            "recognizer": suite.recognizer.folder,
            **{
                group: {
                    "clips": sum(name == group for name, _ in clips),
                    "seconds": round(seconds[group], 3),
                    "sources": dict(sorted(Counter(u.source for name, u in clips if name == group).items())),
                }
                for group in GROUPS
            },
            "not_measured": judges.missing,
        },
        environment=environment(),
        examples={"text": list(texts.values())[:_NUM_EXAMPLES]},
    )
    for system in makers:
        tally = tallies[system.name]
        for group in GROUPS:
            report.models.setdefault(system.name, {}).update(
                _figures(tally.rows[group], group, judges, suite.bootstrap)
            )
        report.settings[system.name] = system.settings
        if tally.heard:
            report.examples[system.name] = tally.heard
    return report


def _clips(suite: ResynthesisSuite, found: Sequence[Utterance], folder: Path) -> list[tuple[str, Utterance]]:
    """Return the clips of each group, by the group's name."""
    spoken = suite.transcribed(found) if suite.data.sha256 else found
    chosen: list[tuple[str, Utterance]] = []
    for group in GROUPS:
        wanted: Clips | None = getattr(suite, group)
        if wanted is None:
            continue
        members = wanted.of(spoken)
        if not members:
            raise InputError(
                f"{folder / suite.data.test} has no transcribed clip in {suite.language!r} for the group {group!r}, of "
                f"{', '.join(wanted.sources or ('any source',))}."
            )
        chosen += [(group, utterance) for utterance in choose(members, folder, wanted.max_items)]
    return chosen


def _add(
    tally: _Tally, system: System, judges: Judges, group: str, text: str | None, recording: Tensor, sample_rate: int
) -> None:
    """Let a system make a clip and the judges hear it; without a transcript there is nothing to read it for."""
    wave = system(recording, sample_rate)
    row = judges(wave, recording, sample_rate)
    heard = None if text is None else judges.transcribe(wave, sample_rate)
    if text is not None and heard is not None:
        row |= text_counts(heard, text)
        if len(tally.heard) < _NUM_EXAMPLES:
            tally.heard.append(heard)
    row["duration"] = len(recording) / sample_rate
    row["seconds"] = math.nan if system.seconds is None else system.seconds
    tally.rows[group].append(row)


def _figures(rows: list[Row], group: str, judges: Judges, boot: Bootstrap) -> dict[str, Figure]:
    """Return the figures of one system and group."""
    if not rows:
        return {}
    before = "" if group == GROUPS[0] else f"{group}_"
    figures = {name: _mean(rows, name, boot) for name in judges.names}
    for name, (edits, length) in TEXT_RATES.items():
        if read := [row for row in rows if edits in row]:
            figures[name] = _rate(read, edits, length, 100.0, boot)
    for name, reason in judges.missing.items():
        for rate in TEXT_RATES if name == "wer" else (name,):
            figures[rate] = Figure.missing(reason)
    if not math.isnan(rows[0]["seconds"]):
        figures["real_time_factor"] = _rate(rows, "seconds", "duration", 1.0, boot)
    return {before + name: figure for name, figure in figures.items()}


def _mean(rows: list[Row], name: str, boot: Bootstrap) -> Figure:
    """Return the mean of the clips that a measure is defined for."""
    defined: list[Row] = [{name: row[name]} for row in rows if not math.isnan(row[name])]
    return row_interval(defined, mean_of(name), boot, f"it is not defined for any of the {len(rows)} clips.")


def _rate(rows: list[Row], above: str, below: str, scale: float, boot: Bootstrap) -> Figure:
    """Return a ratio of sums over clips."""
    reason = f"the transcripts of the {len(rows)} clips have no {below}."
    counts: list[Row] = [{above: row[above], below: row[below]} for row in rows]
    return row_interval(counts, ratio(above, below, scale), boot, reason)


def _protocol(suite: ResynthesisSuite, judges: Judges) -> str:
    text = (
        "Means over clips; word and character errors over all clips, of what Whisper "
        f"({suite.recognizer.folder}) reads; the real-time factor is seconds of computing (`decode`, on "
        f"{torch.get_num_threads()} thread(s)) a second of speech. Mel distance: mean absolute difference of 80 "
        "log-mel bands to 80 dB below the loudest; cepstral distortion: cepstra 1 to 13 of these; both, STOI and PESQ "
        "compare with the recording frame by frame and so judge another voice hard. Intervals of "
        f"{suite.bootstrap.confidence:.0%} from resampling clips."
    )
    if judges.missing:
        text += (
            " Not measured: " + "; ".join(f"{name} ({why.rstrip('.')})" for name, why in judges.missing.items()) + "."
        )
    return text


RESYNTHESIS = SuiteKind(ResynthesisSuite, measure, _COLUMNS)
