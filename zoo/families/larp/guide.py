"""A start for LARP's tokens: each is first told to hold what one place of the clip looks like.

Queries of a fresh encoder all see the mean of the clip, and a fresh decoder reads the mean of the tokens, so that
neither has a reason to tell tokens apart until the other does. Large batches get over this after some thousand steps,
small ones hardly ever. Here a linear map of a single token is asked for the coarse colours of one cell of the clip,
which gives every token something of its own to hold within a few hundred steps. The weight falls to zero, and from
then on tokens hold what serves the clip; `train/guide` shows how far they have gone from there. Targets of a simpler
code for the first stage are what Yu et al. train with, too (arXiv 2406.07550, section 3.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from zoo.config import check_fields
from zoo.errors import ConfigError

__all__ = ["Guide", "GuideConfig"]


@dataclass(frozen=True)
class GuideConfig:
    """What tokens are told to hold at first.

    Attributes:
        grid: Cells of a clip along time, height and width, as many as there are tokens.
        parts: Colours a cell has along each axis.
        until: The step from which tokens are free; the weight falls to it linearly.

    Raises:
        ConfigError: A value is unusable.
    """

    grid: tuple[int, int, int]
    parts: tuple[int, int, int] = (1, 2, 2)
    until: int = 1000

    def __post_init__(self) -> None:
        check_fields(self, "guide")
        if min(self.grid) < 1 or min(self.parts) < 1 or self.until < 1:
            raise ConfigError(
                f"guide: grid, parts and until must be at least 1, got {self.grid}, {self.parts} and {self.until}."
            )


class Guide(nn.Module):
    """The mean squared error of the colours of a clip's cells, each from one token alone.

    Args:
        config: Cells, and how long they matter.
        num_tokens: n.
        size: D, width of the vectors.
        clip: Frames, rows and columns of a clip.

    Attributes:
        project: Vector → colours of a cell.

    Raises:
        ConfigError: There are not as many cells as tokens, or they do not divide a clip.
    """

    def __init__(self, config: GuideConfig, num_tokens: int, size: int, clip: tuple[int, int, int]) -> None:
        super().__init__()
        if math.prod(config.grid) != num_tokens:
            raise ConfigError(f"guide: {num_tokens} tokens need as many cells, got {config.grid}.")
        if any(whole % (cells * parts) for whole, cells, parts in zip(clip, config.grid, config.parts, strict=True)):
            raise ConfigError(
                f"guide: cells {config.grid} of {config.parts} parts do not divide clips of {clip}: frames, rows, "
                "columns."
            )
        self.config = config
        self.project = nn.Linear(size, 3 * math.prod(config.parts))
        nn.init.constant_(self.project.bias, 0.5)

    def weight(self, step: int) -> float:
        """Return the share of the loss that counts in a step, 1 … 0."""
        return max(0.0, 1 - step / self.config.until)

    def forward(self, vectors: Tensor, clips: Tensor) -> Tensor:
        """Compare vectors (B, n, D) with clips (B, 3, T, H, W) in 0…1: the loss, ()."""
        (times, rows, columns), (t, h, w) = self.config.grid, self.config.parts
        coarse = F.adaptive_avg_pool3d(clips, (times * t, rows * h, columns * w))
        wanted = rearrange(
            coarse,
            "b c (times t) (rows h) (columns w) -> b (times rows columns) (c t h w)",
            times=times,
            rows=rows,
            columns=columns,
        )
        return F.mse_loss(self.project(vectors).float(), wanted)
