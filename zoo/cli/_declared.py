"""The options that a family declares, as arguments of the command that encodes or decodes with it."""

from __future__ import annotations

import argparse
import inspect
import re
import types
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from zoo.errors import ZooError
from zoo.spec import DECODES

if TYPE_CHECKING:
    from zoo.cli._parser import Parser
    from zoo.tokenizer import Tokenizer

__all__ = ["Declared", "add_declared", "declared"]

_ARTICLES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


@dataclass(frozen=True)
class Declared:
    """An option that can be written on a command line.

    Attributes:
        name: As in Python.
        kinds: The plain types that it may have; none if it is one of `choices`.
        choices: Texts.
        default: What it is if it is not given.
        help: What the family says of it, "" if nothing.
        decodes: Whether encoding with it needs the decoder.
    """

    name: str
    kinds: tuple[type, ...]
    choices: tuple[str, ...]
    default: Any
    help: str
    decodes: bool

    @property
    def flag(self) -> str:
        """As on a command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def values(self) -> str:
        """What it may be, for people."""
        return " or ".join([*map(repr, self.choices), *(_ARTICLES[kind] for kind in self.kinds)])

    def read(self, value: Any) -> Any:
        """Return the value that was written; the parser also calls it with what it has returned."""
        if not isinstance(value, str) or value in self.choices:
            return value
        for kind in sorted(self.kinds, key=list(_ARTICLES).index):
            try:
                return kind(value)
            except ValueError:
                pass
        raise argparse.ArgumentTypeError(f"{value!r} is not {self.values}")


def declared(options: type) -> list[Declared]:
    """Return those options of a dataclass that can be written on a command line: flags, numbers and texts."""
    hints = get_type_hints(options)
    told = dict(re.findall(r"^ +(\w+): (.+(?:\n {6,}.+)*)", inspect.getdoc(options) or "", re.MULTILINE))
    found = []
    for field in fields(options):
        kinds, choices = _plain(hints[field.name])
        if kinds or choices:
            text = " ".join(told.get(field.name, "").split()).rstrip(".")
            text = text[:1].lower() + text[1:]
            decodes = field.metadata == DECODES
            found.append(Declared(field.name, kinds, choices, field.default, text, decodes))
    return found


def add_declared(
    parser: Parser,
    arguments: Sequence[str],
    find: Callable[[Sequence[str]], type[Tokenizer] | None],
    kind: Literal["encode_options", "decode_options"],
    own: Collection[str] = (),
) -> dict[str, Declared]:
    """Add what the family of a command line declares to its parser, if there is something that the parser lacks.

    Args:
        parser: Has all arguments of the command.
        arguments: The command line.
        find: Returns the family, given what may be positional arguments, in order; None if these name none.
        kind: Which options.
        own: What the command itself decides.

    Returns:
        The options that were added, by name.
    """
    known = parser._option_string_actions
    is_help = bool({"-h", "--help"} & set(arguments))
    positional, is_unknown = _looked_at(known, arguments)
    if not (is_unknown or is_help) or not positional:
        return {}
    try:
        cls = find(positional)
    except ZooError:
        if is_help:
            return {}
        raise
    if cls is None:
        return {}
    offered = [option for option in declared(getattr(cls, kind)) if option.name not in own and option.flag not in known]
    group = parser.add_argument_group(f"options of {cls.family}")
    for option in offered:
        text = option.help or ("" if option.kinds == (bool,) else option.values)
        default = "" if option.default is None else f" (default: {option.default})"
        shown = f"{text.replace(' if None', ' if not given')}{default}"
        if option.kinds == (bool,):
            group.add_argument(option.flag, action="store_const", const=True, help=shown)
            group.add_argument(f"--no-{option.flag[2:]}", action="store_const", const=False, dest=option.name, help="")
        else:
            name = "|".join(option.choices) or ("N" if option.kinds == (int,) else "X")
            group.add_argument(option.flag, type=option.read, metavar=name, help=shown)
    flags = ", ".join(option.flag for option in offered)
    parser.unknown = f"{cls.family} takes {flags}" if offered else f"{cls.family} takes no options of its own"
    return {option.name: option for option in offered}


def _looked_at(known: dict[str, Any], arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Return what may be positional, and whether there is an option that the parser does not have."""
    positional: list[str] = []
    is_unknown = False
    rest = iter(arguments)
    for text in rest:
        name, equals, _ = text.partition("=")
        if not text.startswith("-") or text == "-":
            positional.append(text)
        elif name in known:
            if not equals and known[name].nargs != 0:
                next(rest, None)
        elif text.startswith("--") and text not in ("--", "--debug"):
            is_unknown = True
    return positional, is_unknown


def _plain(hint: Any) -> tuple[tuple[type, ...], tuple[str, ...]]:
    """Return the types and the texts of a type hint that can be written on a command line."""
    kinds = tuple(dict.fromkeys(part for part in _parts(hint) if isinstance(part, type)))
    return kinds, tuple(part for part in _parts(hint) if isinstance(part, str))


def _parts(hint: Any) -> Iterator[type | str]:
    if get_origin(hint) in (Union, types.UnionType):
        for part in get_args(hint):
            yield from _parts(part)
    elif get_origin(hint) is Literal:
        yield from (text for text in get_args(hint) if isinstance(text, str))
    elif hint in _ARTICLES:
        yield hint
