"""Where data lies: what ships with the library, in the checkout or inside an installed wheel, and what it has made."""

from __future__ import annotations

import os
from pathlib import Path

from zoo import strict
from zoo.errors import CheckpointError, ConfigError, UnknownNameError, ZooError, near_matches

__all__ = ["cache", "expanded", "named_recipe", "named_script", "named_suite", "path"]

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


def named_suite(name: str) -> Path:
    """Return the suite of `eval/` of that name, such as `action`.

    Raises:
        UnknownNameError: There is none.
    """
    return _named("suite", name, path("eval"))


def named_recipe(name: str) -> Path:
    """Return the training recipe of `recipes/` of that name, such as `stabletoken/nano`.

    Raises:
        UnknownNameError: There is none.
    """
    return _named("recipe", name, path("recipes"))


def named_script(name: str) -> Path:
    """Return the script of `recipes/data/` that makes the data of that name, such as `speech`.

    Raises:
        UnknownNameError: There is none.
    """
    return _named("data set", name, path("recipes", "data"), "*.py")


def _named(what: str, name: str, root: Path, pattern: str = "**/*.yaml") -> Path:
    known = {file.relative_to(root).with_suffix("").as_posix(): file for file in root.glob(pattern)}
    if name not in known:
        raise UnknownNameError(f"there is no {what} {name[:80]!r}; {near_matches(name[:80], known)}")
    return known[name]


def cache() -> Path:
    """Return the folder of data sets and models that the scripts in `recipes/data` make, as XDG_CACHE_HOME has it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenizer-zoo"


def expanded(text: str | os.PathLike[str], error: type[ZooError] = ConfigError) -> Path:
    """Return a path of a recipe, with `~` for the home folder and, at its beginning, `${cache}` for `cache()`.

    Raises:
        ZooError: `error`: it names the home folder of nobody.
    """
    given = os.fspath(text)
    if given == _CACHE or given.startswith((f"{_CACHE}/", f"{_CACHE}{os.sep}")):
        return cache() / given[len(_CACHE) + 1 :]
    return strict.expanded(given, error)
