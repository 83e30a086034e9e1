"""Names: which families there are, which models, where each model's weights are.

Families are classes; models are entries of `checkpoints/registry.yaml`. Another package adds its own families through
the entry-point group `zoo.families`, and names of models, a `ModelEntry` or a list of them, through `zoo.models`; or
either at run time through `register`.
"""

from __future__ import annotations

import importlib
import inspect
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zoo import config, resources, strict
from zoo.errors import ConfigError, UnknownNameError, ZooError, near_matches
from zoo.spec import MODALITIES, Modality

if TYPE_CHECKING:
    from zoo.tokenizer import Tokenizer

__all__ = [
    "VARIANT",
    "ModelEntry",
    "families",
    "family",
    "generator",
    "info",
    "list_generators",
    "list_models",
    "model",
    "official",
    "published_at",
    "register",
    "stored",
]

VARIANT = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""Pattern of what follows `family.` in a name."""

_GROUP, _MODELS_GROUP = "zoo.families", "zoo.models"

# Where the library's own families are. A string each, so that naming a family imports nothing.
_BUILT_IN = {
    "autoencoder_kl": "zoo.families.autoencoder_kl:AutoencoderKLTokenizer",
    "beast": "zoo.families.beast:BeastTokenizer",
    "binning": "zoo.families.binning:BinningTokenizer",
    "fast": "zoo.families.fast:FastTokenizer",
    "flextok": "zoo.families.flextok:FlexTokTokenizer",
    "larp": "zoo.families.larp:LARPTokenizer",
    "ssdd": "zoo.families.ssdd:SSDDTokenizer",
    "ssdd_decoder": "zoo.families.ssdd_decoder:SSDDDecoderTokenizer",
    "stabletoken": "zoo.families.stabletoken:StableTokenTokenizer",
    "textok": "zoo.families.textok:TexTokTokenizer",
}

_OTHERS = {"generator": "zoo.generator.model:TokenGenerator"}  # what is stored like a tokenizer, and is none
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
        source: A folder of `checkpoints/` that ships, `hf://owner/repo[@revision]`, or the absolute path of a folder
            that another package brings.
        licence: SPDX identifier of the licence of the weights.
        description: One line for people.
        trained_on: What the weights or statistics were made from.
        num_parameters: Trained numbers.
        is_default: Whether the bare family name means this one.
        restriction: One sentence for people on what the licence does not allow, if it is not one of the usual free
            ones: research only, not for sale, not everywhere. Loading the model says it.
        tokenizer: Of a generator, the model over whose ids it is; "" of a tokenizer.
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
    restriction: str = ""
    tokenizer: str = ""

    @property
    def is_shipped(self) -> bool:
        """Whether the checkpoint comes with this or another package, so that it loads without a network."""
        return not self.source.startswith("hf://")

    @property
    def folder(self) -> Path:
        """Where a shipped checkpoint is."""
        return Path(self.source) if Path(self.source).is_absolute() else resources.path("checkpoints", self.source)


def register(item: Item, *, replace: bool = False) -> Item:
    """Add a family (a `Tokenizer` subclass; also as a decorator) or a model name (a `ModelEntry`).

    Args:
        item: What to add.
        replace: Allow taking the place of what has the name already.

    Returns:
        `item`.

    Raises:
        ConfigError: The name is taken or malformed, the class lacks something, or the family has another default.
        UnknownNameError: The model's family is not there: register it first.
    """
    add: Any = _add_model if isinstance(item, ModelEntry) else _add_family
    add(item, replace)
    return item


def _add_model(entry: ModelEntry, replace: bool) -> None:
    config.from_dict(ModelEntry, config.to_dict(entry), "model entry")
    _check_entry(entry)
    if entry.family not in families():
        raise UnknownNameError(f"there is no family {entry.family!r}; {near_matches(entry.family, families())}")
    taken = [entry.name] if entry.name in _models() else []
    if entry.is_default:
        taken += [other.name for other in _models().values() if other.family == entry.family and other.is_default]
    if taken and not replace:
        what = "is registered already" if entry.name in taken else f"is the default of {entry.family!r} already"
        raise ConfigError(f"the model {taken[0]!r} {what}: pass replace=True to take its place.")
    _added_models.pop(entry.name, None)
    _added_models[entry.name] = entry


def _add_family(cls: Any, replace: bool) -> None:
    name = _check_class(cls)
    own_entry_point = _plugins().get(name) == f"{cls.__module__}:{cls.__qualname__}"
    if name in families() and not replace and not own_entry_point:
        raise ConfigError(f"the family {name!r} is registered already: pass replace=True to take its place.")
    _added_families[name] = cls


def families() -> tuple[str, ...]:
    """Return the names of all families, other packages' included."""
    return tuple(sorted({*_BUILT_IN, *_added_families, *_plugins()}))


def family(name: str) -> type[Tokenizer]:
    """Return the class of a family.

    Raises:
        UnknownNameError: No such family.
        ConfigError: Another package's entry point cannot be imported, or is not that family.
    """
    if name in _added_families:
        return _added_families[name]
    target = _BUILT_IN.get(name) or _plugins().get(name)
    if target is None:
        raise UnknownNameError(
            f"there is no family {name!r}; {near_matches(name, families())} Another package's family is known once "
            f"that package is installed with the entry point {name!r} in {_GROUP}, or after zoo.register(its class)."
        )
    try:
        loaded: type[Tokenizer] = EntryPoint(name, target, _GROUP).load()
        found = _check_class(loaded)
    except ZooError:
        raise
    except Exception as error:  # whatever another package does when it is imported
        raise ConfigError(
            f"the family {name!r} cannot be imported from {target!r} ({type(error).__name__}: {error}): repair or "
            "uninstall the package that brings it."
        ) from error
    if found != name:
        raise ConfigError(f"the entry point {name!r} of {_GROUP} names {target!r}, whose family is {found!r}.")
    return loaded


def stored(name: str) -> Any:
    """Return the class of what checkpoints call by this name: a family, as `family` does, or the generator."""
    return EntryPoint(name, _OTHERS[name], _GROUP).load() if name in _OTHERS else family(name)


def official(name: str) -> Any:
    """Return the module that reads the files that the authors of a family released, None if there is none.

    It has `recognises(folder)`, `load(folder)` and `EXTRA_FILES`; see `Tokenizer.official`.

    Raises:
        UnknownNameError: No such family.
        ConfigError: The family, or its module, cannot be imported.
    """
    if not (module := stored(name).official):
        return None
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"the family {name!r} names {module!r}, which cannot be imported ({error}).") from error


def model(name: str) -> ModelEntry:
    """Return the entry of a model: `family.variant`, or a bare family name for its default.

    Raises:
        UnknownNameError: No such model; the message lists near matches.
    """
    models = _models()
    if name in models:
        return models[name]
    defaults = [entry for entry in models.values() if entry.family == name and entry.is_default]
    if defaults:
        return defaults[-1]  # a replaced default comes before the one that took its place
    variants = sorted(entry.name for entry in models.values() if entry.family == name)
    if name in _generators():
        raise UnknownNameError(f"{name!r} is a generator over tokens, no tokenizer: load it by zoo.load_generator.")
    if variants:
        raise UnknownNameError(f"{name!r} has no default variant: name one of {', '.join(variants)}.")
    candidates = {*models, *(entry.family for entry in models.values())}
    raise UnknownNameError(f"there is no model {name!r}; {near_matches(name, candidates)} `zoo list` shows them all.")


def generator(name: str) -> ModelEntry:
    """Return the entry of a generator over the ids of a tokenizer, or raise `UnknownNameError` with near matches."""
    if (entry := _generators().get(name)) is not None:
        return entry
    is_other = name in {*_models(), *families()}
    hint = "zoo.load loads this tokenizer." if is_other else near_matches(name, _generators())
    raise UnknownNameError(f"there is no generator {name!r}; {hint}")


def list_generators() -> list[str]:
    """Return the names of all generators over ids, sorted."""
    return sorted(_generators())


def list_models(pattern: str | None = None, family: str | None = None, *, modality: str | None = None) -> list[str]:
    """Return the names of all models, those that ship and those that would be downloaded, sorted.

    Args:
        pattern: What the names look like, with `*`, `?` and `[...]` as in a shell; a name; or a family or modality,
            which means all its models. All if None.
        family: Only those of one family.
        modality: Only those for speech, image, video or action.

    Raises:
        UnknownNameError: No such modality or family, or a pattern without wildcards that names nothing.

    Example:
        >>> list_models("beast*")
        ['beast.default']
    """
    if modality is not None and modality not in MODALITIES:
        raise UnknownNameError(f"there is no modality {modality!r}; known: {', '.join(MODALITIES)}.")
    if family is not None and family not in families():
        raise UnknownNameError(f"there is no family {family!r}; {near_matches(family, families())}")
    models = _models()
    pattern = "*" if pattern is None else pattern
    if not set("*?[") & set(pattern) and pattern not in {*models, *families(), *MODALITIES}:
        raise UnknownNameError(
            f"there is no model {pattern!r}; {near_matches(pattern, {*models, *families()})} Or use wildcards, as in "
            f"{pattern + '*'!r}."
        )
    return sorted(
        entry.name
        for entry in models.values()
        if modality in (None, entry.modality) and family in (None, entry.family)
        if pattern in (entry.family, entry.modality) or fnmatchcase(entry.name, pattern)
    )


def info(name: str) -> dict[str, Any]:
    """Return everything known about a tokenizer or generator without loading it: the entry's fields as plain values.

    Raises:
        UnknownNameError: No such model.
    """
    entry = _generators().get(name) or model(name)
    return {**config.to_dict(entry), "is_shipped": entry.is_shipped}


def published_at(address: str) -> Iterator[ModelEntry]:
    """Yield the entries of a Hub repository, `hf://owner/repo`, whatever the revision."""
    wanted = address.partition("@")[0].lower()
    return (entry for entry in _entries().values() if entry.source.partition("@")[0].lower() == wanted)


def _entries() -> dict[str, ModelEntry]:
    known = {**_shipped_models(), **_plugin_models()}
    # Added ones last, also where they take the place of another: the last default counts.
    return {**{name: entry for name, entry in known.items() if name not in _added_models}, **_added_models}


def _models() -> dict[str, ModelEntry]:
    return {name: entry for name, entry in _entries().items() if not entry.tokenizer}


def _generators() -> dict[str, ModelEntry]:
    return {name: entry for name, entry in _entries().items() if entry.tokenizer}


@cache
def _plugin_models() -> dict[str, ModelEntry]:
    """Return the models that other packages name; one that is unusable is left out with a warning."""
    found: dict[str, ModelEntry] = {}
    shipped = _shipped_models()
    for point in entry_points(group=_MODELS_GROUP):
        try:
            entries = point.load()
            for entry in [entries] if isinstance(entries, ModelEntry) else list(entries):
                config.from_dict(ModelEntry, config.to_dict(entry), "model entry")
                _check_entry(entry)
                defaults = {known.family for known in (*shipped.values(), *found.values()) if known.is_default}
                if entry.family not in families() or not (entry.source.startswith("hf://") or entry.folder.is_dir()):
                    raise ConfigError(f"{entry.name} has no such family, or no such folder.")
                if entry.name in {*shipped, *found} or (entry.is_default and entry.family in defaults):
                    raise ConfigError(f"{entry.name} is there already, or its family has another default.")
                found[entry.name] = entry
        except Exception as error:  # whatever another package does when it is imported
            text = f"{type(error).__name__}: {error}"
            warnings.warn(f"ignoring the {_MODELS_GROUP} entry point {point.name!r} ({text:.300})", stacklevel=2)
    return found


@cache
def _shipped_models() -> dict[str, ModelEntry]:
    path = resources.path("checkpoints", "registry.yaml")
    return parse(strict.read_text(path), str(path))


def parse(text: str, where: str = "registry.yaml") -> dict[str, ModelEntry]:
    """Read registry entries from YAML: a mapping of names to the fields of `ModelEntry`.

    Raises:
        ConfigError: It is not YAML, a field is unknown, missing or of the wrong type, a name is malformed, or a family
            has two defaults.
    """
    from zoo.strict.yaml import parse_yaml

    models = {}
    defaults: dict[str, str] = {}
    for name, values in parse_yaml(text, where).items():
        if not isinstance(values, dict) or "name" in values:
            raise ConfigError(f"{where}: {name} must be a mapping of fields, without a name of its own.")
        entry = config.from_dict(ModelEntry, {"name": name, **values}, f"{where}: {name}")
        _check_entry(entry)
        if entry.is_default and (other := defaults.setdefault(entry.family, entry.name)) != entry.name:
            raise ConfigError(f"{where}: {other} and {entry.name} are both the default of {entry.family!r}.")
        models[entry.name] = entry
    return models


@cache
def _plugins() -> dict[str, str]:
    """Return family → target of other packages' entry points. Importing one waits until it is asked for."""
    found: dict[str, str] = {}
    for point in entry_points(group=_GROUP):
        if point.name in _BUILT_IN or point.name in found:
            warnings.warn(f"ignoring the second {_GROUP} entry point {point.name!r} ({point.value})", stacklevel=2)
            continue
        found[point.name] = point.value
    return found


def _check_entry(entry: ModelEntry) -> None:
    if not re.fullmatch(rf"{re.escape(entry.family)}\.{VARIANT}", entry.name):
        raise ConfigError(f"a model is named family.variant, such as {entry.family}.nano, got {entry.name!r}.")
    local = not entry.source.startswith("hf://") and not Path(entry.source).is_absolute()
    if local and not re.fullmatch(VARIANT, entry.source):
        raise ConfigError(
            f"{entry.name}: the source is a folder of checkpoints/, hf://owner/repo[@revision], or an absolute path, "
            f"got {entry.source!r}."
        )


def _check_class(cls: Any) -> str:
    """Return the family that a class names, or say what it lacks."""
    from zoo.tokenizer import Tokenizer

    if not (isinstance(cls, type) and issubclass(cls, Tokenizer)):
        raise ConfigError(f"a family is a subclass of zoo.Tokenizer, got {cls!r:.80}.")
    name = getattr(cls, "family", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigError(f"{cls.__name__} needs a class attribute `family` that is an identifier, got {name!r}.")
    if not is_dataclass(getattr(cls, "config_class", None)):
        raise ConfigError(f"{cls.__name__} needs a class attribute `config_class` that is a dataclass.")
    if inspect.isabstract(cls):
        raise ConfigError(f"{cls.__name__} does not implement {', '.join(sorted(cls.__abstractmethods__))}.")
    return name
