"""What the settings of all action tokenizers have in common, and how large they may be.

The bounds are far above any robot's, and low enough that a config from elsewhere cannot ask for all memory or hours of
work: they are checked before anything is built.
"""

from __future__ import annotations

from collections.abc import Sequence

from zoo.components.layers.reach import MAX_LIMIT
from zoo.errors import ConfigError, shown

__all__ = ["MAX_DOFS", "MAX_HORIZON", "check_chunk", "check_grippers", "check_quantiles", "require_between"]

MAX_DOFS = 1024
MAX_HORIZON = 4096
MAX_VALUES = 2**18
"""Of a chunk, horizon times degrees of freedom."""
_MAX_RATE = 1e6


def require_between(where: str, name: str, value: float, low: float, high: float, unit: str = "") -> None:
    """Raise `ConfigError` unless low ≤ value ≤ high."""
    if not low <= value <= high:
        raise ConfigError(f"{where}: {name} must be in {low:.7g} … {high:.7g}{unit}, got {shown(value)}.")


def check_chunk(
    where: str,
    num_dofs: int | None,
    horizon: int | None,
    control_rate: float | None,
    limit: float,
    *,
    least_horizon: int = 1,
    max_horizon: int = MAX_HORIZON,
) -> None:
    """Check the shape of a chunk, None being not stated yet, the control rate and the limit of `Reach`.

    Raises:
        ConfigError: One of them is out of bounds.
    """
    if num_dofs is not None:
        require_between(where, "num_dofs", num_dofs, 1, MAX_DOFS)
    if horizon is not None:
        require_between(where, "horizon", horizon, least_horizon, max_horizon, " steps")
    if num_dofs is not None and horizon is not None and num_dofs * horizon > MAX_VALUES:
        raise ConfigError(
            f"{where}: a chunk has at most {MAX_VALUES} values, and horizon × num_dofs is {horizon} × {num_dofs}."
        )
    if control_rate is not None and not 0 < control_rate <= _MAX_RATE:
        raise ConfigError(f"{where}: control_rate must be above 0 and at most {_MAX_RATE:g} Hz, got {control_rate:g}.")
    if not 1 < limit <= MAX_LIMIT:
        raise ConfigError(f"{where}: limit must be above 1 and at most {MAX_LIMIT:g}, got {limit:g}.")


def check_quantiles(where: str, name: str, quantiles: tuple[float, float] | None) -> None:
    """Raise `ConfigError` unless quantiles are two in ascending order, or None."""
    if quantiles is not None and not 0 <= quantiles[0] < quantiles[1] <= 1:
        raise ConfigError(f"{where}: {name} must be 0 ≤ low < high ≤ 1, got {quantiles[0]:g}, {quantiles[1]:g}.")


def check_grippers(where: str, gripper: Sequence[int], num_dofs: int) -> None:
    """Raise `ConfigError` unless indices of degrees of freedom are different and there are such."""
    if len(set(gripper)) != len(gripper) or not all(0 <= index < num_dofs for index in gripper):
        raise ConfigError(f"{where}: gripper must be different indices in 0 … {num_dofs - 1}, got {shown(gripper)}.")
