"""Checks of what callers hand to a BEAST tokenizer beside the actions and tokens themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.families.beast.config import BeastConfig
from zoo.families.beast.options import DecodeOptions
from zoo.tokens.ids import as_ids

__all__ = [
    "clamped_ids",
    "commands_before",
    "evaluation_times",
    "first_command",
    "precision",
    "require_shape",
    "started",
]


def commands_before(start: Any, batch: int, config: BeastConfig, device: torch.device) -> Tensor | None:
    """Return the commands before each of `batch` sequences as (B, k, D), or None for k = 0.

    Raises:
        InputError: They are missing, not wanted, not finite, or of the wrong shape.
    """
    fixed, dofs = config.num_fixed, config.num_dofs
    if start is None:
        if fixed:
            shape = f"(B, {dofs})" if fixed == 1 else f"(B, 2, {dofs})"
            raise InputError(f"boundary {config.boundary!r} continues the commands before: pass start= {shape}.")
        return None
    if fixed == 0:
        raise InputError("boundary 'free' takes nothing over from the commands before: leave start out.")
    before = _commands(start, dofs, device)
    if before.ndim == fixed:  # of a single sequence
        before = before[None]
    if fixed == 1 and before.ndim == 2:
        before = before[:, None]
    if before.shape != (batch, fixed, dofs):
        wanted = (batch, dofs) if fixed == 1 else (batch, 2, dofs)
        raise InputError(f"start must have the shape {wanted}, got {tuple(before.shape)}.")
    if not before.isfinite().all():
        raise InputError("start has NaN or infinite values.")
    return before


def first_command(start: Any, batch: int, config: BeastConfig, device: torch.device) -> Tensor:
    """Return where each of `batch` motions with a free boundary is to start, (B, D).

    Raises:
        InputError: It is not finite, or of the wrong shape.
    """
    first = _commands(start, config.num_dofs, device)
    first = first[None] if first.ndim == 1 else first
    if first.shape != (batch, config.num_dofs) or not first.isfinite().all():
        raise InputError(f"start must be finite and of the shape {(batch, config.num_dofs)}, got {tuple(first.shape)}.")
    return first


def evaluation_times(times: Any, derivative: int) -> Tensor | None:
    """Return the positions to evaluate as float64 (M,), or None for a chunk's own steps.

    Raises:
        InputError: They do not lie in [0, 1], or `derivative` is not a count.
    """
    DecodeOptions(derivative=derivative)  # checks it
    if times is None:
        return None
    try:
        ready: Tensor = torch.as_tensor(times, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"times must be numbers (M,) in [0, 1]: {error}.") from error
    if ready.ndim != 1 or not len(ready) or not ((ready >= 0) & (ready <= 1)).all():
        raise InputError(
            "times must be positions (M,) in [0, 1], 0 being a chunk's start and 1 its end; they are not rescaled."
        )
    return ready


def clamped_ids(ids: Any, codebook_size: int) -> Any:
    """Return bare ids with those outside the codebook moved to its nearest end."""
    checked, lengths = as_ids(ids)
    checked = checked.clamp(0, codebook_size - 1)
    return checked if lengths is None else [row[:length] for row, length in zip(checked, lengths, strict=True)]


def require_shape(x: Any, rows: int, config: BeastConfig, what: str) -> None:
    """Raise `InputError` unless x is a tensor (B, rows, D) with B ≥ 1."""
    if not isinstance(x, Tensor) or x.shape[1:] != (rows, config.num_dofs) or not len(x):
        got = f"the shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"expected {what} (B, {rows}, {config.num_dofs}) as a tensor, got {got}.")


def _commands(start: Any, dofs: int, device: torch.device) -> Tensor:
    try:
        return torch.as_tensor(start).to(device, torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"start must be commands, numbers (B, {dofs}): {error}.") from error


def started(points: Tensor, start: Any, batch: int, config: BeastConfig) -> Tensor:
    """Return control points (B·n, F, D) of which the first, of the smooth DoFs of each first chunk, is `start` (B, D).

    Raises:
        InputError: It is not finite, or of the wrong shape.
    """
    first = first_command(start, batch, config, points.device)
    smooth = [dof for dof in range(config.num_dofs) if dof not in config.gripper]
    by_chunk = points.clone().view(batch, -1, *points.shape[1:])
    by_chunk[:, 0, 0, smooth] = first[:, smooth].to(points.dtype)
    return by_chunk.flatten(0, 1)


def precision(x: Tensor) -> torch.dtype:
    """Return the dtype of what follows from x: float64 if x is, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32
