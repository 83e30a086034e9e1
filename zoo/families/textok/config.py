"""Settings of TexTok; the defaults are those of the published 256-pixel model of 128 tokens.

No weights were released. What the paper leaves open is a field here, with what seems likeliest as its default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo.components.layers.block import BlockConfig
from zoo.components.quantizers import IdentityConfig, QuantizerConfig
from zoo.components.text import T5Config, TextEncoderConfig
from zoo.config import check_fields
from zoo.errors import ConfigError

__all__ = ["PRESETS", "TexTokConfig", "TextSide", "TrunkConfig"]

TextSide = Literal["both", "encoder", "decoder", "none"]
"""Which networks see the caption."""

_MOST = 65_536
_MOST_ENTRIES = 2**28  # of a table of positions


@dataclass(frozen=True)
class TrunkConfig:
    """Sizes of a transformer; ViT-Base as published.

    Args:
        depth: Layers.
        width: D.
        num_heads: Attention heads, a divisor of D.
        mlp_ratio: The MLP is this times D wide, rounded down.

    Raises:
        ConfigError: A value is unusable.
    """

    depth: int = 12
    width: int = 768
    num_heads: int = 12
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        check_fields(self, "textok trunk")
        if not 1 <= self.depth <= 1024 or not 1 <= self.width <= _MOST:
            raise ConfigError(
                f"textok: depth must be from 1 to 1024 and width from 1 to {_MOST}, got {self.depth} and {self.width}."
            )
        if self.num_heads < 1 or self.width % self.num_heads:
            raise ConfigError(f"textok: num_heads must divide the width, {self.width}, got {self.num_heads}.")
        if not 0 < self.mlp_ratio <= 64 or int(self.mlp_ratio * self.width) < 1:
            raise ConfigError(f"textok: mlp_ratio must be positive, up to 64, got {self.mlp_ratio}.")

    def block(self, norm_eps: float, dropout: float) -> BlockConfig:
        """Return the settings of a layer."""
        size = int(self.mlp_ratio * self.width)
        return BlockConfig(self.width, self.num_heads, size, norm_eps=norm_eps, dropout=dropout)


@dataclass(frozen=True)
class TexTokConfig:
    """A TexTok of square images.

    Args:
        image_size: Pixels of a side, a multiple of `patch_size`.
        patch_size: Pixels of a patch's side: as published 8 at 256 pixels and 16 at 512.
        num_tokens: N, queries of the encoder: tokens of an image; 32, 64, 128 or 256 as published.
        encoder: Transformer of the encoder.
        decoder: Transformer of the decoder.
        quantizer: What stands between them: as published `none`, latents as they are; `gaussian`, latents of a
            variational autoencoder, as later papers call it; or a codebook, such as `fsq`, which is not published.
        text: What reads captions.
        text_len: The most tokens a caption may have.
        text_in: Which networks see the caption. With `none` there is nothing of text in the model, which is the
            paper's baseline.
        null_rate: Share of the items that training shows without their caption. If it is not 0, a token that says so is
            learned, and the model can be used without captions; as published it is 0.
        mask_padding: Whether the padding behind a short caption is hidden. If not, it is attended to as zeros.
        text_norm: Whether a caption's states are normalised before they are mapped to tokens.
        positions: What has a learned table of positions: "tables", the encoder's patches and latents and the decoder's
            latents; "all", the decoder's patches and the captions' tokens too; "none", nothing.
        has_types: Whether all tokens of a group (patches, latents, text) have a learned vector added.
        token_std: Deviation of what learned tokens start from.
        norm_eps: What norms add to a variance.
        dropout: Probability, in training, that an attention weight or a value of a branch is dropped.
        output: What the decoder's last values go through, to be pixels in -1…1.

    Raises:
        ConfigError: A value is unusable.
    """

    image_size: int = 256
    patch_size: int = 8
    num_tokens: int = 128
    encoder: TrunkConfig = TrunkConfig()
    decoder: TrunkConfig = TrunkConfig()
    quantizer: QuantizerConfig = IdentityConfig(8)  # noqa: RUF009  (frozen)
    text: TextEncoderConfig = T5Config()  # noqa: RUF009  (frozen)
    text_len: int = 128
    text_in: TextSide = "both"
    null_rate: float = 0.0
    mask_padding: bool = True
    text_norm: bool = False
    positions: Literal["tables", "all", "none"] = "tables"
    has_types: bool = False
    token_std: float = 0.02
    norm_eps: float = 1e-6
    dropout: float = 0.0
    output: Literal["linear", "tanh", "clamp"] = "linear"

    def __post_init__(self) -> None:
        check_fields(self, "textok")
        for name, most in {"image_size": 8192, "patch_size": 256, "num_tokens": _MOST, "text_len": 4096}.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"textok: {name} must be from 1 to {most}, got {getattr(self, name)}.")
        if self.image_size % self.patch_size:
            raise ConfigError(
                f"textok: image_size must be a multiple of patch_size, got {self.image_size} and {self.patch_size}."
            )
        width, rows = max(self.encoder.width, self.decoder.width), self.grid[0] * self.grid[1]
        if max(rows, self.num_tokens, self.text_len) * width > _MOST_ENTRIES:
            raise ConfigError(
                f"textok: tables of {rows} patches, {self.num_tokens} tokens and a width of {width} are too large: "
                "choose larger patches."
            )
        if not 0 <= self.null_rate < 1 or not 0 <= self.dropout < 1:
            raise ConfigError(
                "textok: null_rate and dropout must be at least 0 and below 1, got "
                f"{self.null_rate} and {self.dropout}."
            )
        if not 0 <= self.token_std <= 1e3 or not 0 < self.norm_eps <= 1:
            raise ConfigError(
                "textok: token_std must be from 0 to 1000, and norm_eps positive and at most 1, got "
                f"{self.token_std} and {self.norm_eps}."
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along height and width."""
        side = self.image_size // self.patch_size
        return side, side

    @property
    def text_dim(self) -> int:
        """Width of the states of captions."""
        return self.text.dim

    def sees_text(self, side: Literal["encoder", "decoder"]) -> bool:
        """Whether a network sees the caption."""
        return self.text_in in ("both", side)


_XXL = T5Config("google/t5-v1_1-xxl", 4096)

PRESETS: dict[str, TexTokConfig] = {f"256-{count}": TexTokConfig(num_tokens=count) for count in (32, 64, 128, 256)} | {
    f"512-{count}": TexTokConfig(512, 16, count, text=_XXL) for count in (32, 64, 128, 256)
}
"""The published models by pixels of a side and tokens."""
