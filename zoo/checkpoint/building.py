"""Building modules from values that a stranger may have written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from zoo.errors import ConfigError, ZooError

__all__ = ["built"]

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
