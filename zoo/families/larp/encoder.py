"""LARP's encoder: queries that look at a whole clip, and belong to no place in it."""

from __future__ import annotations

from torch import Tensor, nn

from zoo.components.layers.patches import PatchEmbedding
from zoo.components.layers.start import start_linear_maps
from zoo.components.query import GroupTransformerConfig, QueryEncoder, QueryEncoderConfig, TokenGroup
from zoo.families.larp.config import LARPConfig
from zoo.families.larp.positions import PatchPositions

__all__ = ["LARPEncoder"]


class LARPEncoder(nn.Module):
    """Clips (B, 3, T, H, W) in 0…1 → vectors (B, n, D), one a query.

    Patches and queries are one sequence in which all see all, so that each vector may hold something of the whole clip,
    and their number does not follow from its size.

    Args:
        config: Sizes.
        output_size: D, what the quantizer takes.

    Attributes:
        embed: Patches → tokens.
        positions: What is added to these.
        queries: Tokens → vectors.
        norm: Of the vectors, over batch and tokens; the identity if there is none.
    """

    def __init__(self, config: LARPConfig, output_size: int) -> None:
        super().__init__()
        trunk = config.encoder
        self.embed = PatchEmbedding(config.patch, 3, trunk.width)
        self.positions = PatchPositions(config.grid, trunk.width, config.learns_patch_positions)
        groups = (
            TokenGroup("patches", has_type=config.has_patch_type),
            TokenGroup("queries", has_type=config.has_query_type),
        )
        self.queries = QueryEncoder(
            QueryEncoderConfig(
                GroupTransformerConfig(groups, trunk.block, trunk.depth),
                config.num_tokens,
                output_size,
                query_start=config.query_start,
                query_std=config.query_std,
                learns_queries=config.learns_queries,
                has_norm=False,
            )
        )
        self.norm: nn.Module = nn.Identity()
        if config.latent_norm == "batch":
            self.norm = nn.BatchNorm1d(output_size, affine=False)
        start_linear_maps(self)

    def forward(self, clips: Tensor) -> Tensor:
        """Encode; with fewer frames than a whole clip has there are fewer patches, and as many vectors."""
        patches = self.embed(clips)
        vectors: Tensor = self.queries({"patches": patches + self.positions(patches.shape[1])})
        normed: Tensor = self.norm(vectors.flatten(0, 1))
        return normed.view_as(vectors)
