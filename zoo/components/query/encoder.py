"""The query encoder: learned queries that read what a signal's tokens hold, and become its latents.

Queries stand beside the patches, and perhaps a caption, in one transformer; only they are kept. So the number of
latents does not follow from the signal's size (Yu et al., arXiv 2406.07550).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from zoo.components.layers.norms import make_norm
from zoo.components.layers.positions import sincos_1d
from zoo.components.layers.start import start_table
from zoo.components.query.groups import GroupTransformer, GroupTransformerConfig, require_group
from zoo.config import check_fields
from zoo.errors import ConfigError, InputError

__all__ = ["QueryEncoder", "QueryEncoderConfig"]


@dataclass(frozen=True)
class QueryEncoderConfig:
    """A query encoder.

    Attributes:
        transformer: Its layers, and the groups of tokens with the queries among them.
        num_queries: N.
        output_size: Width of the latents.
        queries: Name of the queries' group.
        query_start: What the queries are at first: drawn from a normal distribution, or sines and cosines of their
            numbers.
        query_std: Deviation of that distribution, around 0.
        has_query_positions: A learned table is added to the queries, from N(0, 0.02²). Learned queries know their place
            without; some models have both.
        learns_queries: Whether they are trained; if not, they are the fixed sines and cosines.
        has_norm: A norm like the blocks' stands behind the last layer.
        norm_eps: What that one adds to a variance; the same as the blocks' if None.

    Raises:
        ConfigError: A value is unusable, or no group has the queries' name.
    """

    transformer: GroupTransformerConfig
    num_queries: int
    output_size: int
    queries: str = "queries"
    query_start: Literal["normal", "sincos"] = "normal"
    query_std: float = 0.02
    has_query_positions: bool = False
    learns_queries: bool = True
    has_norm: bool = True
    norm_eps: float | None = None

    def __post_init__(self) -> None:
        check_fields(self, "query encoder")
        for name in ("num_queries", "output_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"query encoder: {name} must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.query_std <= 1e3:
            raise ConfigError(f"query encoder: query_std must be from 0 to 1000, got {self.query_std}.")
        require_group(self.queries, [group.name for group in self.transformer.groups])


class QueryEncoder(nn.Module):
    """Tokens of a signal → N latents.

    Args:
        config: Sizes and groups.

    Attributes:
        queries: (N, D), a parameter, or a buffer if they are fixed.
        positions: (N, D), added to these; None if there are none.
        transformer: The layers.
        norm: Of their output; the identity if there is none.
        project: Queries' outputs → latents.
    """

    queries: Tensor
    positions: nn.Parameter | None

    def __init__(self, config: QueryEncoderConfig) -> None:
        super().__init__()
        self.config = config
        block = config.transformer.block
        is_drawn = config.learns_queries and config.query_start == "normal"
        if is_drawn:
            queries = torch.randn(config.num_queries, block.width) * config.query_std
        else:
            queries = sincos_1d(config.num_queries, block.width)
        if config.learns_queries:
            self.queries = nn.Parameter(queries)
        else:
            self.register_buffer("queries", queries)
        self.positions = start_table(queries.shape) if config.has_query_positions else None
        self.transformer = GroupTransformer(config.transformer)
        self.norm = final_norm(config.transformer, config.has_norm, config.norm_eps)
        self.project = nn.Linear(block.width, config.output_size)

    def forward(
        self,
        tokens: Mapping[str, Tensor],
        valid: Mapping[str, Tensor] | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Encode.

        Args:
            tokens: (B, T, D) of each group but the queries, embedded, with their positions.
            valid: As of `GroupTransformer.forward`.
            condition: The same.

        Returns:
            (B, N, output_size).

        Raises:
            InputError: Groups are missing or unknown, or shapes do not fit.
        """
        name = self.config.queries
        if name in tokens or not tokens:
            raise InputError(f"the encoder brings its own {name!r}: pass the tokens of the other groups.")
        own = self.queries if self.positions is None else self.queries + self.positions
        queries = own.expand(len(next(iter(tokens.values()))), -1, -1)
        outputs = self.transformer({**tokens, name: queries}, valid, condition)
        latents: Tensor = self.project(self.norm(outputs[name]))
        return latents


def final_norm(config: GroupTransformerConfig, has_norm: bool, eps: float | None) -> nn.Module:
    """Return the norm behind a transformer's last layer, the identity if it has none."""
    block = config.block
    if not has_norm:
        return nn.Identity()
    return make_norm(block.norm, block.width, eps=block.norm_eps if eps is None else eps, affine=block.norm_affine)
