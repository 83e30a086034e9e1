"""Where data lies: what ships with the library, in the checkout or inside an installed wheel, and what it has made."""

from __future__ import annotations

import os
from pathlib import Path

from zoo.errors import CheckpointError

__all__ = ["cache", "expanded", "path"]

_CACHE = "${cache}"

_PACKAGE = Path(__file__).resolve().parent


def path(*parts: str) -> Path:
    """Return the path of a shipped file or folder, such as `path("checkpoints", "registry.yaml")`.

    Raises:
        CheckpointError: The library was installed without its data.
    """
    for root in (_PACKAGE / "_data", _PACKAGE.parent):
        found = root.joinpath(*parts)
        if found.exists():
            return found
    raise CheckpointError(
        f"{'/'.join(parts)} does not exist in this installation of tokenizer-zoo: reinstall it "
        "(pip install --force-reinstall tokenizer-zoo), or install the checkout with pip install -e ."
    )


def cache() -> Path:
    """Return the folder of data sets and models that the scripts in `recipes/data` make, as XDG_CACHE_HOME has it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenizer-zoo"


def expanded(text: str | os.PathLike[str]) -> Path:
    """Return a path of a recipe, with `~` for the home folder and, at its beginning, `${cache}` for `cache()`."""
    given = os.fspath(text)
    if given == _CACHE or given.startswith((f"{_CACHE}/", f"{_CACHE}{os.sep}")):
        return cache() / given[len(_CACHE) + 1 :]
    return Path(given).expanduser()
