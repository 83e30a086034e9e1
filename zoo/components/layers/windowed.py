"""Transformer blocks on a grid, whose tokens see a window around them, in memory that grows with the grid's side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from zoo.components.layers.block import Block
from zoo.components.layers.positions import RelativePositionBias2d

__all__ = ["WindowedBlock"]


class WindowedBlock(nn.Module):
    """A block whose attention is biased by relative positions, and limited to a window of (2w - 1)² cells.

    A band of rows sees its own rows and w - 1 on either side. So the bias is made, and attention computed, a band of w
    rows at a time: it takes memory for w · W queries and at most (3w - 2) · W keys, never for all pairs of cells.

    Args:
        block: The block.
        bias: Of its attention's heads.
    """

    def __init__(self, block: Block, bias: RelativePositionBias2d) -> None:
        super().__init__()
        self.block = block
        self.bias = bias

    def forward(self, x: Tensor, grid: tuple[int, int], parts: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the block's output (B, N, D).

        Args:
            x: (B, N, D), the cells of a grid row by row.
            grid: Its rows and columns.
            parts: Shifts, scales and gates of `Block.modulate`, one a cell or one for all.
        """
        keys, values = self.block.keys_values(x, parts)
        done = []
        for queries, seen in self._bands(grid[0]):
            own, others = (slice(rows.start * grid[1], rows.stop * grid[1]) for rows in (queries, seen))
            of_band = {name: part[:, own] if part.shape[1] > 1 else part for name, part in (parts or {}).items()}
            mask = self.bias.between(queries, seen, grid[1]).to(keys.dtype)
            done.append(self.block.attend(x[:, own], keys[:, :, others], values[:, :, others], mask, parts=of_band))
        return done[0] if len(done) == 1 else torch.cat(done, 1)

    def _bands(self, rows: int) -> Iterator[tuple[range, range]]:
        """Yield rows that look, and all those that they see."""
        window = self.bias.window
        height = rows if rows <= 2 * window else window  # two bands would each see nearly all
        for first in range(0, rows, height):
            stop = min(first + height, rows)
            yield range(first, stop), range(max(0, first - window + 1), min(rows, stop + window - 1))
