"""What tokenizers of videos have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.modalities.image import PixelTokenizer
from zoo.tokens import Tokens

__all__ = ["VideoTokenizer"]


class VideoTokenizer(PixelTokenizer):
    """A tokenizer of videos (B, 3, T, H, W) in 0…1, of `spec.input_size` unless that is None."""

    def output_lengths(self, tokens: Tokens) -> Tensor:
        """Return the frames of each item, (B,) int64."""
        if tokens.signal_lengths is not None:
            return tokens.signal_lengths
        size, grid = self.spec.input_size, tokens.grid
        return torch.full_like(tokens.lengths, size[0] if size else grid[0] if grid else 1)
