"""Checkpoint folders: `folder` saves and loads them, the rest is what that needs."""

from __future__ import annotations

from zoo.checkpoint.folder import CONFIG, FORMAT, WEIGHTS, is_checkpoint, load, read_manifest, save

__all__ = ["CONFIG", "FORMAT", "WEIGHTS", "is_checkpoint", "load", "read_manifest", "save"]
