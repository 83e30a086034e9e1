"""Pre-norm transformer blocks, put together from norms, attention, an MLP and, perhaps, a modulation.

A block is two steps, `keys_values` and `attend`, for the same reason as attention is: see there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.components.layers.attention import Attention
from zoo.components.layers.mlp import MLP, ActivationName, GatedMLP
from zoo.components.layers.modulation import AdaLN, modulate, require_parts
from zoo.components.layers.norms import NormName, make_norm
from zoo.config import check_fields
from zoo.errors import ConfigError, InputError

__all__ = ["Block", "BlockConfig", "CrossBlock"]


class Block(nn.Module):
    """x + gate · attention(norm(x)), then x + gate · MLP(norm(x)); norms may be shifted and scaled by a condition.

    Args:
        attention_norm: (..., D) → (..., D).
        attention: Of the rows to each other.
        mlp_norm: (..., D) → (..., D).
        mlp: (..., D) → (..., D).
        modulation: A condition → shifts, scales and gates. There are none if it is None.
        dropout: Probability, in training, that a value of either branch is dropped.
        mlp_dropout: The same of the MLP's branch, where it is another one.
        drop_path: Probability, in training, that an item does without a branch (Huang et al., arXiv 1603.09382).

    Raises:
        ConfigError: The modulation has a part that a block does not take.
    """

    def __init__(
        self,
        attention_norm: nn.Module,
        attention: Attention,
        mlp_norm: nn.Module,
        mlp: nn.Module,
        *,
        modulation: AdaLN | None = None,
        dropout: float = 0.0,
        mlp_dropout: float | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.dropout = {"attention": dropout, "mlp": dropout if mlp_dropout is None else mlp_dropout}
        self.drop_path = drop_path
        self.attention_norm = attention_norm
        self.attention = attention
        self.mlp_norm = mlp_norm
        self.mlp = mlp
        self.modulation = modulation
        if modulation is not None:
            require_parts(modulation.parts)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        is_causal: bool = False,
        condition: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Tensor:
        """Return the block's output (B, T, D) for a whole batch.

        Args:
            x: (B, T, D).
            mask: As of `Attention.forward`.
            is_causal: As of `Attention.forward`.
            condition: As of `AdaLN.forward`, for a block that has a modulation.
            group: As of `AdaLN.forward`.

        Raises:
            InputError: A condition is missing, or there is one and nothing to modulate.
        """
        parts = self.modulate(condition, group)
        return self.attend(x, *self.keys_values(x, parts), mask, is_causal=is_causal, parts=parts)

    def modulate(self, condition: Tensor | None, group: Tensor | None = None) -> Mapping[str, Tensor]:
        """Return the shifts, scales and gates of a condition by name; there are none without a modulation."""
        if (self.modulation is None) != (condition is None):
            raise InputError(
                "this block is modulated by a condition: pass one."
                if condition is None
                else "this block has no modulation: pass no condition, or build it with a condition_size."
            )
        parts: Mapping[str, Tensor] = {} if self.modulation is None else self.modulation(condition, group)
        return parts

    def keys_values(self, x: Tensor, parts: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return the keys and values of the rows x (B, T, D), (B, H, T, S) each."""
        return self.attention.keys_values(_normed(self.attention_norm, x, parts, "attention"))

    def attend(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None = None,
        *,
        is_causal: bool = False,
        parts: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the block's output for the rows x (B, Q, D), given everyone's keys and values, and x's own parts."""
        rows = _normed(self.attention_norm, x, parts, "attention")
        x = self._add(x, self.attention(rows, keys, values, mask, is_causal=is_causal), parts, "attention")
        return self._add(x, self.mlp(_normed(self.mlp_norm, x, parts, "mlp")), parts, "mlp")

    def _add(self, x: Tensor, branch: Tensor, parts: Mapping[str, Tensor] | None, name: str) -> Tensor:
        gate = parts.get(f"gate_{name}") if parts else None
        if self.training:
            branch = F.dropout(branch, self.dropout[name]) if self.dropout[name] else branch
            if self.drop_path:
                branch = F.dropout(branch.new_ones(len(branch), 1, 1), self.drop_path) * branch
        return x + (branch if gate is None else gate * branch)


class CrossBlock(nn.Module):
    """x + attention(norm(x)), x + attention of x to another sequence, the memory, then x + MLP(norm(x)).

    The decoder layer of Vaswani et al. (arXiv 1706.03762), with norms first.

    Args:
        attention_norm: (..., D) → (..., D).
        attention: Of the rows to each other.
        memory_norm: (..., D) → (..., D), of the rows that attend to the memory; the memory's are not normed here.
        memory: Attention to the memory.
        mlp_norm: (..., D) → (..., D).
        mlp: (..., D) → (..., D).
    """

    def __init__(
        self,
        attention_norm: nn.Module,
        attention: Attention,
        memory_norm: nn.Module,
        memory: Attention,
        mlp_norm: nn.Module,
        mlp: nn.Module,
    ) -> None:
        super().__init__()
        self.attention_norm = attention_norm
        self.attention = attention
        self.memory_norm = memory_norm
        self.memory = memory
        self.mlp_norm = mlp_norm
        self.mlp = mlp

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values of the rows x (B, T, D), (B, H, T, S) each."""
        return self.attention.keys_values(self.attention_norm(x))

    def attend(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        memory: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the block's output for the rows x (B, Q, D).

        Args:
            x: (B, Q, D).
            keys: Of all rows that there are, from `keys_values`.
            values: The same.
            memory: Keys and values of the memory, from `memory.keys_values`.
            mask: Which rows see which, as of `Attention.forward`.
            memory_mask: Which of the memory they see.
        """
        x = x + self.attention(self.attention_norm(x), keys, values, mask)
        x = x + self.memory(self.memory_norm(x), *memory, memory_mask)
        mapped: Tensor = x + self.mlp(self.mlp_norm(x))
        return mapped


@dataclass(frozen=True)
class BlockConfig:
    """A transformer block in plain values.

    Attributes:
        width: D.
        num_heads: Attention heads, a divisor of D.
        mlp_size: Width inside the MLP.
        norm: "layer" or "rms".
        norm_eps: What the norms add to a variance.
        norm_affine: Whether the norms have parameters.
        activation: Of the MLP.
        is_gated: A gated MLP: SwiGLU with "silu", GEGLU with "gelu".
        qkv_bias: Whether queries, keys and values have biases.
        key_bias: The same for keys alone; as `qkv_bias` if None.
        out_bias: Whether the last map of attention has one.
        mlp_bias: Whether the MLP's maps have some.
        qk_norm: Norm of queries and keys, a head at a time; none if None.
        attention_scale: What scores are multiplied by; 1 / √(D / num_heads) if None.
        dropout: Probability, in training, that an attention weight or a value of either branch is dropped.
        condition_size: Width of the condition that modulates the block; nothing does if None.
        modulated: What it gives, in the order of the linear map's rows: see `AdaLN`.

    Raises:
        ConfigError: A value is unusable.
    """

    width: int
    num_heads: int
    mlp_size: int
    norm: NormName = "layer"
    norm_eps: float = 1e-5
    norm_affine: bool = True
    activation: ActivationName = "gelu"
    is_gated: bool = False
    qkv_bias: bool = True
    key_bias: bool | None = None
    out_bias: bool = True
    mlp_bias: bool = True
    qk_norm: NormName | None = None
    attention_scale: float | None = None
    dropout: float = 0.0
    condition_size: int | None = None
    modulated: tuple[str, ...] = (
        "shift_attention",
        "scale_attention",
        "gate_attention",
        "shift_mlp",
        "scale_mlp",
        "gate_mlp",
    )

    def __post_init__(self) -> None:
        check_fields(self, "transformer block")
        for name in ("width", "num_heads", "mlp_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"transformer block: {name} must be at least 1, got {getattr(self, name)}.")
        if self.width % self.num_heads:
            raise ConfigError(
                f"transformer block: {self.num_heads} heads do not divide a width of {self.width}: choose a divisor."
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"transformer block: dropout must be at least 0 and below 1, got {self.dropout}.")
        if self.norm_eps <= 0:
            raise ConfigError(f"transformer block: norm_eps must be positive, got {self.norm_eps}.")
        if self.condition_size is not None and self.condition_size < 1:
            raise ConfigError(f"transformer block: condition_size must be at least 1, got {self.condition_size}.")
        require_parts(self.modulated)

    def block(self, num_groups: int = 1) -> Block:
        """Return a new block.

        Args:
            num_groups: Groups of tokens that are modulated apart.
        """
        attention, mlp = self.attention(), self.mlp()
        modulation = None
        if self.condition_size is not None:
            modulation = AdaLN(self.condition_size, self.width, self.modulated, num_groups=num_groups)
        return Block(self.make_norm(), attention, self.make_norm(), mlp, modulation=modulation, dropout=self.dropout)

    def cross_block(self) -> CrossBlock:
        """Return a new block that attends to a memory as well; it knows neither modulation nor dropout of branches."""
        attention, memory, mlp = self.attention(), self.attention(), self.mlp()
        return CrossBlock(self.make_norm(), attention, self.make_norm(), memory, self.make_norm(), mlp)

    def make_norm(self) -> nn.Module:
        """Return a new norm like those of the block."""
        return make_norm(self.norm, self.width, eps=self.norm_eps, affine=self.norm_affine)

    def attention(self) -> Attention:
        """Return a new attention like that of the block."""
        return Attention(
            self.width,
            self.num_heads,
            bias=self.qkv_bias,
            key_bias=self.key_bias,
            out_bias=self.out_bias,
            qk_norm=self.qk_norm,
            scale=self.attention_scale,
            dropout=self.dropout,
        )

    def mlp(self) -> nn.Module:
        """Return a new MLP like that of the block."""
        kind = GatedMLP if self.is_gated else MLP
        return kind(self.width, self.mlp_size, activation=self.activation, bias=self.mlp_bias)


def _normed(norm: nn.Module, x: Tensor, parts: Mapping[str, Tensor] | None, name: str) -> Tensor:
    rows: Tensor = norm(x)
    return modulate(rows, parts.get(f"shift_{name}"), parts.get(f"scale_{name}")) if parts else rows
