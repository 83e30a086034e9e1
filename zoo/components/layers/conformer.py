"""A conformer (Gulati et al., arXiv 2005.08100) that sees its input block by block, as speech decoders have it.

Of a conformer's parts only attention with relative positions and one MLP are left: neither a second MLP nor a
convolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.components.layers.attention import merge_heads, scaled_dot_product, split_heads
from zoo.components.layers.positions import relative_sincos
from zoo.config import check_fields, check_positive
from zoo.errors import ConfigError

__all__ = ["BlockConformer", "ConformerConfig", "RelativeAttention", "block_mask"]


@dataclass(frozen=True)
class ConformerConfig:
    """Settings of a `BlockConformer`.

    Attributes:
        width: Width of the blocks, D.
        num_heads: Attention heads, a divisor of D.
        ffn_size: Width inside the blocks' MLPs.
        num_blocks: Blocks.
        block_size: Positions that see one another; later ones are hidden from them.

    Raises:
        ConfigError: A value is unusable.
    """

    width: int = 512
    num_heads: int = 8
    ffn_size: int = 2048
    num_blocks: int = 6
    block_size: int = 25

    def __post_init__(self) -> None:
        check_fields(self, "conformer")
        check_positive(self, "conformer")
        if self.width % self.num_heads or self.width % 2:
            raise ConfigError(
                f"conformer: width must be even and a multiple of num_heads, got {self.width} and {self.num_heads}."
            )


class BlockConformer(nn.Module):
    """Vectors (B, T, D) → (B, T, D), each a function of its own block of positions and of all before it.

    Args:
        config: Sizes.
    """

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.block_size = config.block_size
        self.project = nn.Linear(config.width, config.width)
        self.project_norm = nn.LayerNorm(config.width)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.num_blocks))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, x: Tensor) -> Tensor:
        """Encode items (B, T, D) of one length."""
        length, width = x.shape[1:]
        positions = relative_sincos(length, width, x.device)
        mask = block_mask(length, self.block_size, x.device)
        x = self.project_norm(self.project(x)) * math.sqrt(width)
        for block in self.blocks:
            x = block(x, positions, mask)
        encoded: Tensor = self.norm(x)
        return encoded


class RelativeAttention(nn.Module):
    """Attention whose scores are (q_i + u)·k_j + (q_i + v)·p_{i-j} (Dai et al., arXiv 1901.02860).

    Attributes:
        content_bias: u, (H, D / H).
        position_bias: v, (H, D / H).
        position: Relative positions → p.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.position = nn.Linear(width, width, bias=False)
        self.content_bias = nn.Parameter(torch.empty(num_heads, width // num_heads))
        self.position_bias = nn.Parameter(torch.empty(num_heads, width // num_heads))
        nn.init.xavier_uniform_(self.content_bias)
        nn.init.xavier_uniform_(self.position_bias)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Attend.

        Args:
            x: (B, T, D).
            positions: (2T - 1, D), from T - 1 rows back to T - 1 ahead (`relative_sincos`).
            mask: (T, T) bool, True where a row sees a column's.

        Returns:
            (B, T, D).
        """
        q, k, v = (split_heads(linear(x), self.num_heads) for linear in (self.q, self.k, self.v))
        p = split_heads(self.position(positions)[None], self.num_heads)
        by_distance = (q + self.position_bias[:, None]) @ p.transpose(2, 3)
        bias = _aligned(by_distance) / math.sqrt(q.shape[3])
        bias = bias.masked_fill(~mask, -math.inf)
        mixed = scaled_dot_product(q + self.content_bias[:, None], k, v, bias)
        projected: Tensor = self.out(merge_heads(mixed))
        return projected


class _Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)), with SiLU inside.

    Written out rather than a `Block`, because checkpoints name the MLP's tensors without `mlp.`.
    """

    def __init__(self, config: ConformerConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = RelativeAttention(config.width, config.num_heads)
        self.mlp_norm = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, config.ffn_size)
        self.down = nn.Linear(config.ffn_size, config.width)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Return the block's output; arguments as of `RelativeAttention.forward`."""
        x = x + self.attention(self.attention_norm(x), positions, mask)
        mapped: Tensor = x + self.down(F.silu(self.up(self.mlp_norm(x))))
        return mapped


def block_mask(length: int, block_size: int, device: torch.device | None = None) -> Tensor:
    """Return (T, T) bool: a position sees all of its own block and every earlier one."""
    block = torch.arange(length, device=device) // block_size
    return block[None, :] <= block[:, None]


def _aligned(scores: Tensor) -> Tensor:
    """Turn scores by distance (B, H, T, 2T - 1) into scores by key, (B, H, T, T).

    Row i starts at distance T - 1, and key 0 is i rows back. With one column more, to read the rows on in lines of
    one number less moves each by one against the last.
    """
    batch, heads, length, _ = scores.shape
    padded = F.pad(scores, (1, 0)).view(batch, heads, 2 * length, length)
    return padded[:, :, 1:].reshape(batch, heads, length, 2 * length - 1)[:, :, :, :length]
