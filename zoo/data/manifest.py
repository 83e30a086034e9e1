"""Lists of speech with transcripts, as NVIDIA NeMo has them: one JSON object a line.

`offset` and `duration` select a stretch of the file, as they do in NeMo, so that the utterances of a long recording
need not be files of their own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo import resources
from zoo.data.audio import read_audio, stretch
from zoo.data.json_lines import read_json_lines
from zoo.errors import InputError, shown

__all__ = ["Stretch", "Utterance", "default_folder", "read_manifest"]


@dataclass(frozen=True)
class Stretch:
    """A stretch of a sound file.

    Attributes:
        path: The sound file.
        duration: Seconds; None is to the end of the file.
        offset: Seconds into the file where it begins.
        where: The line of a manifest that lists it, for messages; "" if none does.
    """

    path: Path
    duration: float | None = None
    offset: float = 0.0
    where: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str, folder: Path) -> Stretch:
        """Return what a line of a manifest selects.

        Args:
            values: The line, with `audio_filepath`, and perhaps `offset` and `duration`.
            where: What the line is called in messages.
            folder: Where relative paths start.

        Raises:
            InputError: One of the three is unusable.
        """
        name = values.get("audio_filepath")
        if not isinstance(name, str) or not name:
            raise InputError(f"{where} must have an audio_filepath, a string, got {shown(dict(values))}.")
        offset, duration = (_seconds(values, key, where) for key in ("offset", "duration"))
        return cls(folder / name, duration, offset or 0.0, where)

    def read(self) -> tuple[Tensor, int]:
        """Return the wave (channels, samples) and its rate in Hz, as `zoo.data.audio.read_audio` does.

        Raises:
            InputError: It cannot be read, or leaves the file. The message names the line.
        """
        try:
            return read_audio(self.path, offset=self.offset, duration=self.duration)
        except InputError as error:
            raise InputError(f"{self.where}: {error}" if self.where else str(error)) from error

    def read_mono(self, sample_rate: int) -> Tensor:
        """Return the wave (samples,) of a file that is mono at a rate in Hz.

        Raises:
            InputError: It is not, cannot be read, or the stretch leaves it.
        """
        channels, rate = self.read()
        if rate != sample_rate or len(channels) != 1:
            where = f"{self.where}: " if self.where else ""
            raise InputError(
                f"{where}{self.path} has {len(channels)} channel(s) at {rate} Hz; the data must be mono at "
                f"{sample_rate} Hz: convert it first."
            )
        return channels[0]

    def samples(self, rate: int, num_samples: int) -> tuple[int, int]:
        """Return the first sample and the one after the last, in a file of so many at a rate in Hz.

        Raises:
            InputError: The file is shorter.
        """
        return stretch(num_samples, rate, self.offset, self.duration)

    def seconds(self) -> float:
        """Return how long it is; the file is read if no duration is stated."""
        if self.duration is not None:
            return self.duration
        channels, rate = self.read()
        return channels.shape[1] / rate


@dataclass(frozen=True)
class Utterance(Stretch):
    """One line of a manifest.

    Attributes:
        text: The transcript, "" if none is known.
        language: ISO code, "" if unknown.
        speaker: Who speaks, "" if unknown.
        source: Which corpus it is from, "" if unknown.
    """

    text: str = ""
    language: str = ""
    speaker: str = ""
    source: str = ""


_TEXTS = {"text": "text", "lang": "language", "speaker": "speaker", "source": "source"}
# 31 years: also what separates a number of seconds from an integer that no float can hold.
_MAX_SECONDS = 1e9


def default_folder() -> Path:
    """Return where the data recipes put the speech corpus."""
    return resources.cache() / "speech"


def read_manifest(path: str | os.PathLike[str]) -> list[Utterance]:
    """Read a manifest as NVIDIA NeMo has it: one JSON object a line.

    Keys are `audio_filepath` (relative to the manifest's folder, or absolute), and, where they are there, `offset` and
    `duration` in seconds, which select a stretch of the file, `text`, `lang`, `speaker` and `source`; others are left
    alone. Without an `offset` the stretch begins with the file; without a `duration` it ends with it.

    Raises:
        InputError: The file is missing or empty, or a line is not such an object.
    """
    path = Path(path)
    utterances = [_parse(values, where, path.parent) for where, values in read_json_lines(path)]
    if not utterances:
        raise InputError(f"the manifest {path} lists nothing.")
    return utterances


def _parse(values: dict[str, Any], where: str, folder: Path) -> Utterance:
    texts: dict[str, Any] = {}
    for key, field in _TEXTS.items():
        value = values.get(key)
        if value is not None and not isinstance(value, str):
            raise InputError(f"{where}: {key} must be a str, got {shown(value)}.")
        texts[field] = value or ""
    return Utterance(**vars(Stretch.of(values, where, folder)), **texts)


def _seconds(values: Mapping[str, Any], key: str, where: str) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value < _MAX_SECONDS or (key == "duration" and value == 0):
        least = "above 0" if key == "duration" else "at least 0"
        raise InputError(f"{where}: {key} must be a number of seconds {least}, got {shown(value)}.")
    return float(value)
