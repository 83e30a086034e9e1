"""What suites of all kinds have: where data is cached, and how intervals are made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Bootstrap", "cache"]


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made."""

    num_resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0


def cache() -> Path:
    """Return the library's data cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenizer-zoo"
