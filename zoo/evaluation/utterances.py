"""The utterances that a suite measures on: of its own manifest, or of whatever speech somebody points at."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from zoo.data.audio import change_rate
from zoo.data.folders import files_in
from zoo.data.manifest import Utterance, read_manifest
from zoo.data.signals.speech import SpeechSignal
from zoo.errors import ConfigError, InputError
from zoo.evaluation.items import balanced
from zoo.strict import is_file

__all__ = ["choose", "find", "key", "read_wave", "require_no_gripper", "told"]


def find(path: Path, manifest: str) -> tuple[list[Utterance], Path]:
    """Return the utterances that a path stands for, and the folder where their names start.

    Args:
        path: A folder with a manifest, a folder of sound files, one sound file, or a manifest of any name.
        manifest: What the manifest of a folder is called; without one all sound files below the folder count.

    Raises:
        InputError: There is no speech.
    """
    if path.is_file():
        is_sound = path.suffix.lower() in SpeechSignal.suffixes
        return [Utterance(path)] if is_sound else read_manifest(path), path.parent
    if is_file(path / manifest):
        return read_manifest(path / manifest), path
    files = files_in(path)
    found = [Utterance(file) for file in files if file.suffix.lower() in SpeechSignal.suffixes]
    if not found:
        others = [file.relative_to(path).as_posix() for file in files if file.suffix in (".json", ".jsonl")]
        named = f"; if {others[0]!r} is one, point --data at it" if others else ""
        raise InputError(
            f"{path} holds no speech: it needs sound files ({', '.join(SpeechSignal.suffixes)}) or a manifest "
            f"{manifest}{named}."
        )
    return found, path


def read_wave(utterance: Utterance, sample_rate: int, *, resample: bool) -> Tensor:
    """Return the wave (samples,) of an utterance at a rate in Hz.

    Args:
        utterance: What to read.
        sample_rate: Hz.
        resample: Whether a file at another rate is resampled. Data of published figures is made at the rate.

    Raises:
        InputError: It has several channels, holds NaN, is at another rate and not to be resampled, or cannot be read.
    """
    if not resample:
        return utterance.read_mono(sample_rate)
    channels, rate = utterance.read()
    where = f"{utterance.where}: {utterance.path}" if utterance.where else str(utterance.path)
    if len(channels) != 1:
        raise InputError(
            f"{where} has {len(channels)} channels, and one is measured: average them or pick one, for instance with "
            "`ffmpeg -i IN -ac 1 OUT`."
        )
    if not bool(channels.isfinite().all()):
        raise InputError(f"{where} holds NaN or infinity: repair it, or leave it out.")
    return channels[0] if rate == sample_rate else change_rate(channels, rate, sample_rate)[0]


def told(chosen: Sequence[Utterance], found: Sequence[Utterance]) -> str:
    """Return what a protocol says of data of which only a part was measured; "" if all was."""
    if len(chosen) == len(found):
        return ""
    return f" {len(chosen)} of the data's {len(found)} utterances were measured, since the suite says max_items."


def require_no_gripper(gripper: Sequence[int] | None) -> None:
    """Raise `ConfigError` if what is no motion is said to have grippers."""
    if gripper is not None:
        raise ConfigError("--gripper is said of actions that --data points at: leave it out.")


def choose(utterances: Sequence[Utterance], folder: Path, max_items: int | None) -> list[Utterance]:
    """Return up to `max_items` utterances, as many of each source as there are, whatever order they are given in.

    Args:
        utterances: What to choose from.
        folder: Where their paths start; what lies in it under the same name is the same utterance elsewhere.
        max_items: None is all.
    """
    return balanced(utterances, lambda each: each.source, lambda each: key(each, folder), max_items)


def key(utterance: Utterance, folder: Path) -> int:
    """Return a number that stands for an utterance, wherever its folder is."""
    path = utterance.path.relative_to(folder) if utterance.path.is_relative_to(folder) else utterance.path
    name = path.as_posix() + (f"@{utterance.offset!r}" if utterance.offset else "")
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
