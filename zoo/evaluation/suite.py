"""What suites of all kinds share: reading the YAML, where data lies, running."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from zoo import config
from zoo.errors import ConfigError, InputError
from zoo.evaluation.items import cache
from zoo.evaluation.kinds import KINDS, Progress, suite_kind
from zoo.evaluation.report import Report
from zoo.strict import read_text

__all__ = ["DataFile", "DataFolder", "Suite", "SuiteData", "environment", "read_suite", "run"]


@dataclass(frozen=True)
class DataFile:
    """A file that a suite measures on.

    Args:
        file: Its name in the library's data cache.
        sha256: Of the file that the published figures are of.
        made_by: The command that makes it.
    """

    file: str
    sha256: str
    made_by: str

    def locate(self, override: Path | None) -> Path:
        """Return the path of the file.

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
class DataFolder:
    """A folder that a suite measures on.

    Args:
        file: Its name in the library's data cache.
        sha256: Of what was read when the published figures were made.
        made_by: The command that makes it.
    """

    file: str
    sha256: str
    made_by: str

    @property
    def needed(self) -> tuple[str, ...]:
        """Files that must lie in it."""
        return ()

    def locate(self, override: Path | None) -> Path:
        """Return the path of the folder.

        Raises:
            InputError: It lacks a file; the message says how to make it.
        """
        path = override or cache() / self.file
        lacking = [path / name for name in self.needed if not (path / name).is_file()]
        if lacking or not path.is_dir():
            raise InputError(
                f"{lacking[0] if lacking else path} does not exist: make the folder with `{self.made_by}`, or point "
                "--data at one."
            )
        return path


class SuiteData(Protocol):
    """What a suite measures on, as far as all suites know it."""

    def locate(self, override: Path | None) -> Path:
        """Return where it is."""


class Suite(Protocol):
    """A suite that was read: the dataclass of its kind, of which this is what all have."""

    @property
    def kind(self) -> str:
        """Which kind it is of."""

    @property
    def title(self) -> str:
        """What it is called, for people."""

    @property
    def data(self) -> SuiteData:
        """What it measures on."""


def read_suite(path: str | Path) -> Suite:
    """Read a suite.

    Raises:
        ConfigError: The file is missing, not YAML, of an unknown kind, or has unknown keys or unusable values.
    """
    from zoo.strict_yaml import parse_yaml

    values = parse_yaml(read_text(path), str(path))
    if "kind" not in values:
        raise ConfigError(f"{path} must be a mapping with a kind: {' or '.join(KINDS)}.")
    try:
        kind = suite_kind(values["kind"])
    except ConfigError as error:
        raise ConfigError(f"cannot read the suite {path}: {error}") from error
    suite: Suite = config.from_dict(kind.config, values, str(path))
    return suite


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
    located = suite.data.locate(data)
    return suite_kind(suite.kind).measure(suite, models, located, progress or (lambda text, done, total: None))


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
