"""What a suite of invariance measures, as YAML read strictly."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from zoo.errors import ConfigError, InputError
from zoo.evaluation.items import Bootstrap, cache
from zoo.strict import is_there

__all__ = ["Chunking", "InvarianceData", "InvarianceSuite", "Mode", "Source"]


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
        if not is_there(path):
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
class Mode:
    """A fast mode.

    Args:
        name: What results call it.
        dtype: What the model is loaded in, such as "bfloat16"; its own if None.
    """

    name: str
    dtype: str | None = None

    def __post_init__(self) -> None:
        self.load_options()

    def load_options(self) -> dict[str, Any]:
        """Return what `zoo.load` is given beside the name.

        Raises:
            ConfigError: There is no such dtype.
        """
        if self.dtype is None:
            return {"exact": False}
        dtype = getattr(torch, self.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise ConfigError(f"dtype must name one of torch, such as bfloat16, got {self.dtype!r}.")
        return {"exact": False, "dtype": dtype}


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
        modes: Fast modes, for the models that have one. Ids are compared with those of exact mode.
        chunking: Also cut long speech otherwise.
    """

    kind: Literal["invariance"]
    title: str
    data: InvarianceData
    models: tuple[str, ...]
    max_items: int | None
    seed: int = 0
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    modes: tuple[Mode, ...] = ()
    chunking: Chunking | None = None

    def __post_init__(self) -> None:
        if self.max_items is not None and self.max_items < 1:
            raise ConfigError(f"max_items must be at least 1, or null for all, got {self.max_items}.")
