"""Settings out of several files and options, merged at any depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

__all__ = ["completed"]

_SECTIONS = ("model", "data")  # whose classes take mappings of whatever is in them
_SPEC = ("class_path", "init_args")


def completed(arguments: Sequence[str]) -> list[str]:
    """Return a command line in which each mapping is whole, for a parser that puts a later one in place of an earlier.

    So `--model.config.quantizer.dim 4`, or a second `--config` with nothing but `model.init_args.config.quantizer`,
    changes what it names and leaves the rest. A mapping whose `kind` is another one replaces the earlier, as a class
    with another `class_path` does: its settings are others. `null` empties.

    Options that the parser merges by itself stay as they are, and so does what it has to complain about.
    """
    state: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    result: list[str] = []
    for option, value, original in _options(arguments):
        section, _, path = option.removeprefix("--").partition(".")
        if option == "--config" and value is not None:
            result += [option, _file(state, value)]
        elif section in _SECTIONS and value is not None:
            result += _override(state[section], section, path, value, original)
        else:
            result += original
    return result


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str | None, list[str]]]:
    """Yield each option, its value if there is one, and both as they were given."""
    position = 0
    while position < len(arguments):
        option, sign, value = arguments[position].partition("=")
        if sign or not option.startswith("--"):
            yield option, value if sign else None, [arguments[position]]
            position += 1
        elif position + 1 < len(arguments) and not arguments[position + 1].startswith("--"):
            yield option, arguments[position + 1], list(arguments[position : position + 2])
            position += 2
        else:
            yield option, None, [option]
            position += 1


def _file(state: dict[str, dict[str, Any]], path: str) -> str:
    """Return a file's path or, if it goes on with earlier mappings, its content with these whole."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return path
    if not isinstance(content, dict):
        return path
    changed = False
    for section in _SECTIONS:
        found = content.get(section)
        if isinstance(found, dict):
            content[section], differs = _section(state[section], found)
            changed |= differs
        elif section in content:
            state[section].clear()
    return _text(content) if changed else path


def _section(state: dict[str, Any], found: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return a section of a file with its mappings whole, and whether it differs; remember them."""
    is_spec = any(key in found for key in _SPEC)
    if is_spec and "class_path" in found:
        _set_class(state, found["class_path"])
    given = found.get("init_args") if is_spec else found
    if not isinstance(given, dict):
        return found, False
    whole = {name: _remembered(state, name, value) for name, value in given.items()}
    return ({**found, "init_args": whole} if is_spec else whole), whole != given


def _override(state: dict[str, Any], section: str, path: str, value: str, original: list[str]) -> list[str]:
    """Return an option of a class with the mapping that it changes whole; remember it."""
    parts = path.removeprefix("init_args.").split(".")
    if parts in ([""], ["class_path"]):
        _set_class(state, value)
        return original
    parsed = _value(value)
    name, *deeper = parts
    if not deeper and not (isinstance(parsed, dict) and isinstance(state.get(name), dict)):
        _remembered(state, name, parsed)
        return original
    if deeper and not isinstance(state.get(name, {}), dict):  # not a mapping so far, which the parser knows better
        return original
    for key in reversed(deeper):
        parsed = {key: parsed}
    return [f"--{section}.{name}", _text(_remembered(state, name, parsed)).strip()]


def _set_class(state: dict[str, Any], class_path: Any) -> None:
    """Forget what was given to another class."""
    before = state.get("class_path", class_path)
    if str(before).rpartition(".")[2] != str(class_path).rpartition(".")[2]:
        state.clear()
    state["class_path"] = class_path


def _remembered(state: dict[str, Any], name: str, value: Any) -> Any:
    state[name] = _merged(state.get(name), value)
    return state[name]


def _merged(before: Any, value: Any) -> Any:
    if not (isinstance(before, Mapping) and isinstance(value, Mapping)):
        return value
    if "kind" in value and value["kind"] != before.get("kind"):
        return value
    return {**before, **{key: _merged(before.get(key), item) for key, item in value.items()}}


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError):
        return text


def _text(value: Any) -> str:
    """Return YAML that the parser reads alike: what is a number to it but not to PyYAML (1e-3) stays unquoted."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=2**31, allow_unicode=True)
    return text
