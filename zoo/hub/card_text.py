"""The text of a model card: its metadata, and the blocks that are written for its author.

A block stands between `<!-- zoo:KIND ARGUMENT -->` and `<!-- zoo:end -->`; everything else is the author's.
"""

from __future__ import annotations

import re
from collections import defaultdict

from zoo.errors import HubError
from zoo.strict.yaml import parse_yaml

__all__ = ["BLOCK", "block", "licence_of", "refreshed"]

BLOCK = re.compile(r"(<!-- zoo:(?P<kind>\w+)(?: (?P<argument>[\w./-]+))? -->\n).*?(<!-- zoo:end -->)", re.DOTALL)
_FRONT = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)
_LICENCE = re.compile(r"^license(?:_name|_link)?:.*\n", re.MULTILINE)
_UNKNOWN = "This was not measured for the weights that are here now.\n"


def block(kind: str, argument: str, content: str) -> str:
    """Return a block."""
    return f"<!-- zoo:{kind} {argument} -->\n{content}\n<!-- zoo:end -->"


def licence_of(card: str) -> str | None:
    """Return the licence that a card's metadata state, its name if it is none of the usual ones; None for none."""
    front = _FRONT.match(card)
    if front is None:
        return None
    values = parse_yaml(front[1], "the metadata of the model card", HubError)
    stated = values.get("license_name") or values.get("license")
    return stated.lower() if isinstance(stated, str) and stated else None


def refreshed(card: str, new: str, *, change_licence: bool = False) -> str:
    """Return a card whose blocks, and nothing else, are those of a newer one, kind by kind in their order.

    A block that the newer one has no counterpart for, such as the figures of other weights, says so instead.

    Args:
        card: The card that is there.
        new: A card of what is published now.
        change_licence: Replace a licence that differs, instead of refusing it.

    Raises:
        HubError: The licences differ, or the metadata are not YAML.
    """
    old_licence, licence = licence_of(card), licence_of(new)
    if old_licence is not None and licence is not None and old_licence != licence:
        if not change_licence:
            raise HubError(
                f"the repository's model card states the licence {old_licence}, and what would be published has "
                f"{licence}. Publish it elsewhere, or pass change_licence=True (--change-licence)."
            )
        lines = "".join(_LICENCE.findall(_front(new)))
        front = _LICENCE.sub("", _front(card))
        card = card.replace(_front(card), front.replace("\n", "\n" + lines, 1), 1)
    fresh: defaultdict[str, list[str]] = defaultdict(list)
    for found in BLOCK.finditer(new):
        fresh[found["kind"]].append(found[0])

    def renewed(found: re.Match[str]) -> str:
        waiting = fresh[found["kind"]]
        return waiting.pop(0) if waiting else found[1] + _UNKNOWN + found[4]

    return BLOCK.sub(renewed, card)


def _front(card: str) -> str:
    front = _FRONT.match(card)
    return "" if front is None else front[0]
