"""LARP's decoder: a query for each patch of a clip, which the tokens fill in."""

from __future__ import annotations

from torch import Tensor, nn

from zoo.components.layers.patches import unpatchify
from zoo.components.layers.start import start_linear_maps
from zoo.components.query import GroupTransformerConfig, QueryDecoder, QueryDecoderConfig, TokenGroup
from zoo.families.larp.config import LARPConfig
from zoo.families.larp.positions import PatchPositions

__all__ = ["LARPDecoder"]

_NORM_EPS = 1e-6  # of the last norm alone


class LARPDecoder(nn.Module):
    """Codes (B, n, D) → clips (B, 3, T, H, W), about 0…1.

    Args:
        config: Sizes.
        code_size: D, width of the codes.

    Attributes:
        positions: The queries, one a patch, which are nothing but its position.
        patches: Codes and queries → patches. Its last map starts at zero, and with it the first clip.
    """

    def __init__(self, config: LARPConfig, code_size: int) -> None:
        super().__init__()
        self.config = config
        trunk = config.decoder
        times, rows, columns = config.patch
        self.positions = PatchPositions(config.grid, trunk.width, config.learns_patch_queries)
        groups = (
            TokenGroup("latents", has_type=config.has_latent_type),
            TokenGroup("queries", has_type=config.has_patch_query_type),
        )
        self.patches = QueryDecoder(
            QueryDecoderConfig(
                GroupTransformerConfig(groups, trunk.block, trunk.depth),
                code_size,
                3 * times * rows * columns,
                config.num_tokens,
                positions="learned" if config.learns_latent_positions else "sincos",
                max_period=config.latent_period,
                norm_eps=_NORM_EPS,
            )
        )
        start_linear_maps(self)
        nn.init.zeros_(self.patches.project.weight)

    def forward(self, codes: Tensor, num_frames: int | None = None) -> Tensor:
        """Decode.

        Args:
            codes: (B, n, D).
            num_frames: Frames of the clip, a multiple of those of a patch; those of a whole clip if None.
        """
        config = self.config
        times, rows, columns = config.grid
        if num_frames is not None:
            times = num_frames // config.temporal_patch_size
        made: Tensor = self.patches(codes, queries=self.positions(times * rows * columns))
        return unpatchify(made, config.patch, (times, rows, columns))
