"""Suites: what is measured on what, as YAML read strictly."""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from zoo import config
from zoo.errors import ConfigError, InputError, near_matches, shown
from zoo.evaluation.items import Bootstrap, cache
from zoo.evaluation.report import Report
from zoo.evaluation.suites.resynthesis.config import ResynthesisSuite
from zoo.evaluation.suites.stab.config import StabSuite

__all__ = [
    "ActionSuite",
    "Bootstrap",
    "NoiseLevels",
    "ResynthesisSuite",
    "SpeechFiles",
    "SpeechSuite",
    "StabSuite",
    "Suite",
    "SuiteData",
    "Variant",
    "environment",
    "read_suite",
    "run",
]

Progress = Callable[[str, int, int], None]
"""Told what is being done, and how many of how many steps are done."""


@dataclass(frozen=True)
class SuiteData:
    """Which data a suite measures on.

    Args:
        file: Name of the file in the library's data cache.
        sha256: Of the file that the published figures are of.
        made_by: The command that makes it.
        fit_split: Episodes that variants are fitted on.
        test_split: Episodes that everything is measured on.
    """

    file: str
    sha256: str
    made_by: str
    fit_split: str
    test_split: str

    def locate(self, override: Path | None) -> Path:
        """Return the path of the data.

        Raises:
            InputError: It is not there; the message says how to make it.
        """
        path = override or cache() / self.file
        if not path.is_file():
            raise InputError(f"{path} does not exist: make it with `{self.made_by}`, or point --data at it.")
        return path

    def describe(self, path: Path) -> dict[str, Any]:
        """Return the facts of the data that go into a report."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"file": self.file, "sha256": digest, "is_reference": digest == self.sha256, "made_by": self.made_by}


@dataclass(frozen=True)
class Variant:
    """A tokenizer that is fitted for the comparison: a family with settings."""

    name: str
    family: str
    config: dict


@dataclass(frozen=True)
class ActionSuite:
    """A suite for action tokenizers.

    Args:
        kind: Which suite this is.
        title: For people.
        data: What to measure on.
        gripper: Degrees of freedom that switch, 0 being their threshold.
        models: Registered names or folders, loaded as they are.
        variants: What is fitted here.
        bootstrap: How intervals are made.
        latency_seconds: Seconds spent on each latency figure.
    """

    kind: Literal["action"]
    title: str
    data: SuiteData
    gripper: tuple[int, ...]
    models: tuple[str, ...]
    variants: tuple[Variant, ...]
    bootstrap: Bootstrap
    latency_seconds: float


@dataclass(frozen=True)
class SpeechFiles:
    """Which data a speech suite measures on.

    Args:
        file: Name of the folder in the library's data cache.
        sha256: Of the sound that the published figures are of.
        made_by: The command that makes the folder.
        test: The manifest of what is disturbed.
        noise: The manifest of noise of the kinds that training has.
        noise_ood: The manifest of noise of other kinds.
        sample_rate: Of all files, in Hz.
    """

    file: str
    sha256: str
    made_by: str
    test: str = "test.jsonl"
    noise: str = "noise-test.jsonl"
    noise_ood: str = "noise-ood.jsonl"
    sample_rate: int = 16000

    def locate(self, override: Path | None) -> Path:
        """Return the path of the folder.

        Raises:
            InputError: It lacks a manifest; the message says how to make it.
        """
        path = override or cache() / self.file
        for name in (self.test, self.noise, self.noise_ood):
            if not (path / name).is_file():
                raise InputError(
                    f"{path / name} does not exist: make the folder with `{self.made_by}`, or point --data at one."
                )
        return path


@dataclass(frozen=True)
class NoiseLevels:
    """How strong each disturbance is: the depth of `bit_crush` in bits, else an SNR in dB."""

    gaussian: float
    pink: float
    brown: float
    bit_crush: float
    real: float
    real_ood: float


@dataclass(frozen=True)
class SpeechSuite:
    """A suite for speech tokenizers.

    Args:
        kind: Which suite this is.
        title: For people.
        data: What to measure on.
        noises: What utterances are disturbed by.
        average: What a distance is the mean of: all utterances together, or languages, each of all its utterances. The
            latter is the paper's, whose two languages have much data each.
        models: Registered names or folders.
        max_items: Utterances to measure on, as many of each source as there are; all if None.
        seed: Of the noise.
        bootstrap: How intervals are made.
    """

    kind: Literal["speech"]
    title: str
    data: SpeechFiles
    noises: NoiseLevels
    average: Literal["utterances", "languages"]
    models: tuple[str, ...]
    max_items: int | None
    seed: int
    bootstrap: Bootstrap

    def __post_init__(self) -> None:
        if self.max_items is not None and self.max_items < 1:
            raise ConfigError(f"max_items must be at least 1, or null for all, got {self.max_items}.")


Suite = ActionSuite | SpeechSuite | ResynthesisSuite | StabSuite

# How each kind is written and which module measures it; report.COLUMNS says how it is shown.
_KINDS: dict[str, tuple[type[Suite], str]] = {
    "action": (ActionSuite, "zoo.evaluation.suites.action"),
    "speech": (SpeechSuite, "zoo.evaluation.suites.noise"),
    "resynthesis": (ResynthesisSuite, "zoo.evaluation.suites.resynthesis.runner"),
    "stab": (StabSuite, "zoo.evaluation.suites.stab.runner"),
}


def read_suite(path: str | Path) -> Suite:
    """Read a suite.

    Raises:
        ConfigError: The file is missing, not YAML, of an unknown kind, or has unknown keys or unusable values.
    """
    import yaml

    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the suite {path}: {error}.") from error
    if not isinstance(values, dict) or "kind" not in values:
        raise ConfigError(f"{path} must be a mapping with a kind: {' or '.join(_KINDS)}.")
    kind = values["kind"]
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ConfigError(f"{path} is of the unknown kind {shown(kind)}; {near_matches(str(kind)[:80], _KINDS)}")
    return config.from_dict(_KINDS[kind][0], values, str(path))


def run(
    suite: Suite,
    *,
    models: Sequence[str] | None = None,
    data: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure tokenizers.

    Args:
        suite: What to measure.
        models: Measure these (names, folders, Hub addresses) instead of the suite's models and variants.
        data: Where the data is, if not in the cache.
        progress: Called before each step and at the end.

    Raises:
        InputError: The data is not there, or a model does not fit it.
    """
    module = importlib.import_module(_KINDS[suite.kind][1])
    report: Report = module.measure(
        suite, models, suite.data.locate(data), progress or (lambda text, done, total: None)
    )
    return report


def environment() -> dict[str, Any]:
    """Return versions and machine, for a report."""
    import torch

    import zoo

    return {
        "tokenizer-zoo": zoo.__version__,
        "Python": platform.python_version(),
        "torch": version("torch"),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
