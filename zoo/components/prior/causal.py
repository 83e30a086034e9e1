"""A stack of causal transformer layers, computed all at once or position after position."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.components.layers.block import Block, BlockConfig
from zoo.config import check_fields
from zoo.errors import ConfigError, InputError

__all__ = ["Cache", "CausalConfig", "CausalStack", "CausalTransformer", "initialise", "valid_positions"]

_STD = 0.02


@dataclass(frozen=True)
class CausalConfig:
    """Sizes of a causal transformer.

    Attributes:
        width: D.
        num_layers: Layers.
        num_heads: Attention heads, a divisor of the width.
        max_length: Positions that there are.
        dropout: Probability, in training, that an input, an attention weight or a layer's output value is dropped.

    Raises:
        ConfigError: A value is unusable.
    """

    width: int = 384
    num_layers: int = 12
    num_heads: int = 6
    max_length: int = 1024
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self, "transformer")
        for name in ("width", "num_layers", "num_heads", "max_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"transformer: {name} must be at least 1, got {getattr(self, name)}.")
        if self.width % self.num_heads:
            raise ConfigError(f"transformer: {self.num_heads} heads do not divide a width of {self.width}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"transformer: dropout must be at least 0 and below 1, got {self.dropout}.")


class Cache:
    """Keys and values of the positions that a causal transformer has already seen.

    Args:
        capacity: The most positions there will be.

    Attributes:
        length: Positions so far.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0
        self._layers: list[tuple[Tensor, Tensor]] = []

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add keys and values (B, H, n, D / H) of a layer; return those of all positions so far."""
        end = self.length + keys.shape[2]
        if layer == len(self._layers):
            shape = (*keys.shape[:2], self.capacity, keys.shape[3])
            self._layers.append((keys.new_empty(shape), values.new_empty(shape)))
        stored = self._layers[layer]
        for old, new in zip(stored, (keys, values), strict=True):
            old[:, :, self.length : end] = new
        return stored[0][:, :, :end], stored[1][:, :, :end]

    def keep(self, num_items: int) -> None:
        """Forget all but the first items."""
        self._layers = [(keys[:num_items], values[:num_items]) for keys, values in self._layers]


class CausalStack(nn.Module):
    """Positions, pre-norm layers that see no later position, a final norm: (B, T, D) → (B, T, D).

    Args:
        positions: (P, D), added to the input: a parameter, or a fixed table.
        layers: The layers.
        norm: The final norm.
        dropout: Probability, in training, that a value of the input with its position is dropped.
    """

    positions: Tensor

    def __init__(self, positions: Tensor, layers: Iterable[Block], norm: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        if isinstance(positions, nn.Parameter):
            self.positions = positions
        else:
            self.register_buffer("positions", positions)
        self.layers = nn.ModuleList(layers)
        self.norm = norm
        self.dropout = dropout

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Return the last layer's output.

        Args:
            x: (B, T, D), positions 0 … T - 1, or, with a cache, those after the ones it has seen. Padding at the end of
                an item changes nothing before it, if it is finite.
            cache: Seen positions; x is added.

        Raises:
            InputError: There are more positions than the model has.
        """
        start = 0 if cache is None else cache.length
        length = x.shape[1]
        self.require_room(start + length)
        # Kernels count rows and keys from the same start; rows that follow a cache need a mask, a single one does not.
        is_causal, mask = start == 0, None
        if start and length > 1:
            mask = torch.ones(length, start + length, dtype=torch.bool, device=x.device).tril_(start)
        x = x + self.positions[start : start + length]
        x = F.dropout(x, self.dropout, self.training) if self.dropout else x
        for number, module in enumerate(self.layers):
            layer = cast(Block, module)
            keys, values = layer.keys_values(x)
            if cache is not None:
                keys, values = cache.extend(number, keys, values)
            x = layer.attend(x, keys, values, mask, is_causal=is_causal)
        if cache is not None:
            cache.length += length
        normed: Tensor = self.norm(x)
        return normed

    def require_room(self, num_positions: int) -> None:
        """Raise `InputError` if there are not that many positions."""
        if num_positions > len(self.positions):
            raise InputError(
                f"{num_positions} positions are more than the {len(self.positions)} that the prior has: build one for "
                "longer sequences, or shorten them."
            )


class CausalTransformer(CausalStack):
    """A `CausalStack` as GPT-2 has it: learned positions, layer norms, MLPs four times as wide.

    Args:
        config: Sizes.
    """

    def __init__(self, config: CausalConfig) -> None:
        block = BlockConfig(config.width, config.num_heads, 4 * config.width, dropout=config.dropout)
        super().__init__(
            nn.Parameter(torch.empty(config.max_length, config.width)),
            (block.block() for _ in range(config.num_layers)),
            nn.LayerNorm(config.width),
            config.dropout,
        )
        self.config = config
        nn.init.normal_(self.positions, std=_STD)
        initialise(self.layers)


def initialise(module: nn.Module, std: float = _STD) -> None:
    """Draw weights of linear maps and embeddings from N(0, std²) and set biases to 0, as GPT-2 does."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


def valid_positions(lengths: Tensor | None, x: Tensor) -> Tensor:
    """Return which positions of x (B, T, ...) hold tokens, bool (B, T): the first `lengths` (B,); all, if that is None.

    Raises:
        InputError: Lengths are not integers, one an item.
    """
    batch, num = x.shape[:2]
    if lengths is None:
        return torch.ones(batch, num, dtype=torch.bool, device=x.device)
    if lengths.shape != (batch,) or lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise InputError(f"lengths must be {batch} integers, got {lengths.dtype} of {tuple(lengths.shape)}.")
    return torch.arange(num, device=x.device) < lengths.to(x.device)[:, None]
