"""How far the tokens of clips change in noise that is made for the tokenizer, of the strength of other noise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from zoo.evaluation.adversarial import NO_GRADIENTS, Adversarial
from zoo.evaluation.figures import Sheet, row_interval
from zoo.evaluation.report import Column, Report
from zoo.evaluation.subject import Subject
from zoo.evaluation.suites.stab.config import StabSuite
from zoo.evaluation.suites.stab.corpus import Recording
from zoo.metrics.rows import Row, mean_of, ratio
from zoo.metrics.tokens.robustness import robustness_rows
from zoo.metrics.tokens.streams import key
from zoo.process.random import derive_seed

__all__ = ["adversarial_columns", "attack"]

_FIGURES = {"ued": ratio("edits", "tokens", 100), "ned_collapsed": mean_of("distance_collapsed")}


def attack(
    subject: Subject, clips: Sequence[Recording], wanted: Adversarial, suite: StabSuite, step: Callable[[], None]
) -> dict[str, Sheet]:
    """Return the distances of clips in noise made for a tokenizer, by stream.

    Args:
        subject: The tokenizer.
        clips: Those that other disturbances are of.
        wanted: Strengths of the noise.
        suite: What is measured.
        step: Called before each clip.
    """
    rows: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for clip in clips:
        step()
        if subject.vectors is None:
            continue
        seed = derive_seed(suite.seed, key(clip.key), key("adversarial"))
        ids = subject.encode([clip.wave, *wanted.disturbed(clip.wave, subject.vectors, seed)])
        for stream in subject.streams:
            clean, *noisy = subject.split(ids, stream)
            for noise, row in zip(wanted.names, robustness_rows(noisy, [clean] * len(noisy)), strict=True):
                rows[stream.name, noise].append(row)
    reason = NO_GRADIENTS if subject.vectors is None else "there is no clip to disturb"
    return {
        stream.name: {
            f"{name}@{noise}": row_interval(rows[stream.name, noise], statistic, suite.bootstrap, reason)
            for noise in wanted.names
            for name, statistic in _FIGURES.items()
        }
        for stream in subject.streams
    }


def adversarial_columns(report: Report) -> Sequence[Column]:
    """Return the rows of a report's table that are of adversarial noise."""
    settings = report.data["suite"].get("adversarial") or {"snr": ()}
    return [
        Column(f"ued@adversarial {snr:g}", f"UED %, adversarial noise at {snr:g} dB", "{:.1f}")
        for snr in settings["snr"]
    ]
