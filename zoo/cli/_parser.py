"""The parser that all commands share: help that can be read, errors in one line, strict values."""

from __future__ import annotations

import argparse
import math
import re
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, DefaultHelpFormatter

__all__ = ["Parser", "indices", "positive", "positive_int", "seed", "share", "whole"]


_WIDTH = 80


class _Help(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help texts say their own defaults and units, and examples keep their lines."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)  # type: ignore[no-untyped-call]

    def _get_help_string(self, action: argparse.Action) -> str:
        return action.help or ""


class Parser(ArgumentParser):
    """The parser of one command.

    Args:
        command: Its name.
        usage: The arguments that it cannot do without.
        description: What it does; an empty line between paragraphs.
        examples: Command lines that work, one a line; comments start with `#`.

    Attributes:
        unknown: What to say of options that there are not.
    """

    unknown = ""

    def __init__(self, command: str, usage: str, description: str, examples: str) -> None:
        lines = "".join(f"  {line.strip()}\n" for line in examples.strip().splitlines())
        super().__init__(
            prog=f"zoo {command}",
            usage=f"zoo {command} {usage} [options]".replace("  ", " "),
            description="\n\n".join(textwrap.fill(part, _WIDTH) for part in description.split("\n\n")),
            epilog=f"examples:\n{lines}",
            formatter_class=_Help,
            allow_abbrev=False,
        )

    def add_json(self) -> None:
        """Add `--json`."""
        self.add_argument("--json", action="store_true", help="print one JSON document instead of text")

    def values(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Parse the arguments that follow the command, and return the values by name."""
        self.add_argument("--debug", action="store_true", help="show the full traceback of an error")
        values = self.parse_args(list(arguments)).as_dict()
        del values["debug"]  # looked up where errors are shown, which may be before anything is parsed
        return values

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong with the arguments, and exit with code 2."""
        missing = re.fullmatch(r"the following arguments are required: (.*)", message)
        if missing is not None:
            message = f"{' and '.join(map(self._label, missing[1].split(', ')))} must be given"
        message = re.sub(r"\s*\n\s*", " ", message).rstrip(".")
        if self.unknown and message.startswith("unrecognized arguments"):
            message = f"{message}; {self.unknown}"
        self.exit(2, f"{self.prog}: error: {message}. See `{self.prog} --help`.\n")

    def _label(self, name: str) -> str:
        """Return an argument as the user writes it."""
        for action in self._actions:
            if name in (action.dest, action.metavar):
                return " ".join([*action.option_strings[:1], str(action.metavar or action.dest)])
        return name


# Types: the parser also applies them to what they have returned.


def positive_int(value: Any) -> int:
    """Read an integer of 1 or more."""
    return _whole(value, 1)


def whole(value: Any) -> int:
    """Read an integer of 0 or more."""
    return _whole(value, 0)


def _whole(value: Any, least: int) -> int:
    try:
        number = int(value)
    except ValueError:
        number = -1
    if number < least:
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number of {least} or more")
    return number


def seed(value: Any) -> int:
    """Read a seed, which is what torch's generators take."""
    try:
        number = int(value)
    except ValueError:
        number = -1
    if not 0 <= number < 2**64:
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number from 0 to 2^64 - 1")
    return number


def positive(value: Any) -> float:
    """Read a number above 0."""
    number = _number(value)
    if not (number > 0 and math.isfinite(number)):
        raise argparse.ArgumentTypeError(f"{value!r} is not a number above 0")
    return number


def share(value: Any) -> float:
    """Read a share, from 0 to below 1."""
    number = _number(value)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is not a share: a number from 0 to below 1, such as 0.1")
    return number


def indices(value: Any) -> tuple[int, ...]:
    """Read indices with commas between them."""
    if isinstance(value, tuple):
        return value
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        message = f"{value!r} is not a list of indices, such as 3 or 6,13"
        raise argparse.ArgumentTypeError(message) from None


def _number(value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan
