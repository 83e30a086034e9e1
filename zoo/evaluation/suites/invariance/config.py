"""What a suite of invariance measures, as YAML read strictly."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import zoo
from zoo.errors import ConfigError, InputError, near_matches, shown
from zoo.evaluation.items import Bootstrap, cache

__all__ = ["Chunking", "InvarianceData", "InvarianceSuite", "Source"]


@dataclass(frozen=True)
class Source:
    """Where the items of a modality are.

    Args:
        file: Name in the library's data cache: a file, or a folder of files.
        sha256: Of the items that the published figures are of.
        made_by: The command that makes it.
        manifest: List of utterances in the folder; all its files if it has none of this name.
        split: Of a file of actions; all its episodes if "".
    """

    file: str
    sha256: str
    made_by: str
    manifest: str = "test.jsonl"
    split: str = ""


@dataclass(frozen=True)
class InvarianceData:
    """What is encoded, by modality.

    Args:
        speech: A folder with a manifest, as `zoo.data.manifest` reads it, or of sound files.
        image: A folder of pictures.
        video: A folder of clips.
        action: What `zoo.data.actions.read_actions` reads.
    """

    speech: Source | None = None
    image: Source | None = None
    video: Source | None = None
    action: Source | None = None

    def locate(self, override: Path | None) -> Path:
        """Return where the data is: what is given, for models of one modality, or the cache, for all."""
        return override or cache()

    def of(self, modality: str, path: Path) -> tuple[Source, Path]:
        """Return the source of a modality, and its path, where `locate` gave `path`.

        Raises:
            ConfigError: The suite names no data of this modality.
            InputError: The data is not there; the message says how to make it.
        """
        source: Source | None = getattr(self, modality)
        if path != cache():
            source = source or Source(path.name, "", "")
        elif source is None:
            raise ConfigError(f"the suite names no data for {modality}: point --data at a file or folder of it.")
        else:
            path = path / source.file
        if not path.exists():
            made = f"make it with `{source.made_by}`, or " if source.made_by else ""
            raise InputError(f"{path} does not exist: {made}point --data at what is there.")
        return source, path


@dataclass(frozen=True)
class Chunking:
    """Long speech to cut otherwise, for tokenizers that give tokens chunk by chunk.

    Args:
        num_clips: Speakers at most, those with most speech first.
        seconds: Of each at least.
        without: How sources begin that are left out, such as synthesisers.
    """

    num_clips: int = 6
    seconds: float = 90.0
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.num_clips < 1 or not self.seconds > 0:
            raise ConfigError(
                f"num_clips must be at least 1 and seconds above 0, got {self.num_clips} and {self.seconds}."
            )


@dataclass(frozen=True)
class InvarianceSuite:
    """A suite for tokenizers of any modality.

    Args:
        kind: Which suite this is.
        title: For people.
        data: What to encode.
        models: Registered names, folders or Hub addresses.
        max_items: Of each modality; all if None.
        seed: Of order and noise.
        bootstrap: How intervals are made.
        load: What `zoo.load` is given beside the name, as plain values, such as `{dtype: bfloat16}`. Ids are compared
            with those of the model loaded without.
        chunking: Also cut long speech otherwise.
    """

    kind: Literal["invariance"]
    title: str
    data: InvarianceData
    models: tuple[str, ...]
    max_items: int | None
    seed: int = 0
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    load: dict = field(default_factory=dict)
    chunking: Chunking | None = None

    def __post_init__(self) -> None:
        if self.max_items is not None and self.max_items < 1:
            raise ConfigError(f"max_items must be at least 1, or null for all, got {self.max_items}.")
        self.load_options()

    def load_options(self) -> dict[str, Any]:
        """Return what `zoo.load` is given, a dtype by name as such.

        Raises:
            ConfigError: `zoo.load` takes no such thing, or there is no such dtype.
        """
        import torch

        known = [name for name in inspect.signature(zoo.load).parameters if name != "name"]
        for name in self.load:
            if name not in known:
                raise ConfigError(f"load: zoo.load takes no {shown(name)}; {near_matches(str(name)[:80], known)}")
        options = dict(self.load)
        if options.get("dtype") is not None:
            dtype = getattr(torch, str(options["dtype"]), None)
            if not isinstance(dtype, torch.dtype):
                raise ConfigError(f"load: dtype must name one of torch, such as bfloat16, got {options['dtype']!r}.")
            options["dtype"] = dtype
        return options
