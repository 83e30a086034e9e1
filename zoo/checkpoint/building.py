"""Building modules from values that a stranger may have written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from zoo.errors import ConfigError, ZooError

__all__ = ["built", "fresh"]

M = TypeVar("M", bound=nn.Module)


def built(build: Callable[[], M], what: str, where: str) -> M:
    """Return what `build` makes.

    Raises:
        ConfigError: It cannot, whatever the reason.
    """
    try:
        return build()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except ZooError:
        raise
    except Exception as error:  # values and assets of a stranger, in whatever code of the family they break
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"{where}: no {what} can be built from its config ({type(error).__name__}: {reason:.200})."
        ) from error


@contextmanager
def fresh(device: str) -> Iterator[None]:
    """Build modules as in a fresh process: the caller's default dtype and device must not change the weights' own.

    Nor must inference mode, whose tensors could never be trained. The caller's random numbers are left alone as well,
    although constructors draw initial weights.
    """
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.device("cpu"), torch.random.fork_rng(devices=[]), torch.device(device):
            yield
    finally:
        torch.set_default_dtype(dtype)
