"""How far long work has come, told from within it to whoever wants to show that, without an argument on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

__all__ = ["counted", "listening", "part"]

T = TypeVar("T")

_listener: ContextVar[Callable[[float], None] | None] = ContextVar("listener", default=None)


@contextmanager
def listening(tell: Callable[[float], None]) -> Iterator[None]:
    """Have the share that is done, in 0…1, told of what is called in the context, by the same thread."""
    token = _listener.set(tell)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def part(begin: float, end: float) -> Iterator[None]:
    """Have what is called in the context count as this stretch of the whole, 0…1, and tell when it is done."""
    tell = _listener.get()
    if tell is None:
        yield
        return
    with listening(lambda share: tell(begin + (end - begin) * share)):
        yield
    tell(end)


def counted(items: Iterable[T], total: int, begin: float = 0.0) -> Iterator[T]:
    """Return items, and tell after each what share of the total has been dealt with, `begin` of all being done before.

    Who listens is found out by the call, so that another thread may go through the items.
    """
    tell = _listener.get()
    return iter(items) if tell is None else _told(items, total, begin, tell)


def _told(items: Iterable[T], total: int, begin: float, tell: Callable[[float], None]) -> Iterator[T]:
    for number, item in enumerate(items, start=1):
        yield item
        tell(begin + (1 - begin) * min(1.0, number / total))
