"""A text encoder from plain values, as a config or a recipe names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from zoo.components.text.base import TextEncoder
from zoo.components.text.minilm import DIM, MiniLM
from zoo.components.text.precomputed import KnownCaptions, Precomputed
from zoo.components.text.t5 import T5
from zoo.config import MAX_SIZE, check_fields, from_dict
from zoo.errors import ConfigError

__all__ = ["MiniLMConfig", "PrecomputedConfig", "T5Config", "TextEncoderConfig", "build"]


@dataclass(frozen=True)
class T5Config:
    """T5's encoder.

    Attributes:
        model: A repository of the Hub, or a folder, in transformers' layout.
        dim: Width of its states: 2048 of XL, 4096 of XXL, 768 of base, 512 of small.
        revision: Commit, tag or branch.
        dtype: What it computes in; in half precision it would overflow.
    """

    model: str = "google/t5-v1_1-xl"
    dim: int = 2048
    revision: str | None = None
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    kind: Literal["t5"] = "t5"

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class MiniLMConfig:
    """MiniLM, which `zoo data minilm` fetches."""

    kind: Literal["minilm"] = "minilm"

    @property
    def dim(self) -> int:
        """Width of its states."""
        return DIM


@dataclass(frozen=True)
class PrecomputedConfig:
    """States that are there already, in a file or passed with each call.

    Attributes:
        dim: Their width.
        file: The file, as `KnownCaptions` writes it; none if None.
    """

    dim: int
    file: str | None = None
    kind: Literal["precomputed"] = "precomputed"

    def __post_init__(self) -> None:
        _check(self)


TextEncoderConfig = T5Config | MiniLMConfig | PrecomputedConfig
"""Settings of a text encoder, told apart by `kind`."""


@dataclass(frozen=True)
class _Any:
    text: TextEncoderConfig


def build(
    config: TextEncoderConfig | Mapping[str, Any],
    max_length: int = 128,
    *,
    cache: str | Path | None = None,
    device: str | torch.device = "cpu",
) -> TextEncoder:
    """Return the text encoder of a config, or of the plain values of one.

    Args:
        config: What to build.
        max_length: The most tokens a caption may have.
        cache: A folder that keeps states from run to run, of encoders that compute any.
        device: Where a large one computes.

    Raises:
        ConfigError: A value is unusable.
        MissingExtraError: A package is not installed.
        CheckpointError: The encoder's files are missing or damaged.
    """
    if isinstance(config, Mapping):
        config = from_dict(_Any, {"text": config}, "text encoder").text
    if isinstance(config, MiniLMConfig):
        return MiniLM(max_length=max_length, cache=cache)
    if isinstance(config, T5Config):
        return T5(
            config.model,
            config.dim,
            max_length,
            revision=config.revision,
            dtype=config.dtype,
            device=device,
            cache=cache,
        )
    known = KnownCaptions() if config.file is None else KnownCaptions.from_file(config.file)
    return Precomputed(known, config.dim, max_length)


def _check(config: T5Config | PrecomputedConfig) -> None:
    check_fields(config, "text encoder")
    if not 1 <= config.dim <= MAX_SIZE:
        raise ConfigError(f"text encoder: dim must be from 1 to {MAX_SIZE}, got {config.dim}.")
