"""TexTok's formulas (spec section 2, with the choices of 2.3) written down plainly, over our names of the weights."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


class Plain:
    """Whole batches at once: images and states of captions → what is quantized; codes and states → pixels.

    Args:
        config: Of the tokenizer: default options, text on both sides.
        tensors: Its state.
    """

    def __init__(self, config, tensors: Mapping[str, Tensor]) -> None:
        self.config, self.tensors = config, tensors

    def encode(self, images: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """Return (B, N, D) of images (B, 3, H, W) in 0…1 and states (B, L, text_dim), where mask (B, L) is true."""
        side, (rows, columns) = self.config.patch_size, self.config.grid
        x = (2 * images - 1).reshape(len(images), 3, rows, side, columns, side)
        x = x.permute(0, 2, 4, 3, 5, 1).reshape(len(images), rows * columns, -1)
        patches = self._linear("encoder.embed.linear", x) + self.tensors["encoder.positions"]
        queries = self.tensors["encoder.queries.queries"] + self.tensors["encoder.queries.positions"]
        text, mask = self._text("encoder", states, mask)
        x = torch.cat([patches, queries.expand(len(images), -1, -1), text], 1)
        x = self._transformer("encoder.queries", x, mask, self.config.encoder)
        start = patches.shape[1]
        return self._linear("encoder.queries.project", x[:, start : start + len(queries)])

    def decode(self, codes: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """Return pixels (B, 3, H, W), about 0…1, of codes (B, N, D) and states."""
        side, (rows, columns) = self.config.patch_size, self.config.grid
        queries = self.tensors["decoder.patches.queries"]
        latents = self._linear("decoder.patches.embed", codes) + self.tensors["decoder.patches.positions"]
        text, mask = self._text("decoder", states, mask)
        x = torch.cat([queries.expand(len(codes), -1, -1), latents, text], 1)
        x = self._transformer("decoder.patches", x, mask, self.config.decoder)
        x = self._linear("decoder.patches.project", x[:, : len(queries)])
        x = x.reshape(len(codes), rows, columns, side, side, 3).permute(0, 5, 1, 3, 2, 4)
        return (x.reshape(len(codes), 3, rows * side, columns * side) + 1) / 2

    def _text(self, where: str, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self._linear(f"{where}.text.project", states)
        has_none = ~mask.any(1)
        if bool(has_none.any()):
            tokens, mask = tokens.clone(), mask.clone()
            tokens[has_none, 0] = self.tensors[f"{where}.text.null"]
            mask[has_none, 0] = True
        return tokens, mask

    def _transformer(self, where: str, x: Tensor, mask: Tensor, sizes) -> Tensor:
        """Return all rows after the last norm; the last columns of x are text, of which only `mask` is seen."""
        seen = torch.cat([mask.new_ones(len(x), x.shape[1] - mask.shape[1]), mask], 1)[:, None, None]
        for number in range(sizes.depth):
            name = f"{where}.transformer.layers.{number}"
            y = self._norm(f"{name}.attention_norm", x)
            parts = [self._linear(f"{name}.attention.{part}", y) for part in "qkv"]
            q, k, v = (part.unflatten(2, (sizes.num_heads, -1)).transpose(1, 2) for part in parts)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)
            x = x + self._linear(f"{name}.attention.out", y)
            y = self._linear(f"{name}.mlp.up", self._norm(f"{name}.mlp_norm", x))
            x = x + self._linear(f"{name}.mlp.down", F.gelu(y))
        return self._norm(f"{where}.norm", x)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight = self.tensors[f"{name}.weight"]
        return F.layer_norm(x, weight.shape, weight, self.tensors[f"{name}.bias"], self.config.norm_eps)
