"""Parts of a tokenizer whose weights are a file of their own, read when the part is first used.

A part that has not been read is an `Unread` among the tokenizer's modules. `Tokenizer` hands out none: whoever asks for
the part, or for anything that includes it, such as `parameters()`, gets the part itself, which is read for that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from zoo import _building

__all__ = ["Read", "Unread", "attach", "is_left_out", "left_out", "present", "resolve", "unread"]

Read = Callable[[nn.Module], dict[str, Tensor]]
"""Returns the weights of a part by name, given one without values; raises `CheckpointError` if they do not fit it."""

_left_out: ContextVar[tuple[type, tuple[str, ...]] | None] = ContextVar("left_out", default=None)


class Unread(nn.Module):
    """Stands where a part will be.

    Args:
        build: Builds the part, with whatever weights.
    """

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.lock = threading.RLock()  # threads that decode at once read it once
        self._build = build
        self._read: Read | None = None
        self._where = ""

    @property
    def is_attached(self) -> bool:
        """Whether it is known where the weights are."""
        return self._read is not None

    def attach(self, read: Read, where: str) -> None:
        """Say where the weights are."""
        self._read, self._where = read, where

    def skeleton(self) -> nn.Module:
        """Return the part without values, on the meta device. Nothing is read.

        Raises:
            ConfigError: It cannot be built from its config.
        """
        with _building.fresh("meta"):
            return self._built()

    def load(self) -> nn.Module:
        """Return the part, on the CPU, and stay as before.

        Raises:
            CheckpointError: A file is missing, damaged, or does not fit the config.
            ConfigError: It cannot be built from its config.
        """
        if self._read is None:
            raise RuntimeError("nobody has said where the weights of this part are.")
        tensors = self._read(self.skeleton())
        with _building.fresh("cpu"):
            module = self._built()
            module.load_state_dict(tensors, strict=True)
        return module

    def extra_repr(self) -> str:
        """Say where the weights are."""
        return f"{self._where}, read when it is first used"

    def _built(self) -> nn.Module:
        return _building.built(self._build, "such part", self._where)


@contextmanager
def left_out(cls: type[nn.Module], names: Sequence[str]) -> Iterator[None]:
    """Have the constructor of `cls` leave these parts out, for `attach` to say where they are."""
    token = _left_out.set((cls, tuple(names)))
    try:
        yield
    finally:
        _left_out.reset(token)


def is_left_out(owner: nn.Module, name: str) -> bool:
    """Whether a part of this module is to be left out now."""
    asked = _left_out.get()
    return asked is not None and isinstance(owner, asked[0]) and name in asked[1]


def attach(owner: nn.Module, name: str, read: Read, where: str) -> None:
    """Say where the weights of a part are that was left out."""
    part = owner._modules[name]
    if not isinstance(part, Unread):
        raise TypeError(f"{name} was not left out.")
    part.attach(read, where)


def unread(owner: nn.Module) -> dict[str, Unread]:
    """Return the parts that have not been read, by name."""
    return {name: part for name, part in owner._modules.items() if isinstance(part, Unread) and part.is_attached}


def resolve(owner: nn.Module, name: str, part: Unread, device: torch.device) -> nn.Module | None:
    """Put the part itself in the place of `part`, on `device`, and return what is there then."""
    with part.lock:
        now = owner._modules[name]
        if now is part:
            with torch.inference_mode(False):
                now = part.load().to(device).train(owner.training)
            owner._modules[name] = now
    return now


def present(owner: nn.Module) -> Iterator[nn.Module]:
    """Yield a module and all modules in it, parts that have not been read left out."""
    for _, module in nn.Module.named_modules(owner):
        if not isinstance(module, Unread):
            yield module
