"""Checkpoint folders: `folder` saves and loads them, the rest is what that needs."""

from __future__ import annotations

from zoo.checkpoint.folder import (
    CONFIG,
    DECODER,
    FORMAT,
    TRAINING,
    WEIGHTS,
    is_checkpoint,
    load,
    read_manifest,
    read_training,
    save,
)

__all__ = [
    "CONFIG",
    "DECODER",
    "FORMAT",
    "TRAINING",
    "WEIGHTS",
    "is_checkpoint",
    "load",
    "read_manifest",
    "read_training",
    "save",
]
