"""The speech recogniser behind the quantizer, which teaches the tokens what to keep. Only training has it.

The rest of Whisper's encoder at the token rate, and Whisper's text decoder: whatever the transcript needs has to pass
through the tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.checkpoint.whisper import Whisper
from zoo.components.layers.block import BlockConfig
from zoo.components.whisper.text_decoder import TextDecoder
from zoo.families.stabletoken.config import StableTokenConfig

__all__ = ["Recognizer"]


class Recognizer(nn.Module):
    """Codes of tokens (B, T, C) → states at the token rate (B, T, D) → logits of text tokens.

    Args:
        config: Of the tokenizer.
        whisper: The model that both halves are cut from, whose weights are copied.
        code_size: C, width of the quantizer's codes.

    Attributes:
        project: C → D; the identity where they are equal, since the quantizer then projects by itself.
        positions: What is added to the codes, (T, D). Starts at zero: Whisper's own table belongs before its first
            layer, and what is left of it behind the second is something else.
        layers: Encoder layers after the quantizer.
        norm: The encoder's last norm, which the text decoder expects (spec: `layernorm_after_quantize`).
        text: The text decoder.
    """

    def __init__(self, config: StableTokenConfig, whisper: Whisper, code_size: int) -> None:
        super().__init__()
        width = config.d_model
        self.project = nn.Identity() if code_size == width else nn.Linear(code_size, width)
        self.positions = nn.Parameter(torch.zeros(config.max_positions // config.pooling_kernel, width))
        block = BlockConfig(width, config.num_heads, config.ffn_size, key_bias=False)
        self.layers = nn.ModuleList(block.block() for _ in range(config.num_layers_after))
        self.norm = nn.LayerNorm(width)
        self.text = TextDecoder(whisper.config)
        whisper.fill_layers(self.layers, config.num_layers)
        whisper.fill_norm(self.norm)
        whisper.fill_text_decoder(self.text)

    def forward(self, codes: Tensor, mask: Tensor) -> Tensor:
        """Return the states (B, T, D) of codes (B, T, C), of which `mask` (B, T) says which are tokens."""
        x = self.project(codes) + self.positions[: codes.shape[1]]
        for layer in self.layers:
            x = layer(x, mask[:, None, None])
        states: Tensor = self.norm(x)
        return states
