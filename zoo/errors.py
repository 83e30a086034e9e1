"""The errors a user of the library can meet: one small hierarchy under `ZooError`.

Every class is also the built-in error that a caller would expect (`ValueError`, `KeyError`, `OSError`, …), so code
that has never heard of this library catches them too. Every message says what was wrong, what was expected and what
to do about it.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable
from typing import Any

__all__ = [
    "CONTROLS",
    "CheckpointError",
    "ConfigError",
    "HubError",
    "InputError",
    "LicenceWarning",
    "MissingExtraError",
    "NotFittedError",
    "TokenError",
    "UnknownNameError",
    "ZooError",
    "harmless",
    "near_matches",
    "shown",
]

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 80

CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 and C1 controls, line and paragraph separators, marks and overrides of direction, halves of surrogate pairs."""


class ZooError(Exception):
    """Base of every error that the library raises on purpose.

    Names and values in a message may be what strangers have written: it is shown with `harmless` lines.
    """

    def __str__(self) -> str:
        return "\n".join(map(harmless, self._message().split("\n")))

    def _message(self) -> str:
        return super().__str__()


class InputError(ZooError, ValueError):
    """A signal that cannot be encoded: NaN, wrong rank, wrong rate, empty, unreadable file."""


class TokenError(ZooError, ValueError):
    """Tokens that cannot be used: ids out of range, wrong shape, made by another model, vocabulary overflow."""


class ConfigError(ZooError, ValueError):
    """A configuration with an unknown key, a value of the wrong type, or values that contradict each other."""


class NotFittedError(ZooError, ValueError):
    """A tokenizer that needs statistics of the data was used before `fit`."""


class UnknownNameError(ZooError, KeyError):
    """A name that is in no registry. The message lists near matches."""

    def _message(self) -> str:
        # KeyError shows the repr of its argument, which turns a sentence into a quoted string.
        return str(self.args[0]) if self.args else ""


class CheckpointError(ZooError, OSError):
    """A checkpoint that is missing, incomplete, damaged, or not what it says it is."""


class HubError(ZooError, OSError):
    """The Hub could not be reached, refused, or does not have what was asked for."""


class MissingExtraError(ZooError, ImportError):
    """An optional dependency is not installed. The message names the extra to install."""


class LicenceWarning(UserWarning):
    """The licence of a model that is loaded restricts what it may be used for."""


def harmless(text: str) -> str:
    """Return text with what a terminal would obey as escapes: control characters, and marks that reorder letters.

    Names, licences and descriptions of models are what strangers have written.
    """
    return CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def near_matches(name: str, candidates: Iterable[str], limit: int = 3) -> str:
    """Return a sentence fragment that names the candidates closest to `name`, or all of them if none is close."""
    pool = sorted(set(candidates))
    folded = {candidate.lower(): candidate for candidate in pool}
    close = [folded[match] for match in difflib.get_close_matches(name.lower(), folded, n=limit, cutoff=0.5)]
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return f"known: {', '.join(pool)}." if pool else "there are none."


def shown(value: Any) -> str:
    """Return a short repr, for messages about values of strangers, however large or deeply nested they are."""
    return _short.repr(value)
