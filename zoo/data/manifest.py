"""Lists of speech with transcripts, as NVIDIA NeMo has them: one JSON object a line."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import resources
from zoo.data.json_lines import read_json_lines
from zoo.errors import InputError, shown

__all__ = ["Utterance", "default_folder", "read_manifest"]


@dataclass(frozen=True)
class Utterance:
    """One line of a manifest.

    Attributes:
        path: The sound file.
        duration: Seconds.
        text: The transcript, "" if none is known.
        language: ISO code, "" if unknown.
        speaker: Who speaks, "" if unknown.
        source: Which corpus it is from, "" if unknown.
    """

    path: Path
    duration: float
    text: str = ""
    language: str = ""
    speaker: str = ""
    source: str = ""


# Their key, our field, its type. The first two are those of NVIDIA NeMo's manifests, and required.
_KEYS: dict[str, tuple[str, tuple[type, ...]]] = {
    "audio_filepath": ("path", (str,)),
    "duration": ("duration", (int, float)),
    "text": ("text", (str,)),
    "lang": ("language", (str,)),
    "speaker": ("speaker", (str,)),
    "source": ("source", (str,)),
}
# 31 years: also what separates a number of seconds from an integer that no float can hold.
_MAX_SECONDS = 1e9


def default_folder() -> Path:
    """Return where the data recipes put the speech corpus."""
    return resources.cache() / "speech"


def read_manifest(path: str | os.PathLike[str]) -> list[Utterance]:
    """Read a manifest as NVIDIA NeMo has it: one JSON object a line.

    Keys are `audio_filepath` (relative to the manifest's folder, or absolute) and `duration` in seconds, and, if known,
    `text`, `lang`, `speaker` and `source`; others are left alone.

    Raises:
        InputError: The file is missing or empty, or a line is not such an object.
    """
    path = Path(path)
    utterances = [_parse(values, where, path.parent) for where, values in read_json_lines(path)]
    if not utterances:
        raise InputError(f"the manifest {path} lists nothing.")
    return utterances


def _parse(values: dict[str, Any], where: str, folder: Path) -> Utterance:
    if values.get("audio_filepath") is None or values.get("duration") is None:
        raise InputError(f"{where} must be an object with audio_filepath and duration, got {shown(values)}.")
    fields: dict[str, Any] = {}
    for key, (field, types) in _KEYS.items():
        value = values.get(key)
        if value is None:
            continue
        if not isinstance(value, types) or isinstance(value, bool):
            raise InputError(f"{where}: {key} must be a {types[-1].__name__}, got {shown(value)}.")
        fields[field] = value
    if not 0 < fields["duration"] < _MAX_SECONDS:
        raise InputError(f"{where}: duration must be a number of seconds above 0, got {shown(fields['duration'])}.")
    return Utterance(**fields | {"path": folder / fields["path"], "duration": float(fields["duration"])})
