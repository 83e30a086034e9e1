"""Functions that a caller names as `module:function`, to be measured beside tokenizers."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from zoo.errors import InputError

__all__ = ["named_function"]


def named_function(name: str) -> Callable[..., Any] | None:
    """Return the function of the name `module:function`, which is imported; None of any other name.

    Only of a name that the caller typed, never of one out of a file that somebody else wrote.

    Raises:
        InputError: There is no such function.
    """
    module, colon, function = name.rpartition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), function)):
        return None
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{name} cannot be imported: {error}.") from error
    if not callable(found):
        raise InputError(f"{name} is not a function but {type(found).__name__}.")
    return found  # type: ignore[no-any-return]
