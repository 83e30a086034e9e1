"""What `encode` and `decode` of a family take beside the signal, declared so that no caller looks at signatures."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["NoOptions", "option_names"]


@dataclass(frozen=True)
class NoOptions:
    """Nothing is taken beside the signal."""


def option_names(options: type) -> frozenset[str]:
    """Return the names of the options that a dataclass declares, such as `option_names(tokenizer.decode_options)`."""
    return frozenset(field.name for field in fields(options))
