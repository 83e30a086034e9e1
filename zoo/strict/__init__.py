"""Reading text that somebody else wrote: a regular file, UTF-8, and JSON, with one short error for whatever is wrong.

Everything that this library reads as JSON or YAML comes through here, since Python's readers raise half a dozen kinds
of errors of their own, wait for pipes, and take what the formats leave open for granted.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from zoo.errors import ConfigError, ZooError, shown

__all__ = ["decode", "expanded", "is_file", "is_there", "parse_json", "read_json", "read_text"]

_MAX_BYTES = 2**26
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def expanded(path: str | os.PathLike[str], error: type[ZooError] = ConfigError) -> Path:
    """Return a path that a user has written, `~` being a home folder.

    Raises:
        ZooError: `error`: there is no such user, or it holds the character 0, which the system takes for its end.
    """
    if "\0" in os.fspath(path):
        raise error(f"{os.fspath(path)!r} cannot be a path: it holds the character 0.")
    try:
        return Path(path).expanduser()
    except RuntimeError as problem:
        raise error(f"{os.fspath(path)} names a home folder that cannot be found: write the path out.") from problem


def is_there(path: str | os.PathLike[str]) -> bool:
    """Return whether there is a file or folder of that name.

    There is none of a name that no file can have, for which `Path.exists` raises an error of the system.
    """
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def is_file(path: str | os.PathLike[str]) -> bool:
    """Return whether there is a regular file of that name; see `is_there`."""
    return is_there(path) and Path(path).is_file()


def read_text(path: str | os.PathLike[str], error: type[ZooError] = ConfigError, most: int = _MAX_BYTES) -> str:
    """Return the text in a regular file, its line ends as they are, without a byte order mark.

    Args:
        path: Where it is.
        error: What to raise.
        most: Bytes that such a file can have.

    Raises:
        ZooError: `error`: it is missing, no regular file, unreadable, implausibly large, or not UTF-8.
    """
    path = Path(path)
    try:
        if not path.is_file():  # opening a pipe would wait for its writer, and a device may never end
            there = path.exists() or path.is_symlink()
            raise error(f"{_named(path)} {'is not a regular file' if there else 'does not exist'}.")
        with path.open("rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as problem:
        if isinstance(problem, ZooError):
            raise
        raise error(f"{_named(path)} cannot be read: {_reason(problem)}.") from problem
    if len(content) > most:
        raise error(f"{path} has more than {most} bytes, which no such file takes.")
    return decode(content, str(path), error)


def read_json(path: str | os.PathLike[str], error: type[ZooError] = ConfigError) -> dict[str, Any]:
    """Return the JSON object in a regular file; see `read_text` and `parse_json`.

    Raises:
        ZooError: `error`: it cannot be read.
    """
    return parse_json(read_text(path, error), str(path), error)


def decode(content: bytes, where: str, error: type[ZooError] = ConfigError) -> str:
    """Return bytes as text, without a byte order mark.

    Raises:
        ZooError: `error`: they are not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"{where} is not text in UTF-8: {problem.reason} at byte {problem.start}.") from problem


def parse_json(text: str, where: str, error: type[ZooError] = ConfigError, *, with_nan: bool = True) -> dict[str, Any]:
    """Return the one JSON object that a text is.

    Args:
        text: The text.
        where: What it is, for the message: a file, or a line of one.
        error: What to raise.
        with_nan: Read `NaN` and `Infinity`, which are not JSON, but which Python and its kin write.

    Raises:
        ZooError: `error`: it is not JSON, no object, has a key twice, or half a surrogate pair, which no file can hold.
    """
    try:
        values = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=float if with_nan else _refuse)
        if _SURROGATE.search(text):
            json.dumps(values, ensure_ascii=False).encode()
    except json.JSONDecodeError as problem:
        place = f"line {problem.lineno}, column {problem.colno}" if "\n" in text.strip() else f"column {problem.colno}"
        raise error(f"{where} is not valid JSON: {problem.msg} at {place}.") from problem
    except (ValueError, RecursionError) as problem:
        raise error(f"{where} is not valid JSON: {_reason(problem)}.") from problem
    if not isinstance(values, dict):
        raise error(f"{where} must hold a JSON object, got {type(values).__name__}.")
    return values


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {shown(next(name for name in names if names.count(name) > 1))} is there twice")
    return values


def _reason(problem: Exception) -> str:
    """Return what a foreign error says, in a line."""
    text = getattr(problem, "strerror", None) or str(problem).partition("\n")[0] or type(problem).__name__
    return f"{text:.200}".rstrip(".")


def _named(path: Path) -> str:
    """Return a path in quotes, whole, with what could not be seen or would control a terminal escaped."""
    return ascii(str(path)) if not str(path).isprintable() else repr(str(path))
