"""From the paths that a user names to items that a tokenizer encodes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from zoo.cli._output import note
from zoo.errors import InputError, TokenError

if TYPE_CHECKING:
    from zoo.cli._parser import Parser
    from zoo.data.signals import Reading, Recording
    from zoo.tokenizer import Tokenizer

__all__ = ["LeftOut", "add_action_arguments", "as_flags", "find_items", "with_skip_bad"]

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


class LeftOut(NamedTuple):
    """An input, or an item of one, that cannot be encoded."""

    name: str
    reason: str


def find_items(
    tokenizer: Tokenizer, inputs: Sequence[str], reading: Reading, left_out: list[LeftOut] | None = None
) -> list[Recording]:
    """Return what the inputs hold, in order, with different names.

    Args:
        tokenizer: What they are for.
        inputs: Paths of files and folders.
        reading: What is read, and how.
        left_out: Gets inputs that cannot be read, and items whose names cannot be stored; errors if None.

    Raises:
        InputError: An input does not exist, a folder holds nothing of the modality, or two items have one name.
        TokenError: A name cannot be stored.
    """
    from zoo.data import signals
    from zoo.tokenfile import check_name

    signal = signals.of(tokenizer.spec.modality)
    try:
        items = signal.find(inputs, tokenizer.spec, reading, note)
    except InputError as error:
        if left_out is None:
            raise with_skip_bad(error, len(inputs)) from error
        good = []
        for text in inputs:
            try:
                signal.find([text], tokenizer.spec, reading, lambda _: None)
                good.append(text)
            except InputError as reason:
                left_out.append(LeftOut(text, as_flags(str(reason))))
        if not good or len(good) == len(inputs):  # the fault lies in all of them, or between them
            raise
        items = signal.find(good, tokenizer.spec, reading, note)
    named: dict[str, Recording] = {}
    for item in items:
        try:
            check_name(item.name)  # before the work, not after it
        except TokenError as error:
            if left_out is None:
                raise
            left_out.append(LeftOut(item.name, str(error)))
            continue
        if item.name in named:
            remedy = "pass --keep-folders" if signal.suffixes and not reading.keep_folders else "encode them apart"
            raise InputError(f"two items have the name {item.name!r}: {remedy}.")
        named[item.name] = item
    return list(named.values())


def with_skip_bad(error: InputError, count: int) -> InputError:
    """Return the error of one of `count` items or inputs with a way to encode the others."""
    return InputError(f"{error} Or pass --skip-bad, to leave out what cannot be encoded.") if count > 1 else error


def as_flags(text: str) -> str:
    """Return a message of the library with its arguments as they are written on a command line."""

    def flag(match: re.Match[str]) -> str:
        return " ".join(part for part in (f"--{match[1].replace('_', '-')}", match[2]) if part)

    return _ARGUMENT.sub(flag, text)
