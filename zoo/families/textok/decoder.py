"""TexTok's decoder: a query for each patch of an image, which the tokens and the caption fill in."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.components.layers.patches import unpatchify
from zoo.components.layers.start import start_linear_maps
from zoo.components.query import GroupTransformerConfig, QueryDecoder, QueryDecoderConfig, TokenGroup
from zoo.components.text import TextStates
from zoo.families.textok.config import TexTokConfig
from zoo.families.textok.encoder import LINEAR_STD
from zoo.families.textok.text import TextTokens

__all__ = ["TexTokDecoder"]


class TexTokDecoder(nn.Module):
    """Codes (B, N, D), and states of captions → pixels (B, 3, H, W), about -1…1.

    Args:
        config: Sizes.
        code_size: D, width of the codes.

    Attributes:
        text: States of captions → tokens, apart from the encoder's; None if the decoder sees no text.
        patches: Codes and text → patches.
    """

    def __init__(self, config: TexTokConfig, code_size: int) -> None:
        super().__init__()
        self.config = config
        trunk = config.decoder
        rows, columns = config.grid
        self.text = TextTokens(config, trunk.width) if config.sees_text("decoder") else None
        names = ("queries", "latents") if self.text is None else ("queries", "latents", "text")
        groups = tuple(TokenGroup(name, has_type=config.has_types) for name in names)
        self.patches = QueryDecoder(
            QueryDecoderConfig(
                GroupTransformerConfig(groups, trunk.block(config.norm_eps, config.dropout), trunk.depth),
                code_size,
                3 * config.patch_size**2,
                config.num_tokens,
                num_queries=rows * columns,
                has_query_positions=config.positions == "all",
                positions=None if config.positions == "none" else "learned",
            )
        )
        start_linear_maps(self, LINEAR_STD)
        if config.token_std != LINEAR_STD and self.patches.queries is not None:
            nn.init.normal_(self.patches.queries, std=config.token_std)

    def forward(self, codes: Tensor, text: TextStates | None = None) -> Tensor:
        """Decode; `text` is needed if the decoder sees some."""
        tokens, valid = None, None
        if self.text is not None and text is not None:
            words, counted = self.text(text)
            tokens, valid = {"text": words}, None if counted is None else {"text": counted}
        made: Tensor = self.patches(codes, tokens, valid=valid)
        size = self.config.patch_size
        pixels = unpatchify(made, (size, size), self.config.grid)
        if self.config.output == "linear":
            return pixels
        return torch.tanh(pixels) if self.config.output == "tanh" else pixels.clamp(-1, 1)
