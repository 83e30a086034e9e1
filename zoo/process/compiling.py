"""Leaving to Python what `torch.compile` cannot make faster, and might get wrong."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch

__all__ = ["left_alone"]

F = TypeVar("F", bound=Callable[..., Any])

_REASON = (
    "encode and decode of a tokenizer check, read files, give work to threads and loop over items: compile its parts, "
    "such as tokenizer.encoder.compile() of a model in fast mode, or leave fullgraph out"
)


def left_alone(function: F) -> F:
    """Have `torch.compile` call a function as it is, wherever it comes upon it, and compile what is around it.

    That is what `torch.compiler.disable` does, whose import takes seconds, and is made here only if someone compiles.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return sys.modules[__name__].as_it_is(function, args, kwargs)
        return function(*args, **kwargs)

    return call  # type: ignore[return-value]


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs)


def __getattr__(name: str) -> Any:
    if name == "as_it_is":
        globals()[name] = torch.compiler.disable(
            lambda function, args, kwargs: function(*args, **kwargs), reason=_REASON
        )
        return globals()[name]
    raise AttributeError(name)
