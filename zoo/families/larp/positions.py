"""Where a patch stands in a clip: a fixed table, or the sum of a learned one for each axis."""

from __future__ import annotations

from torch import Tensor, nn

from zoo.components.layers.positions import sincos_1d, sincos_3d

__all__ = ["PatchPositions"]


class PatchPositions(nn.Module):
    """A vector for each patch, by time, row and column.

    Args:
        grid: Patches along time, height and width.
        width: D.
        is_learned: Whether they are.

    Attributes:
        table: (N, D), fixed and stored with the weights; None if they are learned.
        times: (T, D), learned; None if they are fixed. They start from sines and cosines, as rows and columns do.
        rows: (H, D), the same.
        columns: (W, D), the same.
    """

    table: Tensor | None
    times: nn.Parameter | None
    rows: nn.Parameter | None
    columns: nn.Parameter | None

    def __init__(self, grid: tuple[int, int, int], width: int, is_learned: bool) -> None:
        super().__init__()
        axes = [nn.Parameter(sincos_1d(size, width)) for size in grid] if is_learned else [None] * 3
        self.times, self.rows, self.columns = axes
        self.register_buffer("table", None if is_learned else sincos_3d(grid, width))

    def forward(self, num_patches: int | None = None) -> Tensor:
        """Return the positions (N, D) of all patches, or of the first so many, which are those of the first frames."""
        if self.table is not None:
            return self.table[:num_patches]
        assert self.times is not None
        assert self.rows is not None
        assert self.columns is not None
        table = self.times[:, None, None] + self.rows[:, None] + self.columns
        return table.flatten(0, 2)[:num_patches]
