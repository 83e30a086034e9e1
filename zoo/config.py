"""Reading a configuration strictly: a dataclass of plain values in, the same dataclass out, unknown keys refused."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from zoo.errors import ConfigError, near_matches, shown

__all__ = ["MAX_COUNT", "MAX_SIZE", "check_fields", "check_positive", "check_product", "from_dict", "to_dict"]

MAX_COUNT, MAX_SIZE = 1024, 2**20
"""The most of what is counted (`num_x`), and of other integers, that `check_positive` finds plausible."""
_MAX_FLOAT, _MAX_ENTRIES, _MAX_LIST = 1e9, 64, 2**16

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a dataclass as plain values that survive JSON: tuples become lists, nested dataclasses become dicts."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def from_dict(cls: type[T], values: Mapping[str, Any], where: str = "config") -> T:
    """Build the dataclass `cls` from plain values.

    Args:
        cls: A dataclass whose fields are annotated with plain types: int, float, bool, str, `Literal`, `tuple[x, ...]`,
            `x | None`, or another such dataclass. One without fields stands for its subclasses, which its class method
            `from_plain(values, where)` reads.
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
    lacking = [
        name
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if lacking:
        keys = f"key {lacking[0]!r}" if len(lacking) == 1 else f"keys {', '.join(map(repr, lacking))}"
        raise ConfigError(f"{where} lacks the {keys}, which ha{'s' if len(lacking) == 1 else 've'} no default.")
    hints = typing.get_type_hints(cls)
    ready = {}
    for name in fields:
        if name in values:
            ready[name] = _checked(values[name], hints[name], f"{where}: {name}")
    return cls(**ready)


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
    """Refuse numbers among a dataclass's fields that are too small or implausibly large, before anything is built.

    Integers are at least 1, other numbers not negative, but for those that have a sign. Counts (`num_x`) are of what is
    built one by one, and at most 1024, other integers at most 2^20, and lists have at most 64 entries: far above any
    model's, and low enough that a config of a stranger cannot ask for hours of work or all memory by one number.
    Products of sizes are for the caller, see `check_product`.

    Raises:
        ConfigError: There is one.
    """
    for name, value in vars(config).items():
        ceiling = MAX_COUNT if name.startswith("num_") else MAX_SIZE
        for number in _numbers(value, f"{where}: {name}"):
            if type(number) is int and abs(number) > ceiling:
                raise ConfigError(f"{where}: {name} must be at most {ceiling}, got {shown(number)}.")
            if type(number) is float and abs(number) > _MAX_FLOAT:
                raise ConfigError(f"{where}: {name} must be at most {_MAX_FLOAT:g}, got {number:g}.")
        if name in signed:
            continue
        if type(value) is int and value < 1:
            raise ConfigError(f"{where}: {name} must be at least 1, got {value}.")
        if type(value) is float and not value >= 0:
            raise ConfigError(f"{where}: {name} must not be negative, got {value}.")


def check_product(config: Any, where: str, names: Sequence[str], most: int) -> None:
    """Refuse fields that are plausible one by one and not together, such as layers and blocks of layers.

    Raises:
        ConfigError: Their product is above `most`.
    """
    values = [getattr(config, name) for name in names]
    if math.prod(values) > most:
        raise ConfigError(f"{where}: {' × '.join(names)} must be at most {most}, got {' × '.join(map(str, values))}.")


def _numbers(value: Any, where: str) -> Iterator[int | float]:
    """Yield the numbers of a field's value, those in lists included."""
    if isinstance(value, tuple):
        if len(value) > _MAX_ENTRIES:
            raise ConfigError(f"{where} must have at most {_MAX_ENTRIES} entries, got {len(value)}.")
        for item in value:
            yield from _numbers(item, where)
    elif type(value) in (int, float):
        yield value


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
        for option in _of_kind(value, [option for option in options if option is not type(None)], where):
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
        if len(value) > _MAX_LIST:
            raise ConfigError(f"{where} has {len(value)} entries; a config's lists have at most {_MAX_LIST}.")
        inner = typing.get_args(hint)
        if len(inner) == 2 and inner[1] is Ellipsis:
            inner = (inner[0],) * len(value)
        if len(inner) != len(value):
            raise ConfigError(f"{where} must have {len(inner)} entries, got {len(value)}.")
        return tuple(
            _checked(item, kind, f"{where}[{i}]") for i, (item, kind) in enumerate(zip(value, inner, strict=True))
        )
    if dataclasses.is_dataclass(hint):
        if hasattr(hint, "from_plain") and not dataclasses.fields(hint):  # stands for all of its subclasses
            return value if isinstance(value, typing.cast(type, hint)) else hint.from_plain(value, where)
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


def _of_kind(value: Any, options: list[Any], where: str) -> list[Any]:
    """Return those of a union's options that a value can be: of dataclasses with a field `kind`, the one it names."""
    kinds = {
        field.default: option
        for option in options
        if dataclasses.is_dataclass(option)
        for field in dataclasses.fields(option)
        if field.name == "kind"
    }
    if len(kinds) < len(options) or not isinstance(value, Mapping):
        return options
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        known = ", ".join(map(str, kinds))
        raise ConfigError(f"{where} must be a mapping with a kind, one of {known}; the kind given is {shown(kind)}.")
    return [kinds[kind]]
