"""Multi-head attention, of a sequence to itself or to another, in steps that can be taken apart.

Only the keys and values look at other positions; everything else is a function of one row. So attention is two steps,
`keys_values` and `forward`: given the whole sequence they are the usual layer, given ranges of rows they return the
same numbers with the work cut as the caller wants it. Attention to another sequence takes that one's keys and values.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.components.layers.norms import make_norm
from zoo.errors import ConfigError

__all__ = ["Attention", "merge_heads", "scaled_dot_product", "split_heads"]

_FEW = 512  # keys up to which the CPU attends faster in float32, with gradients


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al., arXiv 1706.03762) on PyTorch's fused kernels.

    Args:
        width: D.
        num_heads: H.
        head_size: S, width of a head; D / H if None.
        bias: Whether the projections to queries, keys and values have biases.
        key_bias: The same for keys alone; as `bias` if None. Softmax cancels it, and Whisper has none.
        out_bias: Whether the projection of the result has a bias.
        qk_norm: A norm without parameters over each head's queries and keys, "layer" or "rms"; none if None
            (Dehghani et al., arXiv 2302.05442).
        scale: What scores are multiplied by; 1 / √S if None.
        dropout: Probability, in training, that an attention weight is dropped.
        num_kv_heads: Heads of keys and values, each for as many consecutive heads of queries as there are (Ainslie et
            al., arXiv 2305.13245); H if None.

    Raises:
        ConfigError: Heads do not divide the width or one another, or there is no such norm.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        head_size: int | None = None,
        bias: bool = True,
        key_bias: bool | None = None,
        out_bias: bool = True,
        qk_norm: str | None = None,
        scale: float | None = None,
        dropout: float = 0.0,
        num_kv_heads: int | None = None,
    ) -> None:
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            raise ConfigError(f"attention: {num_kv_heads} heads of keys do not divide {num_heads} heads of queries.")
        if head_size is None:
            if num_heads < 1 or width % num_heads:
                raise ConfigError(
                    f"attention: {num_heads} heads do not divide a width of {width}: choose a divisor, or set "
                    "head_size."
                )
            head_size = width // num_heads
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_size = head_size
        self.scale = scale
        self.dropout = dropout
        inner, inner_kv = num_heads * head_size, num_kv_heads * head_size
        self.q = nn.Linear(width, inner, bias=bias)
        self.k = nn.Linear(width, inner_kv, bias=bias if key_bias is None else key_bias)
        self.v = nn.Linear(width, inner_kv, bias=bias)
        self.out = nn.Linear(inner, width, bias=out_bias)
        self.qk_norm = nn.Identity() if qk_norm is None else make_norm(qk_norm, head_size, affine=False)

    def queries(self, x: Tensor) -> Tensor:
        """Project x (B, Q, D) to queries, (B, H, Q, S)."""
        normed: Tensor = self.qk_norm(split_heads(self.q(x), self.num_heads))
        return normed

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Project x (B, T, D) to keys and values, (B, H, T, S) each, of fewer heads if there are fewer for them."""
        return self.qk_norm(split_heads(self.k(x), self.num_kv_heads)), split_heads(self.v(x), self.num_kv_heads)

    def forward(
        self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, *, is_causal: bool = False
    ) -> Tensor:
        """Let the rows x (B, Q, D) attend.

        Args:
            x: (B, Q, D).
            keys: Of `keys_values`.
            values: The same.
            mask: Broadcast to (B, H, Q, T): bool, True at the keys that count; or float, added to the scores, such as a
                relative position bias. All keys count if None.
            is_causal: Row i attends to keys 0 … i, for which the kernels need no mask, and take none.

        Returns:
            (B, Q, D).
        """
        dropout = self.dropout if self.training else 0.0
        if self.num_kv_heads < self.num_heads:
            shared = self.num_heads // self.num_kv_heads
            keys, values = (each.repeat_interleave(shared, 1) for each in (keys, values))
        mixed = scaled_dot_product(self.queries(x), keys, values, mask, dropout, is_causal, scale=self.scale)
        projected: Tensor = self.out(merge_heads(mixed))
        return projected


def scaled_dot_product(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
) -> Tensor:
    """Return what PyTorch's function of the same name does, (B, H, Q, S); autocast trainings of a CPU in float32.

    The backward pass of the CPU's fused kernel takes up to five times as long in bfloat16 as in float32 where rows are
    few; from about a thousand on it is faster.

    Args:
        queries: (B, H, Q, S).
        keys: (B, H, T, S).
        values: The same.
        mask: As of `Attention.forward`.
        dropout: Probability that an attention weight is dropped.
        is_causal: As of `Attention.forward`.
        scale: What scores are multiplied by; 1 / √S if None.
    """
    attend = F.scaled_dot_product_attention
    is_trained = queries.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()
    if not is_trained or keys.shape[2] > _FEW:
        return attend(queries, keys, values, mask, dropout, is_causal, scale=scale)
    if mask is not None and mask.is_floating_point():
        mask = mask.float()
    with torch.autocast("cpu", enabled=False):
        return attend(queries.float(), keys.float(), values.float(), mask, dropout, is_causal, scale=scale)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Return (B, T, H · S) as (B, H, T, S)."""
    return x.view(*x.shape[:2], num_heads, x.shape[2] // num_heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Return (B, H, T, S) as (B, T, H · S)."""
    return x.transpose(1, 2).flatten(2)
