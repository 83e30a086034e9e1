"""Settings of LARP; the defaults are those of the published model, `larp.L_long`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo.components.layers.block import BlockConfig
from zoo.components.quantizers import QuantizerConfig, StochasticVQConfig
from zoo.config import check_fields
from zoo.errors import ConfigError

__all__ = ["LARPConfig", "TrunkConfig"]

_MOST = 65_536
_MOST_ENTRIES = 2**28  # of a table of positions


@dataclass(frozen=True)
class TrunkConfig:
    """Sizes of a transformer.

    Args:
        depth: Layers.
        width: D.
        num_heads: Attention heads, a divisor of D.

    Raises:
        ConfigError: A value is unusable.
    """

    depth: int = 12
    width: int = 768
    num_heads: int = 12

    def __post_init__(self) -> None:
        check_fields(self, "larp trunk")
        if not 1 <= self.depth <= 1024:
            raise ConfigError(f"larp: depth must be from 1 to 1024, got {self.depth}.")
        if not 4 <= self.width <= _MOST or self.width % 4:
            raise ConfigError(
                f"larp: width must be a multiple of 4 up to {_MOST}, for the sines and cosines of two axes; got "
                f"{self.width}."
            )
        if self.num_heads < 1 or self.width % self.num_heads:
            raise ConfigError(f"larp: num_heads must divide the width, {self.width}, got {self.num_heads}.")

    @property
    def block(self) -> BlockConfig:
        """Settings of a layer: timm's, as it was when the published model was trained.

        Its norms add 1e-5 to a variance. timm has added 1e-6 since 1.0.16, which is enough to change pixels.
        """
        return BlockConfig(self.width, self.num_heads, 4 * self.width, norm_eps=1e-5, qkv_bias=False)


@dataclass(frozen=True)
class LARPConfig:
    """A LARP of clips of one size.

    Args:
        num_frames: T, frames of a whole clip, a multiple of `temporal_patch_size`.
        image_size: Pixels of a side, a multiple of `patch_size`.
        temporal_patch_size: Frames of a patch.
        patch_size: Pixels of a patch's side.
        num_tokens: n, queries of the encoder: tokens of a clip.
        encoder: Transformer of the encoder.
        decoder: Transformer of the decoder.
        quantizer: What stands between them.
        learns_patch_positions: Whether positions of the encoder's patches are learned, as the sum of a table an axis,
            instead of fixed.
        learns_queries: Whether the encoder's queries are learned instead of fixed sines and cosines.
        query_start: What learned queries are at first: drawn from a normal distribution, or those sines and cosines.
        query_std: Deviation of that distribution.
        learns_latent_positions: Whether positions of the tokens in the decoder are learned instead of fixed.
        latent_period: Of the fixed ones, as `max_period` of `sincos_1d`.
        learns_patch_queries: Whether the decoder's queries, one a patch, are learned, as the sum of a table an axis,
            instead of fixed.
        has_patch_type: Whether the encoder adds a learned vector to all patches.
        has_query_type: The same to all of its queries.
        has_latent_type: Whether the decoder adds a learned vector to all tokens.
        has_patch_query_type: The same to all of its queries.
        latent_norm: Whether each number of the vectors is brought to mean 0 and deviation 1 over batch and tokens, in
            use by averages over training, before it is quantized. As published it is not. Vectors of a fresh encoder
            are all alike, and a quantizer that sees directions alone gives them all one id; a short training does not
            get out of that by itself.

    Raises:
        ConfigError: A value is unusable.
    """

    num_frames: int = 16
    image_size: int = 128
    temporal_patch_size: int = 4
    patch_size: int = 8
    num_tokens: int = 1024
    encoder: TrunkConfig = TrunkConfig()
    decoder: TrunkConfig = TrunkConfig()
    quantizer: QuantizerConfig = StochasticVQConfig(8192, 16)  # noqa: RUF009  (frozen)
    learns_patch_positions: bool = False
    learns_queries: bool = True
    query_start: Literal["normal", "sincos"] = "normal"
    query_std: float = 0.02
    learns_latent_positions: bool = False
    latent_period: float = 10_000.0
    learns_patch_queries: bool = False
    has_patch_type: bool = False
    has_query_type: bool = False
    has_latent_type: bool = False
    has_patch_query_type: bool = True
    latent_norm: Literal["none", "batch"] = "none"

    def __post_init__(self) -> None:
        check_fields(self, "larp")
        limits = {"num_frames": 4096, "image_size": 8192, "temporal_patch_size": 256, "patch_size": 256}
        for name, most in {**limits, "num_tokens": _MOST}.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"larp: {name} must be from 1 to {most}, got {getattr(self, name)}.")
        for size, part in (("num_frames", "temporal_patch_size"), ("image_size", "patch_size")):
            if getattr(self, size) % getattr(self, part):
                raise ConfigError(
                    f"larp: {size} must be a multiple of {part}, got {getattr(self, size)} and {getattr(self, part)}."
                )
        times, rows, columns = self.grid
        if max(times * rows * columns, self.num_tokens) * max(self.encoder.width, self.decoder.width) > _MOST_ENTRIES:
            raise ConfigError(
                f"larp: tables of {times} × {rows} × {columns} patches, {self.num_tokens} tokens and a width of "
                f"{max(self.encoder.width, self.decoder.width)} are too large: choose larger patches."
            )
        if not 0 <= self.query_std <= 1e3:
            raise ConfigError(f"larp: query_std must be from 0 to 1000, got {self.query_std}.")
        if not 1 < self.latent_period <= 1e9:
            raise ConfigError(f"larp: latent_period must be above 1, up to 1e9, got {self.latent_period}.")

    @property
    def patch(self) -> tuple[int, int, int]:
        """Frames, rows and columns of a patch."""
        return self.temporal_patch_size, self.patch_size, self.patch_size

    @property
    def grid(self) -> tuple[int, int, int]:
        """Patches along time, height and width of a whole clip."""
        side = self.image_size // self.patch_size
        return self.num_frames // self.temporal_patch_size, side, side
