"""What suites of all kinds share: reading the YAML, where data lies, running."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from zoo import config
from zoo.data._found import visible
from zoo.errors import ConfigError, InputError
from zoo.evaluation.items import cache
from zoo.evaluation.kinds import KINDS, Progress, suite_kind
from zoo.evaluation.report import Report
from zoo.strict import is_file, is_there, read_text

__all__ = ["DataFile", "DataFolder", "Suite", "SuiteData", "environment", "read_suite", "run"]


@dataclass(frozen=True)
class DataFile:
    """A file that a suite measures on.

    Args:
        file: Its name beside the suite or in the library's data cache.
        sha256: Of the file that the published figures are of, "" if there are none.
        made_by: The command that makes it, "" if there is none.
    """

    file: str
    sha256: str = ""
    made_by: str = ""

    def locate(self, override: Path | None) -> Path:
        """Return the path of the file, or of a folder that is given in its place.

        Raises:
            InputError: It is not there; the message says how to make it.
        """
        path = override or cache() / self.file
        if not (is_file(path) or (is_there(path) and path.is_dir() and (override is not None or not self.sha256))):
            remedy = f"make it with `{self.made_by}`, or point --data at it" if self.made_by else "point --data at it"
            raise InputError(f"{path} does not exist: {remedy}.")
        return path

    def describe(self, path: Path) -> dict[str, Any]:
        """Return the facts of the data that go into a report; of a folder, its files count with their names."""
        files = [path] if path.is_file() else visible((each for each in path.rglob("*") if each.is_file()), path)
        whole = hashlib.sha256()
        for each in files:
            with each.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{each.relative_to(path).as_posix()} {digest}\n".encode())
        found = digest if path.is_file() else whole.hexdigest()
        is_reference = found == self.sha256
        made_by = self.made_by if is_reference or not self.sha256 else ""
        return {"file": path.name, "sha256": found, "is_reference": is_reference, "made_by": made_by}


@dataclass(frozen=True)
class DataFolder:
    """A folder that a suite measures on.

    Args:
        file: Its name in the library's data cache.
        sha256: Of what was read when the published figures were made, "" if there are none. Only they ask for the
            very files that the suite names; one's own may be in any form, at any rate and of any size.
        made_by: The command that makes it, "" if there is none.
    """

    file: str
    sha256: str = ""
    made_by: str = ""

    forms: ClassVar[str] = "sound files or a manifest"
    """What one may point at instead."""

    @property
    def needed(self) -> tuple[str, ...]:
        """Files that must lie in it."""
        return ()

    def locate(self, override: Path | None) -> Path:
        """Return the path of the folder, or of what is given in its place.

        Raises:
            InputError: It is not there, or lacks a file; the message says how to make it.
        """
        path = override or cache() / self.file
        lacking = [] if override or not self.sha256 else [path / name for name in self.needed]
        if absent := [each for each in (*lacking, path) if not is_there(each)]:
            made = f"make the folder with `{self.made_by}`, or " if self.made_by and override is None else ""
            raise InputError(f"{absent[0]} does not exist: {made}point --data at {self.forms}.")
        return path

    def has_form(self, path: Path) -> bool:
        """Whether a folder holds all that the suite's own has."""
        return all(is_file(path / name) for name in self.needed)


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


@runtime_checkable
class TakesOwnData(Protocol):
    """A suite that measures on whatever data of its modality somebody points at."""

    def for_own(self, path: Path, gripper: Sequence[int] | None) -> Suite:
        """Return the suite for this data."""


def read_suite(path: str | Path) -> Suite:
    """Read a suite.

    Raises:
        ConfigError: The file is missing, not YAML, of an unknown kind, or has unknown keys or unusable values.
    """
    from zoo.strict.yaml import parse_yaml

    values = parse_yaml(read_text(path), str(path))
    if "kind" not in values:
        raise ConfigError(f"{path} must be a mapping with a kind: {' or '.join(KINDS)}.")
    try:
        kind = suite_kind(values["kind"])
    except ConfigError as error:
        raise ConfigError(f"cannot read the suite {path}: {error}") from error
    suite: Any = config.from_dict(kind.config, values, str(path))
    found: Suite = replace(suite, data=_beside(suite.data, Path(path).parent))
    return found


def _beside(data: Any, folder: Path) -> Any:
    """Return data, or data by modality, with the whole paths of files that lie beside the suite: one's own."""
    changes: dict[str, Any] = {}
    for each in fields(data):
        value = getattr(data, each.name)
        if is_dataclass(value):
            changes[each.name] = _beside(value, folder)
        elif each.name == "file" and value and is_there(folder / value):
            changes["file"] = str((folder / value).absolute())
    return replace(data, **changes)


def run(
    suite: Suite,
    *,
    models: Sequence[str] | None = None,
    data: Path | None = None,
    gripper: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure tokenizers.

    Args:
        suite: What to measure.
        models: Measure these (names, folders, Hub addresses) instead of the suite's models and variants.
        data: Where the data is, if not in the cache; or other data, of one's own.
        gripper: Of one's own actions, the degrees of freedom that switch.
        progress: Called before each step and at the end.

    Raises:
        InputError: The data is not there, or a model does not fit it.
    """
    located = suite.data.locate(data)
    if data is not None and isinstance(suite, TakesOwnData):
        suite = suite.for_own(located, gripper)
    elif gripper is not None:
        raise ConfigError("--gripper is said of actions that --data points at: leave it out.")
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
