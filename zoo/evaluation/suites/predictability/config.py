"""What a suite of predictability measures, as YAML read strictly."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from zoo.config import check_positive
from zoo.errors import ConfigError, InputError
from zoo.evaluation.items import Bootstrap, cache
from zoo.strict import is_there

__all__ = ["Budget", "PredictabilityData", "PredictabilitySuite", "Sized", "Source"]


@dataclass(frozen=True)
class Source:
    """Where the data of a modality is, with a part to learn from and another to measure on.

    Args:
        file: Name in the library's data cache: a file of actions, or a folder that training reads.
        made_by: The command that makes it.
        fit_split: Part of actions that is learned from; other data have `train` and `test` of their own.
        test_split: Part of actions that is measured on.
        sha256: Of the file, or of a folder's manifests, when the published figures were made; "" if there are none.
    """

    file: str
    made_by: str = ""
    fit_split: str = "train"
    test_split: str = "test"
    sha256: str = ""

    def digest(self, path: Path) -> str:
        """Return the SHA-256 of a file, or of the manifests in a folder."""
        whole = hashlib.sha256()
        for each in [path] if path.is_file() else sorted(path.glob("*.jsonl")):
            whole.update(each.read_bytes())
        return whole.hexdigest()


@dataclass(frozen=True)
class PredictabilityData:
    """What is encoded, by modality.

    Args:
        speech: A folder with manifests, as `zoo.data.speech.SpeechData` reads it.
        image: Pictures, as `zoo.data.images.ImageData` reads them.
        video: Clips, as `zoo.data.videos.VideoData` reads them.
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
        source: Source | None = getattr(self, modality, None)
        if source is None:
            raise ConfigError(f"the suite names no data for {modality}: add some under data.{modality}.")
        path = path / source.file if path == cache() else path
        if not is_there(path):
            raise InputError(
                f"{path} does not exist: make it with `{source.made_by}`, or point --data at data that training reads."
            )
        return source, path


@dataclass(frozen=True)
class Sized:
    """The generator that is trained on each tokenizer's ids.

    Args:
        width: D.
        num_layers: Layers.
        num_heads: Attention heads.
        dropout: In training, of inputs and of both branches.
    """

    width: int = 64
    num_layers: int = 2
    num_heads: int = 2
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self, "generator")


@dataclass(frozen=True)
class Budget:
    """How long it is trained.

    Args:
        num_steps: Optimiser steps.
        batch_size: Items of a step.
        lr: The highest learning rate; half a cosine leads down from it to a hundredth.
        warmup_steps: Steps to it.
        weight_decay: Of linear maps.
    """

    num_steps: int = 300
    batch_size: int = 16
    lr: float = 3e-3
    warmup_steps: int = 20
    weight_decay: float = 0.05

    def __post_init__(self) -> None:
        if self.num_steps <= self.warmup_steps or min(self.batch_size, self.warmup_steps) < 1 or self.lr <= 0:
            raise ConfigError(
                "training: num_steps must be more than warmup_steps, and all numbers above 0; got "
                f"{self.num_steps}, {self.warmup_steps}, {self.batch_size} items and a rate of {self.lr}."
            )


@dataclass(frozen=True)
class PredictabilitySuite:
    """A suite for tokenizers of any modality.

    Args:
        kind: Which suite this is.
        title: For people.
        data: What to encode.
        models: Registered names, folders or Hub addresses.
        generator: The model of ids, the same for all but for the rows of its tables.
        training: Its budget, the same for all.
        seeds: One training each.
        num_chunks: Chunks of actions in an item; the last is also predicted from those before it.
        max_seconds: Longer speech is cut.
        max_fit_items: Items to learn from, evenly picked; all if None.
        max_items: Items to measure on, evenly picked; all if None.
        bootstrap: How intervals are made.
    """

    kind: Literal["predictability"]
    title: str
    data: PredictabilityData
    models: tuple[str, ...]
    generator: Sized = field(default_factory=Sized)
    training: Budget = field(default_factory=Budget)
    seeds: tuple[int, ...] = (0, 1, 2)
    num_chunks: int = 2
    max_seconds: float = 8.0
    max_fit_items: int | None = None
    max_items: int | None = None
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    def __post_init__(self) -> None:
        counts = [n for n in (self.max_fit_items, self.max_items) if n is not None]
        if not self.seeds or min(self.seeds) < 0 or self.num_chunks < 2 or min(counts, default=1) < 1:
            raise ConfigError(
                "there must be at least one seed of 0 or more, 2 chunks, and one item; got "
                f"{list(self.seeds)}, {self.num_chunks}, {counts}."
            )
        if not self.max_seconds > 0:
            raise ConfigError(f"max_seconds must be above 0, got {self.max_seconds}.")
