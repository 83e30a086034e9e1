"""Where a token stands, as numbers: sinusoids of one, two and three dimensions, of times, and learned relative biases.

Fixed tables are made in float64 and rounded once, so that they are the same on every machine. Learned tables are plain
parameters and need nothing from here.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from zoo.errors import ConfigError, InputError

__all__ = [
    "RelativePositionBias1d",
    "RelativePositionBias2d",
    "relative_sincos",
    "sincos_1d",
    "sincos_2d",
    "sincos_3d",
    "sinusoids",
    "timestep_embedding",
]

Order = Literal["sin_cos", "cos_sin", "interleaved"]


def sincos_1d(length: int, width: int, *, max_period: float = 10_000.0, endpoint: bool = False) -> Tensor:
    """Return the table (length, D) of positions 0, 1, …: D / 2 sines, then D / 2 cosines.

    Args:
        length: Positions.
        width: D, even.
        max_period: P; rates fall from 1 to 1 / P, geometrically.
        endpoint: Whether the last rate is 1 / P itself, as in Whisper, or the one before it in a row of one more.

    Raises:
        ConfigError: The width is odd.
    """
    return _table(_sincos(np.arange(length), width, max_period, endpoint))


def sincos_2d(grid: tuple[int, int], width: int, *, max_period: float = 10_000.0) -> Tensor:
    """Return the table (H · W, D) of a grid's cells, row by row: D / 2 numbers of the row, then D / 2 of the column.

    Args:
        grid: H and W.
        width: D, a multiple of 4.
        max_period: See `sincos_1d`.

    Raises:
        ConfigError: The width is no multiple of 4.
    """
    rows, columns = _by_axis(grid, width, max_period)
    return _table(np.concatenate([rows, columns], -1).reshape(-1, width))


def sincos_3d(grid: tuple[int, int, int], width: int, *, max_period: float = 10_000.0) -> Tensor:
    """Return the table (T · H · W, D) of a clip's cells, by time, row and column, as LARP has it (arXiv 2410.21264).

    The sum of a table of the place, D / 2 numbers of the column, then D / 2 of the row, and one of the time, D numbers.

    Args:
        grid: T, H and W.
        width: D, a multiple of 4.
        max_period: See `sincos_1d`.

    Raises:
        ConfigError: The width is no multiple of 4.
    """
    rows, columns = _by_axis(grid[1:], width, max_period)
    times = _sincos(np.arange(grid[0]), width, max_period, False)
    table = np.concatenate([columns, rows], -1)[None] + times[:, None, None]
    return _table(table.reshape(-1, width))


def sinusoids(
    x: Tensor, width: int, *, max_period: float = 10_000.0, endpoint: bool = False, order: Order = "sin_cos"
) -> Tensor:
    """Return sines and cosines of x at falling rates, on x's device and in float32.

    Args:
        x: (…) any numbers, such as times.
        width: D, even.
        max_period: See `sincos_1d`.
        endpoint: See `sincos_1d`.
        order: All sines first, all cosines first, or each sine before its cosine.

    Returns:
        (…, D).

    Raises:
        ConfigError: The width is odd.
    """
    _require_multiple(width, 2)
    half = width // 2
    steps = max(1, half - 1) if endpoint else half
    rates = torch.exp(torch.arange(half, device=x.device).float() * (-math.log(max_period) / steps))
    angles = x[..., None] * rates
    if order == "interleaved":
        return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)
    halves = (angles.sin(), angles.cos())
    return torch.cat(halves if order == "sin_cos" else halves[::-1], -1)


def timestep_embedding(
    t: Tensor,
    width: int,
    *,
    scale: float = 1000.0,
    max_period: float = 10_000.0,
    endpoint: bool = False,
    order: Order = "cos_sin",
) -> Tensor:
    """Return times t (B,), usually from 0 to 1, as `sinusoids` of scale · t, (B, D) (Ho et al., arXiv 2006.11239).

    Raises:
        ConfigError: The width is odd.
    """
    return sinusoids(scale * t, width, max_period=max_period, endpoint=endpoint, order=order)


def relative_sincos(length: int, width: int, device: torch.device | None = None) -> Tensor:
    """Return the table (2T - 1, D) of distances T - 1 … -(T - 1), sines and cosines in turn (arXiv 1901.02860).

    Raises:
        ConfigError: The width is odd.
    """
    distances = torch.arange(length - 1, -length, -1, device=device).float()
    return sinusoids(distances, width, order="interleaved")


class RelativePositionBias1d(nn.Module):
    """What to add to attention scores along a sequence: a learned number a head and distance, nothing past a reach.

    A bias by distance (Raffel et al., arXiv 1910.10683), a row each instead of by buckets. What attends so depends on
    nothing but what is within reach, wherever in a sequence that stands.

    Args:
        num_heads: H.
        reach: r; rows more than r apart do not see each other.

    Attributes:
        table: (2r + 1, H), by distance from the query's place to the key's, from -r. Starts at 0.

    Raises:
        ConfigError: The reach is negative.
    """

    def __init__(self, num_heads: int, reach: int) -> None:
        super().__init__()
        if reach < 0:
            raise ConfigError(f"relative positions: a reach must be 0 or more, got {reach}.")
        self.reach = reach
        self.table = nn.Parameter(torch.zeros(2 * reach + 1, num_heads))

    def forward(self, queries: range, keys: range) -> Tensor:
        """Return the bias (H, Q, K) of the rows that look at those that are looked at; -inf where one is not seen."""
        device = self.table.device
        apart = torch.tensor(keys, device=device) - torch.tensor(queries, device=device)[:, None]
        bias = self.table[apart.clamp(-self.reach, self.reach) + self.reach].permute(2, 0, 1)
        return bias.masked_fill(apart.abs() > self.reach, -math.inf)


class RelativePositionBias2d(nn.Module):
    """What to add to attention scores on a grid: a learned number a head and offset, nothing seen past a window.

    A table of relative positions (Liu et al., arXiv 2103.14030) that moves with each token: a token sees the
    (2w - 1)² cells around it. The bias is made anew at each call, so that training sees what it has changed.

    Args:
        num_heads: H.
        window: w; cells w or more apart on either axis do not see each other.

    Attributes:
        table: (2w - 1, 2w - 1, H), by offset of rows and of columns, from the key's place to the query's. Starts at 0.

    Raises:
        ConfigError: The window is empty.
    """

    def __init__(self, num_heads: int, window: int) -> None:
        super().__init__()
        if window < 1:
            raise ConfigError(f"relative positions: a window must be at least 1, got {window}.")
        self.window = window
        self.table = nn.Parameter(torch.zeros(2 * window - 1, 2 * window - 1, num_heads))

    def forward(self, grid: tuple[int, int]) -> Tensor:
        """Return the bias (H, N, N) of a grid's N cells, row by row; -inf where a key is not seen."""
        rows, columns = grid
        return self.between(range(rows), range(rows), columns)

    def between(self, queries: range, keys: range, columns: int) -> Tensor:
        """Return the part of the bias that is of some rows of a grid, (H, Q, K).

        Args:
            queries: Rows whose cells look.
            keys: Rows whose cells are looked at.
            columns: Of the grid.
        """
        if min(len(queries), len(keys), columns) < 1:
            raise InputError(
                f"relative positions: a grid has at least one row and one column, got {len(queries)} rows that look at "
                f"{len(keys)}, of {columns} columns."
            )
        device, most = self.table.device, self.window - 1
        dy = torch.tensor(queries, device=device)[:, None] - torch.tensor(keys, device=device)
        place = torch.arange(columns, device=device)
        dx = place[:, None] - place
        # (Q rows, K rows, columns, columns, H): one look-up an offset of rows and of columns.
        far_y, far_x = dy.abs() > most, dx.abs() > most
        bias = self.table[(dy.clamp(-most, most) + most)[..., None, None], dx.clamp(-most, most) + most]
        bias = bias.masked_fill((far_y[..., None, None] | far_x)[..., None], -math.inf)
        return bias.permute(4, 0, 2, 1, 3).flatten(3).flatten(1, 2)


def _sincos(positions: np.ndarray, width: int, max_period: float, endpoint: bool) -> np.ndarray:
    _require_multiple(width, 2)
    rates = np.logspace(0, -np.log10(max_period), width // 2, endpoint=endpoint)
    angles = positions[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], 1)


def _by_axis(grid: tuple[int, int], width: int, max_period: float) -> list[np.ndarray]:
    """Return, for rows and for columns, what each cell has of them, (H, W, D / 2)."""
    _require_multiple(width, 4)
    rows, columns = (_sincos(np.arange(size), width // 2, max_period, False) for size in grid)
    shape = (*grid, width // 2)
    return [np.broadcast_to(rows[:, None], shape), np.broadcast_to(columns, shape)]


def _table(values: np.ndarray) -> Tensor:
    return torch.as_tensor(values.astype(np.float32))  # unlike `from_numpy`, where the caller makes tensors


def _require_multiple(width: int, factor: int) -> None:
    if width < factor or width % factor:
        raise ConfigError(f"positions: the width must be a multiple of {factor}, got {width}.")
