"""Reading YAML strictly: plain values, by the core schema of YAML 1.2.

PyYAML's own safe loader reads YAML 1.1, where `no` is false, `1:30` is 90, `1e-4` is a word and `2020-01-05` a date. It
takes the last of two equal keys, follows aliases that stand for billions of values, and lets errors of all kinds out.

Source: https://yaml.org/spec/1.2.2/, chapter 10.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Any, ClassVar

import yaml
from yaml.constructor import ConstructorError

from zoo.errors import ConfigError, ZooError, shown

__all__ = ["PlainLoader", "UntaggedLoader", "parse_yaml"]

_MAX_CHARACTERS = 2**20
_MAX_VALUES = 100_000
_TAG = "tag:yaml.org,2002:"


class PlainLoader(yaml.SafeLoader):
    """PyYAML's parser, with YAML 1.2's idea of what a plain value is, and no tags beyond those."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012, not what the base class has for YAML 1.1
    yaml_constructors: ClassVar[dict[Any, Any]] = {}

    def get_single_node(self) -> yaml.Node | None:
        """Return the document, unless its aliases go in a circle or stand for too much."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _count(node, {}) > _MAX_VALUES:
            raise ConstructorError(None, None, f"more than {_MAX_VALUES} values, aliases included", node.start_mark)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping, unless a key is no text or there twice (a merged one may be given again)."""
        seen: set[str] = set()
        for key, _ in getattr(node, "value", ()):
            if key.tag == f"{_TAG}merge":
                continue
            if not isinstance(key, yaml.ScalarNode) or key.tag != f"{_TAG}str":
                raise ConstructorError(None, None, f"the key {shown(key.value)} is no text (quote it)", key.start_mark)
            if key.value in seen:
                raise ConstructorError(None, None, f"the key {shown(key.value)} is there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _count(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Return how many values a node stands for; `known` has those counted, None for those begun."""
    if id(node) not in known:
        known[id(node)] = None
        inner = node.value if not isinstance(node, yaml.ScalarNode) else ()
        parts = [part for item in inner for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    found = known[id(node)]
    if found is None:
        raise ConstructorError(None, None, "an alias of what it stands in", node.start_mark)
    return found


def _text(loader: PlainLoader, node: yaml.Node) -> str:
    text: str = loader.construct_scalar(node)  # type: ignore[arg-type]
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ConstructorError(None, None, f"{shown(text)} has half a surrogate pair", node.start_mark)
    return text


def _integer(text: str) -> int:
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text[2:] if base != 10 else text, base)


# What a plain scalar is, in the order in which they are tried, the characters that it may start with, and its value.
_SCALARS: tuple[tuple[str, str, list[str], Callable[[str], Any]], ...] = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""], lambda text: None),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF"), lambda text: text[0] in "tT"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789"), _integer),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
        lambda text: float(re.sub(r"\.(?=[iInN])", "", text)),
    ),
)


def _constructor(name: str, pattern: re.Pattern[str], value: Callable[[str], Any]) -> Callable[..., Any]:
    def construct(loader: PlainLoader, node: yaml.Node) -> Any:
        text = _text(loader, node)
        if not pattern.match(text):  # where a tag says so: `!!int 0x`
            raise ConstructorError(None, None, f"{shown(text)} is no {name}", node.start_mark)
        return value(text)

    return construct


for _name, _pattern, _first, _value in _SCALARS:
    _compiled = re.compile(rf"(?:{_pattern})\Z")
    PlainLoader.add_implicit_resolver(f"{_TAG}{_name}", _compiled, _first)
    PlainLoader.add_constructor(f"{_TAG}{_name}", _constructor(_name, _compiled, _value))
PlainLoader.add_implicit_resolver(f"{_TAG}merge", re.compile(r"<<\Z"), ["<"])
PlainLoader.add_constructor(f"{_TAG}str", _text)
PlainLoader.add_constructor(f"{_TAG}seq", PlainLoader.construct_yaml_seq)  # type: ignore[type-var]
PlainLoader.add_constructor(f"{_TAG}map", PlainLoader.construct_yaml_map)  # type: ignore[type-var]
PlainLoader.add_constructor(None, PlainLoader.construct_undefined)  # type: ignore[type-var]


class UntaggedLoader(PlainLoader):
    """Reads `!anything` as if it were not tagged. `!!python/…` stays what it is to its base class, an error."""


def _untagged(loader: PlainLoader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return _text(loader, node)


UntaggedLoader.add_multi_constructor("!", _untagged)


def parse_yaml(
    text: str, where: str, error: type[ZooError] = ConfigError, loader: type[PlainLoader] = PlainLoader
) -> dict[str, Any]:
    """Return the one mapping that a text is, {} if it is empty: texts, numbers, booleans, None, lists and mappings.

    Args:
        text: The text.
        where: What it is, for the message.
        error: What to raise.
        loader: One that knows further tags.

    Raises:
        ZooError: `error`: it is too large, not YAML, no mapping, or has a tag, a key twice or one that is no text.
    """
    if len(text) > _MAX_CHARACTERS:
        raise error(f"{where} has more than {_MAX_CHARACTERS} characters, which no such file takes.")
    try:
        values = yaml.load(text, Loader=loader)  # a subclass of the safe loader
    except MemoryError:
        raise
    except Exception as problem:  # the parser's and the constructors', for scalars that a tag calls what they are not
        mark = getattr(problem, "problem_mark", None)
        reason = " ".join((getattr(problem, "problem", None) or str(problem) or type(problem).__name__).split())
        reason = f"{reason:.300}" + (f" at line {mark.line + 1}, column {mark.column + 1}" if mark else "")
        raise error(f"{where} is not plain YAML: {reason}.") from problem
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise error(f"{where} must be a YAML mapping of names to values, got {shown(values)}.")
    return values
