"""TexTok's encoder: queries that look at an image and its caption, and keep what the caption does not say."""

from __future__ import annotations

from torch import Tensor, nn

from zoo.components.layers.patches import PatchEmbedding
from zoo.components.layers.start import start_linear_maps, start_table
from zoo.components.query import GroupTransformerConfig, QueryEncoder, QueryEncoderConfig, TokenGroup
from zoo.components.text import TextStates
from zoo.families.textok.config import TexTokConfig
from zoo.families.textok.text import TextTokens

__all__ = ["LINEAR_STD", "TexTokEncoder"]

LINEAR_STD = 0.02
"""Deviation of what linear maps start from, as ViT's do."""


class TexTokEncoder(nn.Module):
    """Pixels (B, 3, H, W) in -1…1, and states of captions → vectors (B, N, D), one a query.

    Patches, queries and text are one sequence in which all see all; of what becomes of it the queries are kept.

    Args:
        config: Sizes.
        output_size: D, what the quantizer takes.

    Attributes:
        embed: Patches → tokens.
        positions: (patches, width), added to these; None if there are none.
        text: States of captions → tokens; None if the encoder sees no text.
        queries: Tokens → vectors.
    """

    def __init__(self, config: TexTokConfig, output_size: int) -> None:
        super().__init__()
        trunk = config.encoder
        rows, columns = config.grid
        has_tables = config.positions != "none"
        self.embed = PatchEmbedding((config.patch_size, config.patch_size), 3, trunk.width)
        self.positions = start_table((rows * columns, trunk.width)) if has_tables else None
        self.text = TextTokens(config, trunk.width) if config.sees_text("encoder") else None
        names = ("patches", "queries") if self.text is None else ("patches", "queries", "text")
        groups = tuple(TokenGroup(name, has_type=config.has_types) for name in names)
        self.queries = QueryEncoder(
            QueryEncoderConfig(
                GroupTransformerConfig(groups, trunk.block(config.norm_eps, config.dropout), trunk.depth),
                config.num_tokens,
                output_size,
                query_std=config.token_std,
                has_query_positions=has_tables,
            )
        )
        start_linear_maps(self, LINEAR_STD)

    def forward(self, pixels: Tensor, text: TextStates | None = None) -> Tensor:
        """Encode; `text` is needed if the encoder sees some."""
        patches = self.embed(pixels)
        tokens = {"patches": patches if self.positions is None else patches + self.positions}
        valid = None
        if self.text is not None and text is not None:
            tokens["text"], counted = self.text(text)
            valid = None if counted is None else {"text": counted}
        vectors: Tensor = self.queries(tokens, valid)
        return vectors
