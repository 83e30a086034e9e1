"""Suites: what is measured on what, as YAML read strictly."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zoo import config
from zoo.errors import ConfigError, InputError
from zoo.evaluation.report import Report

__all__ = ["ActionSuite", "Bootstrap", "SuiteData", "Variant", "read_suite", "run"]

Progress = Callable[[str], None]


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
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenizer-zoo"
        path = override or cache / self.file
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
class Bootstrap:
    """How intervals are made."""

    num_resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0


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


def read_suite(path: str | Path) -> ActionSuite:
    """Read a suite.

    Raises:
        ConfigError: The file is missing, not YAML, or has unknown keys or unusable values.
    """
    import yaml

    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the suite {path}: {error}.") from error
    if not isinstance(values, dict) or values.get("kind") != "action":
        raise ConfigError(f"{path} must be a mapping with kind: action.")
    return config.from_dict(ActionSuite, values, str(path))


def run(
    suite: ActionSuite,
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
        progress: Called with a line of text before each step.

    Raises:
        InputError: The data is not there, or a model does not fit it.
    """
    from zoo.evaluation.actions import measure

    return measure(suite, models, suite.data.locate(data), progress or (lambda text: None))
