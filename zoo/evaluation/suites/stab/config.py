"""What a STAB-style suite measures, as YAML read strictly."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

from zoo.errors import ConfigError
from zoo.evaluation.adversarial import Adversarial
from zoo.evaluation.items import Bootstrap
from zoo.evaluation.suite import DataFolder
from zoo.evaluation.utterances import require_no_gripper

__all__ = ["DIMENSIONS", "KINDS", "Place", "StabFiles", "StabSuite", "Strengths"]


@dataclass(frozen=True)
class StabFiles(DataFolder):
    """Which recordings a suite compares.

    Args:
        file: Name of the folder in the library's data cache.
        sha256: Of the manifest and the sound that the published figures are of.
        made_by: The command that makes the folder.
        manifest: Its list of recordings; `zoo.evaluation.suites.stab.corpus` says what a line holds.
        sample_rate: Of all files, in Hz.
    """

    manifest: str = "stab.jsonl"
    sample_rate: int = 16000

    @property
    def needed(self) -> tuple[str, ...]:
        """The manifest."""
        return (self.manifest,)


@dataclass(frozen=True)
class Strengths:
    """At which strengths clips are disturbed, by kind; none leaves a kind out.

    Args:
        pitch: Semitones.
        speed: Rates, with the pitch, as of a tape.
        tempo: Rates, without the pitch.
        gaussian: SNR in dB.
        pink: SNR in dB.
        real: SNR in dB.
        babble: SNR in dB.
        reverb: Seconds until echoes are 60 dB softer.
        bit_crush: Bits.
        band: Upper end in Hz; the lower is 300.
        opus: Bits a second.
    """

    pitch: tuple[float, ...] = ()
    speed: tuple[float, ...] = ()
    tempo: tuple[float, ...] = ()
    gaussian: tuple[float, ...] = ()
    pink: tuple[float, ...] = ()
    real: tuple[float, ...] = ()
    babble: tuple[float, ...] = ()
    reverb: tuple[float, ...] = ()
    bit_crush: tuple[float, ...] = ()
    band: tuple[float, ...] = ()
    opus: tuple[float, ...] = ()

    def conditions(self) -> Iterator[tuple[str, float]]:
        """Yield every kind and strength."""
        for kind in KINDS:
            for strength in getattr(self, kind):
                yield kind, strength


KINDS = tuple(strengths.name for strengths in fields(Strengths))
"""Kinds of disturbance."""

DIMENSIONS = {
    "pitch": ("pitch",),
    "speed": ("speed", "tempo"),
    "noise": ("gaussian", "pink", "real", "babble"),
    "extensions": ("reverb", "bit_crush", "band", "opus"),
}
"""Types of disturbance and their kinds. The first three are the paper's, and overall robustness is their mean."""


@dataclass(frozen=True)
class Place:
    """How clips are moved, so that the same speech stands elsewhere in what a tokenizer sees.

    Args:
        silence: Seconds of digital silence before a clip.
        noise: Seconds of white noise before it.
        noise_level: RMS of that noise, in dB of full scale.
        cut: Seconds that are cut off its start, of clips at least twice as long.
        halves: Whether its halves, cut where a token begins, are encoded alone.
        max_clips: Long clips to move, as many of each source as there are; all if None.
        max_seconds: Of each, its first, so that it fits in a segment with what stands before it.
    """

    silence: tuple[float, ...] = ()
    noise: tuple[float, ...] = ()
    noise_level: float = -60.0
    cut: tuple[float, ...] = ()
    halves: bool = True
    max_clips: int | None = 30
    max_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name in ("silence", "noise", "cut"):
            if any(not (math.isfinite(seconds) and seconds > 0) for seconds in getattr(self, name)):
                raise ConfigError(f"place: {name} must be seconds above 0, got {list(getattr(self, name))}.")
        if not (math.isfinite(self.max_seconds) and self.max_seconds > 0):
            raise ConfigError(f"place: max_seconds must be above 0, got {self.max_seconds}.")
        if not (math.isfinite(self.noise_level) and self.noise_level <= 0):
            raise ConfigError(f"place: noise_level must be at most 0 dB of full scale, got {self.noise_level}.")
        if self.max_clips is not None and self.max_clips < 1:
            raise ConfigError(f"place: max_clips must be at least 1, or null for all, got {self.max_clips}.")

    @property
    def names(self) -> list[str]:
        """The conditions: a kind and its seconds, or `halves`."""
        timed = [f"{kind} {seconds:g}" for kind in ("silence", "noise", "cut") for seconds in getattr(self, kind)]
        return timed + ["halves"] * self.halves

    @property
    def protocol(self) -> str:
        """What is measured, for people."""
        return (
            "Place, an extension: edits of the speech's own tokens, of their number, when something stands before it "
            f"(noise at {self.noise_level:g} dB of full scale), its start is cut off, or its halves stand alone. "
        )


@dataclass(frozen=True)
class StabSuite:
    """A STAB-style suite for speech tokenizers.

    Args:
        kind: Which suite this is.
        title: For people.
        data: What is compared.
        strengths: How clips are disturbed.
        models: Registered names, folders, or `module:function`.
        max_clips: Long clips to disturb, as many of each source as there are; all if None.
        max_context_clips: Of these to mask.
        contexts: Seconds kept around a segment, ascending.
        segment_seconds: Length of a segment.
        context_noise: Level in dB of full scale of noise in place of silence, for what has never heard digital silence.
        quoted_context: That of `contexts` which stands for all.
        place: How clips are moved within what a tokenizer sees; None if they are not.
        adversarial: How the clips are disturbed by noise made for the tokenizer; None if they are not. It counts in no
            mean: no two tokenizers hear the same.
        max_pairs: Of a text with more pairs of speakers so many are drawn.
        num_merges: Of byte pairs, besides as many as the vocabulary has.
        num_tokens: At which vocabulary use is compared.
        seed: Of everything that is drawn but resamples.
        bootstrap: How intervals are made.
    """

    kind: Literal["stab"]
    title: str
    data: StabFiles
    strengths: Strengths
    models: tuple[str, ...]
    max_clips: int | None
    max_context_clips: int | None
    contexts: tuple[float, ...]
    segment_seconds: float = 0.5
    context_noise: float | None = None
    quoted_context: float = 0.25
    place: Place | None = None
    adversarial: Adversarial | None = None
    max_pairs: int = 200
    num_merges: int = 4096
    num_tokens: int = 8192
    seed: int = 0
    bootstrap: Bootstrap = field(default_factory=lambda: Bootstrap(num_resamples=1000))

    def __post_init__(self) -> None:
        for name in ("max_clips", "max_context_clips"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, or null for all, got {value}.")
        for name in ("max_pairs", "num_merges", "num_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if list(self.contexts) != sorted(set(self.contexts)) or not self.contexts or self.contexts[0] < 0:
            raise ConfigError(f"contexts must ascend from 0 or more seconds, got {list(self.contexts)}.")
        if self.quoted_context not in self.contexts:
            raise ConfigError(f"quoted_context must be one of the contexts, got {self.quoted_context}.")
        if not (math.isfinite(self.segment_seconds) and self.segment_seconds > 0):
            raise ConfigError(f"segment_seconds must be above 0, got {self.segment_seconds}.")

    def for_own(self, path: Path, gripper: Sequence[int] | None) -> StabSuite:
        """Return the suite for speech that somebody points at, called by its name; itself for a folder like its own."""
        require_no_gripper(gripper)
        if self.data.has_form(path):
            return self
        return replace(self, title=f"{self.title}: {path.resolve().name}", data=replace(self.data, sha256=""))
