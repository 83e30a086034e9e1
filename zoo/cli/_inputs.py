"""From the paths that a user names to items that a tokenizer encodes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.cli._output import note
from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.cli._parser import Parser
    from zoo.data.signals import Reading, Recording
    from zoo.tokenizer import Tokenizer

__all__ = ["add_action_arguments", "as_flags", "find_items"]

# How the library writes an argument, and how a command line does: `mix_down=True` is `--mix-down`.
_ARGUMENT = re.compile(r"\b([a-z_]+)=(?:True|'?(cut|stretch|HZ)'?)")


def add_action_arguments(parser: Parser) -> None:
    """Add the arguments that say what in a file of actions is read."""
    group = parser.add_argument_group("which actions to read")
    group.add_argument(
        "--column",
        metavar="NAME",
        help="Parquet, LeRobot: the column that holds them, or several with commas (default: action)",
    )
    group.add_argument("--key", metavar="NAME", help="npz: array that holds them (default: actions)")
    group.add_argument("--split", metavar="NAME", help="npz, LeRobot: read only this split, such as train")


def find_items(tokenizer: Tokenizer, inputs: Sequence[str], reading: Reading) -> list[Recording]:
    """Return what the inputs hold, in order, with different names.

    Raises:
        InputError: An input does not exist, a folder holds nothing of the modality, or two items have one name.
    """
    from zoo.data import signals
    from zoo.tokenfile import check_name

    signal = signals.of(tokenizer.spec.modality)
    items = signal.find(inputs, tokenizer.spec, reading, note)
    seen: set[str] = set()
    for item in items:
        check_name(item.name)  # before the work, not after it
        if item.name in seen:
            remedy = "pass --keep-folders" if signal.suffixes and not reading.keep_folders else "encode them apart"
            raise InputError(f"two items have the name {item.name!r}: {remedy}.")
        seen.add(item.name)
    return items


def as_flags(text: str) -> str:
    """Return a message of the library with its arguments as they are written on a command line."""

    def flag(match: re.Match[str]) -> str:
        return " ".join(part for part in (f"--{match[1].replace('_', '-')}", match[2]) if part)

    return _ARGUMENT.sub(flag, text)
