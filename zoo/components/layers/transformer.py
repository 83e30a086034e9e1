"""Pre-norm transformer layers, whose rows can be computed all at once or some at a time.

In a layer only the keys and values look at other positions; everything else is a function of one row. So a layer is
two steps, `keys_values` and `attend`: called on the whole sequence they are the usual layer, called on ranges of rows
they give the same numbers with the work cut as the caller wants it.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MLP", "Attention", "TransformerLayer"]


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al., arXiv 1706.03762) on PyTorch's fused kernels.

    Args:
        width: D.
        num_heads: H, a divisor of D.
        key_bias: Whether the projection to keys has a bias. Softmax cancels it, and Whisper has none.
        dropout: Probability, in training, that an attention weight is dropped.
    """

    def __init__(self, width: int, num_heads: int, *, key_bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width, bias=key_bias)
        self.v = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Project x (B, T, D) to keys and values, (B, H, T, D / H) each."""
        return self._heads(self.k(x)), self._heads(self.v(x))

    def forward(
        self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, *, is_causal: bool = False
    ) -> Tensor:
        """Let the rows x (B, Q, D) attend.

        Args:
            x: (B, Q, D).
            keys: (B, H, T, D / H).
            values: (B, H, T, D / H).
            mask: Bool, broadcast to (B, H, Q, T), True at the keys that count; all if None.
            is_causal: Row i attends to keys 0 … i, for which the kernels need no mask, and take none.

        Returns:
            (B, Q, D).
        """
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(self._heads(self.q(x)), keys, values, mask, dropout, is_causal)
        projected: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return projected

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.num_heads, x.shape[2] // self.num_heads).transpose(1, 2)


class MLP(nn.Module):
    """Two linear maps with an exact GELU between them, (…, D) → (…, D)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map each row."""
        mapped: Tensor = self.down(F.gelu(self.up(x)))
        return mapped


class TransformerLayer(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)).

    Args:
        width: D.
        num_heads: H.
        hidden: Width inside the MLP.
        key_bias: See `Attention`.
        dropout: Probability, in training, that an attention weight or a value of either branch is dropped.
    """

    def __init__(self, width: int, num_heads: int, hidden: int, *, key_bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, num_heads, key_bias=key_bias, dropout=dropout)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = MLP(width, hidden)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, is_causal: bool = False) -> Tensor:
        """Return the layer's output (B, T, D) for a whole batch; other arguments as of `Attention.forward`."""
        return self.attend(x, *self.keys_values(x), mask, is_causal=is_causal)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values of the rows x (B, T, D), (B, H, T, D / H) each."""
        return self.attention.keys_values(self.attention_norm(x))

    def attend(
        self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, *, is_causal: bool = False
    ) -> Tensor:
        """Return the layer's output for the rows x (B, Q, D), given everyone's keys and values."""
        mixed = self.attention(self.attention_norm(x), keys, values, mask, is_causal=is_causal)
        x = x + self._drop(mixed)
        mapped: Tensor = x + self._drop(self.mlp(self.mlp_norm(x)))
        return mapped

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x
