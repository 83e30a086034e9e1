"""Reading a configuration strictly: a dataclass of plain values in, the same dataclass out, unknown keys refused."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from zoo.errors import ConfigError, near_matches, shown

__all__ = ["check_fields", "check_positive", "from_dict", "of_kind", "to_dict"]

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a dataclass as plain values that survive JSON: tuples become lists, nested dataclasses become dicts."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def from_dict(cls: type[T], values: Mapping[str, Any], where: str = "config") -> T:
    """Build the dataclass `cls` from plain values.

    Args:
        cls: A dataclass whose fields are annotated with plain types: int, float, bool, str, `Literal`, `tuple[x, ...]`,
            `x | None`, or another such dataclass.
        values: The values by field name, as JSON gives them.
        where: What the values were read from, for error messages.

    Raises:
        ConfigError: A key is unknown or missing, or a value has the wrong type. Nothing is guessed or converted but
            list to tuple and int to float.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} must be a mapping of field names to values, got {type(values).__name__}.")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise ConfigError(f"{where} has the unknown key {shown(key)}; {near_matches(str(key)[:80], fields)}")
    hints = typing.get_type_hints(cls)
    ready = {}
    for name, field in fields.items():
        if name in values:
            ready[name] = _checked(values[name], hints[name], f"{where}: {name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where} lacks the key {name!r}, which has no default.")
    return cls(**ready)


def of_kind(options: Any, values: Mapping[str, Any], where: str = "config") -> Any:
    """Build that dataclass of a union whose field `kind` has the default that the values name.

    Args:
        options: `A | B | …`, dataclasses as `from_dict` takes, each with a `kind` of its own. Such a union is also a
            type that a field can have.
        values: The values by field name, `kind` among them.
        where: What the values were read from, for error messages.

    Raises:
        ConfigError: The kind is missing or unknown, or as `from_dict`.
    """
    return _checked(values, options, where)


def check_fields(config: Any, where: str) -> None:
    """Refuse field values that their annotations forbid, for a config dataclass that is built in Python.

    To be called first in `__post_init__`: a misspelt word would otherwise count as some other choice. Lists become
    tuples and integers floats where the annotation says so, as in `from_dict`.

    Args:
        config: A dataclass, which may be frozen.
        where: Whose settings these are, for error messages.

    Raises:
        ConfigError: A value has the wrong type.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = _checked(getattr(config, field.name), hints[field.name], f"{where}: {field.name}")
        object.__setattr__(config, field.name, value)


def check_positive(config: Any, where: str, signed: Sequence[str] = ()) -> None:
    """Refuse integers below 1 and negative numbers among a dataclass's fields, but for those that have a sign.

    Raises:
        ConfigError: There is one.
    """
    for name, value in vars(config).items():
        if name in signed:
            continue
        if type(value) is int and value < 1:
            raise ConfigError(f"{where}: {name} must be at least 1, got {value}.")
        if type(value) is float and not value >= 0:
            raise ConfigError(f"{where}: {name} must not be negative, got {value}.")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _checked(value: Any, hint: Any, where: str) -> Any:
    """Return `value` as the annotated type, or raise."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        failures = []
        for option in _candidates(value, [option for option in options if option is not type(None)], where):
            try:
                return _checked(value, option, where)
            except ConfigError as error:
                failures.append(str(error))
        raise ConfigError("; or ".join(failure.removesuffix(".") for failure in failures) + ".")
    if origin is typing.Literal:
        choices = typing.get_args(hint)
        if value not in choices or type(value) is not type(choices[choices.index(value)]):
            raise ConfigError(f"{where} must be one of {', '.join(map(repr, choices))}, got {shown(value)}.")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} must be a list, got {shown(value)}.")
        inner = typing.get_args(hint)
        if len(inner) == 2 and inner[1] is Ellipsis:
            inner = (inner[0],) * len(value)
        if len(inner) != len(value):
            raise ConfigError(f"{where} must have {len(inner)} entries, got {len(value)}.")
        return tuple(
            _checked(item, kind, f"{where}[{i}]") for i, (item, kind) in enumerate(zip(value, inner, strict=True))
        )
    if dataclasses.is_dataclass(hint):
        if type(value) is hint:
            return value
        return from_dict(typing.cast(type, hint), value, where)
    if origin is not None or not isinstance(hint, type):
        raise TypeError(f"{where}: a config cannot hold {hint}, see from_dict for the types it can.")
    if hint is float and type(value) is int and abs(value) < 2**1023:
        value = float(value)
    if type(value) is not hint:
        raise ConfigError(f"{where} must be {hint.__name__}, got {shown(value)} ({type(value).__name__}).")
    if hint is float and not math.isfinite(value):
        raise ConfigError(f"{where} must be a finite number, got {value!r}.")
    return value


def _candidates(value: Any, options: list[Any], where: str) -> list[Any]:
    """Return those of a union's options that a value can be: of dataclasses with a field `kind`, the one it names."""
    kinds = {
        field.default: option
        for option in options
        if dataclasses.is_dataclass(option)
        for field in dataclasses.fields(option)
        if field.name == "kind"
    }
    if len(kinds) < len(options):
        return options
    if type(value) in options:
        return [type(value)]
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if not isinstance(kind, str):
        raise ConfigError(
            f"{where} must be a mapping with a kind, one of {', '.join(map(str, kinds))}; got {shown(value)}."
        )
    if kind not in kinds:
        raise ConfigError(f"{where} has the unknown kind {shown(kind)}; {near_matches(kind[:80], map(str, kinds))}")
    return [kinds[kind]]
