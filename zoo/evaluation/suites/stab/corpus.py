"""The recordings of a STAB-style suite, and what becomes of them when they are disturbed.

A manifest has one JSON object a line:

* `audio_filepath`, relative to the manifest: mono, at the suite's rate
* `parts`, what the recording is for, a list of `PARTS`
* `group`, the sentence, the same in all languages; what stands before its first colon names the set that it is of, and
  sentences are only compared with those of their set
* `text_id`, the wording; the group and the language if it is not given
* `speaker`, `lang`, `source`, `text`, `split` where they are known

Of one's own speech, whose lines have no parts and groups, or that is sound files alone, every recording is disturbed,
every second one is what codes are made of and the others what they are measured on, and recordings of one transcript
by several speakers are compared. Nothing says what is a translation, or a background.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.data.json_lines import read_json_lines
from zoo.data.manifest import Stretch
from zoo.data.perturbations.noise import NoiseBank, Perturbation
from zoo.data.perturbations.opus import Opus
from zoo.data.perturbations.room import Babble, acoustic_perturbation
from zoo.data.signals.speech import SpeechSignal
from zoo.errors import InputError, near_matches, shown
from zoo.evaluation.adversarial import LOUDEST
from zoo.evaluation.suites.stab.config import StabFiles, Strengths
from zoo.evaluation.utterances import choose, find, read_wave
from zoo.metrics.tokens.streams import key
from zoo.process.random import derive_seed

__all__ = ["PARTS", "Corpus", "Disturber", "Recording", "read_corpus"]

PARTS = ("speaker", "language", "long", "train", "test", "noise", "babble")
"""One text by several speakers; a sentence in several languages; clips to disturb and mask; recordings that codes are
made of, and that they are measured on; backgrounds."""


@dataclass(frozen=True)
class Recording:
    """One line of a manifest, with its sound.

    Args:
        key: Its path, relative to the manifest, and its offset, if there is one.
        wave: (samples,).
        parts: What it is for.
        group: The sentence.
        text_id: The wording.
        speaker: Who speaks.
        language: ISO code.
        source: Which corpus it is from.
        split: Of that corpus.
    """

    key: str
    wave: Tensor = field(repr=False)
    parts: tuple[str, ...]
    group: str
    text_id: str
    speaker: str
    language: str
    source: str
    split: str

    @property
    def set(self) -> str:
        """The set of sentences that the group is of."""
        return self.group.partition(":")[0]


@dataclass(frozen=True)
class Corpus:
    """All recordings, in the order of their keys, whatever that of the manifest.

    Args:
        recordings: At least one.
        sample_rate: Hz.
        sha256: Of labels and samples: the same wherever the folder is.
    """

    recordings: tuple[Recording, ...]
    sample_rate: int
    sha256: str

    def part(self, name: str) -> list[Recording]:
        """Return the recordings of one of `PARTS`."""
        return [recording for recording in self.recordings if name in recording.parts]

    def seconds(self, recordings: Sequence[Recording]) -> float:
        """Return how long recordings are together."""
        return sum(len(recording.wave) for recording in recordings) / self.sample_rate

    def long_clips(self, most: int | None) -> list[Recording]:
        """Return up to so many long clips, as many of each source as there are."""
        by_source: dict[str, list[Recording]] = defaultdict(list)
        for recording in self.part("long"):
            by_source[recording.source].append(recording)
        ranked = sorted((rank, source) for source, clips in by_source.items() for rank in range(len(clips)))
        return [by_source[source][rank] for rank, source in ranked[:most]]

    def describe(self) -> dict[str, Any]:
        """Return the facts that go into a report: what there is of each part, by source or set."""
        parts: dict[str, Any] = {}
        for part in PARTS:
            names: defaultdict[str, list[Recording]] = defaultdict(list)
            for recording in self.part(part):
                names[recording.set if part in ("speaker", "language") else recording.source].append(recording)
            parts[part] = {
                name: {
                    "recordings": len(found),
                    "minutes": round(self.seconds(found) / 60, 2),
                    "groups": len({recording.text_id if part == "speaker" else recording.group for recording in found}),
                    "speakers": len({recording.speaker for recording in found}),
                    "languages": sorted({recording.language for recording in found} - {""}),
                    "sources": sorted({recording.source for recording in found}),
                    "splits": dict(sorted(Counter(recording.split for recording in found).items())),
                }
                for name, found in sorted(names.items())
            }
        return parts


def read_corpus(files: StabFiles, folder: Path) -> Corpus:
    """Read a manifest and all its sound.

    Raises:
        InputError: A line or a file is not as it should be.
    """
    path = folder if folder.is_file() else folder / files.manifest
    if not files.sha256 and not _has_parts(path):
        return _corpus(_own(folder, files), files.sample_rate)
    found: dict[tuple[str, str], Recording] = {}
    for where, values in read_json_lines(path):
        recording = _parse(values, where, path.parent, files.sample_rate)
        place = recording.key, recording.group
        if place in found:
            raise InputError(f"{where} lists {recording.key} a second time for {recording.group!r}.")
        found[place] = recording
    if not found:
        raise InputError(f"the manifest {path} lists nothing.")
    return _corpus(tuple(found[place] for place in sorted(found)), files.sample_rate)


def _corpus(recordings: tuple[Recording, ...], sample_rate: int) -> Corpus:
    digest = hashlib.sha256()
    for recording in recordings:
        labels = [getattr(recording, name) for name in ("key", "parts", "group", "text_id", "speaker", "language")]
        digest.update(json.dumps(labels).encode())
        digest.update(recording.wave.numpy().tobytes())
    return Corpus(recordings, sample_rate, digest.hexdigest())


def _has_parts(path: Path) -> bool:
    """Whether a manifest says what any recording is for."""
    if not path.is_file() or path.suffix.lower() in SpeechSignal.suffixes:
        return False
    return any({"parts", "group"} & set(values) for _, values in read_json_lines(path))


def _own(path: Path, files: StabFiles) -> tuple[Recording, ...]:
    """Return recordings of which nobody says what they are for."""
    utterances, folder = find(path, files.manifest)
    utterances = choose(utterances, folder, None)
    readers: dict[str, set[str]] = defaultdict(set)
    for each in utterances:
        readers[each.text].add(each.speaker)
    found: dict[str, Recording] = {}
    for number, each in enumerate(utterances):
        name = each.path.relative_to(folder).as_posix() if each.path.is_relative_to(folder) else str(each.path)
        name += f"@{each.offset!r}" if each.offset else ""
        if name in found:
            raise InputError(f"{each.where} lists {name} a second time.")
        is_compared = bool(each.text and each.speaker) and len(readers[each.text] - {""}) > 1
        found[name] = Recording(
            key=name,
            wave=read_wave(each, files.sample_rate, resample=True),
            parts=("long", "train" if number % 2 else "test", *(("speaker",) if is_compared else ())),
            group=f"own:{each.text or name}",
            text_id=f"own:{each.text or name}@{each.language}",
            speaker=each.speaker,
            language=each.language,
            source=each.source,
            split="",
        )
    return tuple(found[name] for name in sorted(found))


class Disturber:
    """Disturbs clips, each in its own way whatever is disturbed beside it.

    Attributes:
        conditions: Kind, strength and name of each disturbance.
        missing: Why a kind cannot be done, by kind.
        digest: Of all waves made so far. Arithmetic may round otherwise on another processor.
        num_clamped: Waves that were louder than tokenizers take.
    """

    def __init__(self, strengths: Strengths, corpus: Corpus, seed: int) -> None:
        self._corpus, self._seed = corpus, seed
        banks = {
            kind: NoiseBank([recording.wave for recording in found], corpus.sample_rate)
            for kind, part in (("real", "noise"), ("babble", "babble"))
            if (found := corpus.part(part))
        }
        self.missing = {
            kind: f"the manifest has no recordings for the part {part!r}"
            for kind, part in (("real", "noise"), ("babble", "babble"))
            if kind not in banks and getattr(strengths, kind)
        }
        self.conditions = [
            (kind, strength, f"{kind} {strength:g}")
            for kind, strength in strengths.conditions()
            if kind not in self.missing
        ]
        self._perturbations = [
            _perturbation(kind, strength, corpus.sample_rate, banks.get(kind)) for kind, strength, _ in self.conditions
        ]
        self.digest = hashlib.sha256()
        self.num_clamped = 0

    def __call__(self, recording: Recording) -> list[Tensor]:
        """Return a clip under every condition. A strength has the random numbers of the others of its kind."""
        waves = []
        for (kind, _, _), perturbation in zip(self.conditions, self._perturbations, strict=True):
            generator = torch.Generator().manual_seed(derive_seed(self._seed, key(recording.key), key(kind)))
            wave = perturbation(recording.wave, generator)
            self.num_clamped += bool((wave.abs() > LOUDEST).any())
            waves.append(wave.clamp(-LOUDEST, LOUDEST))
            self.digest.update(waves[-1].numpy().tobytes())
        return waves


def _perturbation(kind: str, strength: float, sample_rate: int, bank: NoiseBank | None) -> Perturbation:
    if kind == "opus":
        return Opus(strength, sample_rate)
    if kind == "babble" and bank is not None:
        return Babble(strength, bank)
    return acoustic_perturbation(kind, strength, sample_rate, bank)


def _parse(values: dict[str, Any], where: str, folder: Path, sample_rate: int) -> Recording:
    if not {"audio_filepath", "parts", "group"} <= set(values):
        raise InputError(f"{where} must be an object with audio_filepath, parts and group, got {shown(values)}.")
    parts = values["parts"]
    if not isinstance(parts, list) or not parts:
        raise InputError(f"{where}: parts must be a list of some of {', '.join(PARTS)}, got {shown(parts)}.")
    for part in parts:
        if part not in PARTS:
            raise InputError(f"{where} has the unknown part {shown(part)}; {near_matches(str(part)[:80], PARTS)}")
    texts = {}
    for name in ("audio_filepath", "group", "text_id", "speaker", "lang", "source", "split"):
        texts[name] = values.get(name) or ""
        if not isinstance(texts[name], str):
            raise InputError(f"{where}: {name} must be a str, got {shown(texts[name])}.")
    for part, needed in (("speaker", ("speaker", "lang")), ("language", ("lang",))):
        for name in needed:
            if part in parts and not texts[name]:
                raise InputError(f"{where} is for the part {part!r}, which needs its {name}.")
    stretch = Stretch.of(values, where, folder)
    return Recording(
        key=texts["audio_filepath"] + (f"@{stretch.offset!r}" if stretch.offset else ""),
        wave=stretch.read_mono(sample_rate),
        parts=tuple(dict.fromkeys(parts)),
        group=texts["group"],
        text_id=texts["text_id"] or f"{texts['group']}@{texts['lang']}",
        speaker=texts["speaker"],
        language=texts["lang"],
        source=texts["source"],
        split=texts["split"],
    )
