"""Names: which families there are, which models, where each model's weights are.

Families are classes; models are entries of `checkpoints/registry.yaml`. Another package adds its own families through
the entry-point group `zoo.families`, or either kind at run time through `register`.
"""

from __future__ import annotations

import importlib
import re
import warnings
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from zoo import config, resources
from zoo.errors import ConfigError, UnknownNameError, near_matches
from zoo.tokens import MODALITIES, Modality

if TYPE_CHECKING:
    from zoo.tokenizer import Tokenizer

__all__ = ["ModelEntry", "families", "family", "info", "list_models", "model", "register"]

# Where the library's own families are. A string each, so that naming a family imports nothing.
_BUILT_IN = {
    "beast": "zoo.families.beast:BeastTokenizer",
    "binning": "zoo.families.binning:BinningTokenizer",
    "fast": "zoo.families.fast:FastTokenizer",
}

_added_families: dict[str, type[Tokenizer]] = {}
_added_models: dict[str, ModelEntry] = {}

Item = TypeVar("Item", bound="type[Tokenizer] | ModelEntry")


@dataclass(frozen=True)
class ModelEntry:
    """One name that `zoo.load` knows.

    Args:
        name: `family.variant`.
        family: Which family reads the checkpoint.
        modality: What is tokenized.
        source: A folder of `checkpoints/` that ships, or `hf://owner/repo@revision`.
        licence: SPDX identifier of the licence of the weights.
        description: One line for people.
        trained_on: What the weights or statistics were made from.
        num_parameters: Trained numbers.
        is_default: Whether the bare family name means this one.
    """

    name: str
    family: str
    modality: Modality
    source: str
    licence: str
    description: str
    trained_on: str
    num_parameters: int
    is_default: bool = False

    @property
    def is_shipped(self) -> bool:
        """Whether the checkpoint comes with the library, so that it loads without a network."""
        return not self.source.startswith("hf://")


def register(item: Item, *, replace: bool = False) -> Item:
    """Add a family (a `Tokenizer` subclass; also as a decorator) or a model name (a `ModelEntry`).

    Args:
        item: What to add.
        replace: Allow taking the place of what has the name already.

    Returns:
        `item`.

    Raises:
        ConfigError: The name is taken or malformed.
    """
    if isinstance(item, ModelEntry):
        _check_name(item)
        if item.name in _models() and not replace:
            raise ConfigError(f"the model {item.name!r} is registered already: pass replace=True to take its place.")
        family(item.family)
        _added_models[item.name] = item
        return item
    name = getattr(item, "family", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigError(f"{item!r} needs a class attribute `family` that is an identifier, got {name!r}.")
    if (name in _BUILT_IN or name in _added_families) and not replace:
        raise ConfigError(f"the family {name!r} is registered already: pass replace=True to take its place.")
    _added_families[name] = item
    return item


def families() -> tuple[str, ...]:
    """Return the names of all families, other packages' included."""
    return tuple(sorted({*_BUILT_IN, *_added_families, *_plugins()}))


def family(name: str) -> type[Tokenizer]:
    """Return the class of a family.

    Raises:
        UnknownNameError: No such family.
    """
    if name in _added_families:
        return _added_families[name]
    target = _BUILT_IN.get(name) or _plugins().get(name)
    if target is None:
        raise UnknownNameError(f"there is no family {name!r}; {near_matches(name, families())}")
    module, _, attribute = target.partition(":")
    loaded: type[Tokenizer] = getattr(importlib.import_module(module), attribute)
    return loaded


def model(name: str) -> ModelEntry:
    """Return the entry of a model: `family.variant`, or a bare family name for its default.

    Raises:
        UnknownNameError: No such model; the message lists near matches.
    """
    models = _models()
    if name in models:
        return models[name]
    for entry in models.values():
        if entry.family == name and entry.is_default:
            return entry
    candidates = {*models, *(entry.family for entry in models.values())}
    raise UnknownNameError(f"there is no model {name!r}; {near_matches(name, candidates)} `zoo list` shows them all.")


def list_models(modality: str | None = None, family: str | None = None) -> list[str]:
    """Return the names of all models, sorted, optionally of one modality or family.

    Raises:
        UnknownNameError: No such modality or family.
    """
    if modality is not None and modality not in MODALITIES:
        raise UnknownNameError(f"there is no modality {modality!r}; known: {', '.join(MODALITIES)}.")
    if family is not None and family not in families():
        raise UnknownNameError(f"there is no family {family!r}; {near_matches(family, families())}")
    return sorted(
        entry.name
        for entry in _models().values()
        if modality in (None, entry.modality) and family in (None, entry.family)
    )


def info(name: str) -> dict[str, Any]:
    """Return everything known about a model without loading it: the entry's fields as plain values.

    Raises:
        UnknownNameError: No such model.
    """
    entry = model(name)
    return {**config.to_dict(entry), "is_shipped": entry.is_shipped}


def _models() -> dict[str, ModelEntry]:
    return {**_shipped_models(), **_added_models}


@cache
def _shipped_models() -> dict[str, ModelEntry]:
    import yaml

    path = resources.path("checkpoints", "registry.yaml")
    entries = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    models = {
        name: config.from_dict(ModelEntry, {"name": name, **values}, f"{path.name}: {name}")
        for name, values in entries.items()
    }
    for entry in models.values():
        _check_name(entry)
    return models


@cache
def _plugins() -> dict[str, str]:
    """Return family → target of other packages' entry points. Importing one waits until it is asked for."""
    found: dict[str, str] = {}
    for point in entry_points(group="zoo.families"):
        if point.name in _BUILT_IN or point.name in found:
            warnings.warn(f"ignoring the second zoo.families entry point {point.name!r} ({point.value})", stacklevel=2)
            continue
        found[point.name] = point.value
    return found


def _check_name(entry: ModelEntry) -> None:
    if not re.fullmatch(rf"{re.escape(entry.family)}\.[A-Za-z0-9][A-Za-z0-9._-]*", entry.name):
        raise ConfigError(f"a model is named family.variant, such as {entry.family}.nano, got {entry.name!r}.")
