"""What a suite of resynthesis measures, as YAML read strictly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from zoo.data.manifest import Utterance, read_manifest
from zoo.errors import ConfigError
from zoo.evaluation.items import Bootstrap, cache
from zoo.evaluation.suite import DataFolder
from zoo.evaluation.utterances import require_no_gripper

__all__ = ["GROUPS", "Clips", "Recognizer", "ResynthesisSuite", "SpokenFiles"]

GROUPS = ("heard", "unheard")
"""The groups of clips: voices that models may have been trained on, and others."""


@dataclass(frozen=True)
class SpokenFiles(DataFolder):
    """Which recordings a suite is about.

    Args:
        file: Name of the folder in the library's data cache.
        sha256: Of the sound and transcripts that the published figures are of.
        made_by: The command that makes the folder.
        test: The manifest.
        sample_rate: Of all files, in Hz. Every measure is made at it.
    """

    test: str = "test.jsonl"
    sample_rate: int = 16000

    @property
    def needed(self) -> tuple[str, ...]:
        """The manifest."""
        return (self.test,)


@dataclass(frozen=True)
class Clips:
    """Which clips a group has.

    Args:
        sources: Corpora they are taken from, as many of each as there are; all if None.
        max_items: At most so many; all if None.
        speakers: Only theirs; everybody's if None.
    """

    sources: tuple[str, ...] | None
    max_items: int | None = None
    speakers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.max_items is not None and self.max_items < 1:
            raise ConfigError(f"max_items must be at least 1, or null for all, got {self.max_items}.")

    def of(self, utterances: Sequence[Utterance]) -> list[Utterance]:
        """Return the utterances that are of the group."""
        return [
            each
            for each in utterances
            if (self.sources is None or each.source in self.sources)
            and (self.speakers is None or each.speaker in self.speakers)
        ]


@dataclass(frozen=True)
class Recognizer:
    """Who reads the speech for the word error rate.

    Args:
        folder: Name of the Whisper model's folder in the library's data cache, or any folder.
        made_by: The command that makes it.
    """

    folder: str
    made_by: str

    @property
    def path(self) -> Path:
        """Where the folder is."""
        return cache() / self.folder  # a folder that is absolute stays what it is


@dataclass(frozen=True)
class ResynthesisSuite:
    """A suite for tokenizers that make speech of tokens.

    Args:
        kind: Which suite this is.
        title: For people.
        data: What to measure on.
        language: Only clips in it, with a transcript. Of one's own recordings, those with a transcript and in no other
            language are read for `wer`, and the other measures are of all.
        heard: Clips in voices that models may have been trained on.
        unheard: Clips in others; none if None.
        measures: Names of `zoo.evaluation.suites.resynthesis.judges.JUDGES`, and `wer`, which gives `cer` as well.
        recognizer: Who reads for `wer`.
        models: Registered names, folders, or `module:function`.
        bootstrap: How intervals are made.
    """

    kind: Literal["resynthesis"]
    title: str
    data: SpokenFiles
    language: str
    heard: Clips
    unheard: Clips | None
    measures: tuple[Literal["mel_distance", "cepstral_distortion", "stoi", "pesq", "dnsmos", "distill_mos", "wer"], ...]
    recognizer: Recognizer
    models: tuple[str, ...]
    bootstrap: Bootstrap

    def for_own(self, path: Path, gripper: Sequence[int] | None) -> ResynthesisSuite:
        """Return the suite for recordings that somebody points at; itself for a folder that has all of its groups.

        The recordings are called by their name, and one group, as nobody says which voices models were trained on.
        """
        require_no_gripper(gripper)
        if self.data.has_form(path):
            spoken = self.transcribed(read_manifest(path / self.data.test))
            if any(group.of(spoken) for group in (self.heard, self.unheard) if group):
                return self
        return replace(
            self,
            title=f"{self.title}: {path.resolve().name}",
            data=replace(self.data, sha256=""),
            heard=Clips(None, self.heard.max_items),
            unheard=None,
        )

    def transcribed(self, utterances: Sequence[Utterance]) -> list[Utterance]:
        """Return the utterances that have a transcript in the suite's language."""
        languages = (self.language,) if self.data.sha256 else (self.language, "")
        return [each for each in utterances if each.text.strip() and each.language in languages]
