"""Reading FAST's `tokenizer.json`: a byte-level BPE and nothing else.

The library tokenizers can do much that a file may ask for, and that ids and actions must not depend on: drop merges at
random, rewrite or cut the text, add ids of its own; and where a file contradicts itself, it ends the thread instead of
raising an error. So the file is checked before the library sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from zoo.errors import CheckpointError, shown
from zoo.strict import parse_json

__all__ = ["checked_vocabulary"]

_WHERE = "tokenizer.json"


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is(*options: Any) -> Callable[[Any], bool]:
    return lambda value: any(value == option and type(value) is type(option) for option in options)


_BYTE_LEVEL = {"type": _is("ByteLevel"), "add_prefix_space": _is_bool, "trim_offsets": _is_bool, "use_regex": _is_bool}
_PRE_TOKENIZER = {**_BYTE_LEVEL, "add_prefix_space": _is(False)}
_MODEL: dict[str, Callable[[Any], bool]] = {
    "type": _is("BPE"),
    "dropout": _is(None),
    "unk_token": _is(None),
    "continuing_subword_prefix": _is(None, ""),
    "end_of_word_suffix": _is(None, ""),
    "fuse_unk": _is(False),
    "byte_fallback": _is(False),
    "ignore_merges": _is(False),
    "vocab": lambda value: isinstance(value, dict),
    "merges": lambda value: isinstance(value, list),
}
_FILE: dict[str, Callable[[Any], bool]] = {
    "version": lambda value: isinstance(value, str),
    "truncation": _is(None),
    "padding": _is(None),
    "added_tokens": lambda value: value == [],
    "normalizer": _is(None),
    "pre_tokenizer": lambda value: _fits(value, _PRE_TOKENIZER),
    "post_processor": lambda value: value is None or _fits(value, _BYTE_LEVEL),
    "decoder": lambda value: _fits(value, _BYTE_LEVEL),
    "model": lambda value: isinstance(value, dict),
}
# What older versions of the library did not write.
_OPTIONAL = {"use_regex", "byte_fallback", "ignore_merges", "version"}


def checked_vocabulary(text: str, codebook_size: int) -> dict[str, int]:
    """Return the id of each entry of a `tokenizer.json` that is a byte-level BPE and asks for nothing beside.

    Raises:
        CheckpointError: It is something else, contradicts itself, or has ids beyond the codebook.
    """
    values = parse_json(text, _WHERE, CheckpointError)
    _require(values, _FILE, "")
    model = values["model"]
    _require(model, _MODEL, "model.")
    vocabulary: dict[str, int] = model["vocab"]
    for entry, number in vocabulary.items():
        if type(number) is not int or not 0 <= number < codebook_size or not entry:
            raise CheckpointError(
                f"{_WHERE} gives {shown(entry)} the id {shown(number)}; ids are 0 … {codebook_size - 1}."
            )
    if len(set(vocabulary.values())) < len(vocabulary):
        raise CheckpointError(f"{_WHERE} gives two entries of the vocabulary one id.")
    seen = set()
    for merge in model["merges"]:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) and part for part in pair):
            raise CheckpointError(f"{_WHERE}: a merge is a pair of entries, got {shown(merge)}.")
        left, right = pair
        if not {left, right, left + right} <= vocabulary.keys() or (left, right) in seen:
            raise CheckpointError(
                f"{_WHERE}: the merge {shown(merge)} is of entries that are missing, or is there twice."
            )
        seen.add((left, right))
    return vocabulary


def _fits(value: Any, rules: Mapping[str, Callable[[Any], bool]]) -> bool:
    if not isinstance(value, dict) or not value.keys() <= rules.keys():
        return False
    return rules.keys() - value.keys() <= _OPTIONAL and all(rules[key](each) for key, each in value.items())


def _require(values: Mapping[str, Any], rules: Mapping[str, Callable[[Any], bool]], prefix: str) -> None:
    for key, value in values.items():
        if key not in rules or not rules[key](value):
            raise CheckpointError(
                f"{_WHERE} must hold a byte-level BPE as this family writes it, and nothing else; {prefix}{key} is "
                f"{shown(value)}."
            )
    if missing := rules.keys() - values.keys() - _OPTIONAL:
        raise CheckpointError(f"{_WHERE} must hold a byte-level BPE, and lacks {prefix}{min(missing)}.")
