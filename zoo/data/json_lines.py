"""JSON lines, as manifests and lists of episodes are written: one object a line.

A line ends at a line feed and nowhere else. Python's `str.splitlines` also cuts at U+2028, U+2029, U+0085 and some
control characters, of which the first three may stand inside a JSON string as they are, and do, in text from the web.

Source: https://jsonlines.org
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

from zoo.data._source import local_path, unreadable
from zoo.errors import InputError
from zoo.strict import decode, parse_json

__all__ = ["read_json_lines"]

_MAX_LINE = 2**26


def read_json_lines(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    r"""Yield the objects of a file, each with its place (`'m.jsonl', line 3`), for messages about what is in it.

    Empty lines are skipped, and `\r\n` ends a line as `\n` does.

    Raises:
        InputError: The file is missing, no regular file or unreadable, or a line is not UTF-8 or not a JSON object.
    """
    file_path = local_path(path)
    with unreadable(path, "JSON lines"):
        file = file_path.open("rb")
    with file:
        for number in itertools.count(1):
            where = f"{os.fspath(path)!r}, line {number}"
            with unreadable(path, "JSON lines"):
                line = file.readline(_MAX_LINE + 1)  # of bytes, so up to a line feed alone
            if len(line) > _MAX_LINE:
                raise InputError(f"{where} has more than {_MAX_LINE} bytes: write one object a line.")
            if not line:
                return
            if line.strip():
                yield where, parse_json(decode(line, where, InputError), where, InputError)
