"""Settings of FlexTok; the defaults are those of the smallest published model, `flextok.d12_d12_in1k`."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.components.autoencoder_kl import ConvConfig
from zoo.components.layers.block import BlockConfig
from zoo.components.quantizers import FSQConfig, QuantizerConfig
from zoo.config import check_fields
from zoo.errors import ConfigError
from zoo.families.flextok.nested_dropout import NestedDropout, trained_lengths

__all__ = ["FlexTokConfig", "TrunkConfig"]

_MOST = 65_536

# In the order of the rows of each linear map, which is not DiT's.
_MODULATED = ("gate_attention", "gate_mlp", "shift_attention", "scale_attention", "shift_mlp", "scale_mlp")


@dataclass(frozen=True)
class TrunkConfig:
    """Sizes of a transformer.

    Args:
        depth: Layers.
        width: D; 64 · depth as published.
        head_dim: Width of an attention head, a divisor of D.
        mlp_ratio: The gated MLP is two thirds of this times D wide, rounded down.

    Raises:
        ConfigError: A value is unusable.
    """

    depth: int = 12
    width: int = 768
    head_dim: int = 64
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        check_fields(self, "flextok trunk")
        if not 1 <= self.depth <= 1024:
            raise ConfigError(f"flextok: depth must be from 1 to 1024, got {self.depth}.")
        if not 4 <= self.width <= _MOST or self.width % 4:
            raise ConfigError(
                f"flextok: width must be a multiple of 4 up to {_MOST}, for the sines and cosines of two axes; got "
                f"{self.width}."
            )
        if self.head_dim < 1 or self.width % self.head_dim:
            raise ConfigError(f"flextok: head_dim must divide the width, {self.width}, got {self.head_dim}.")
        if not 0 < self.mlp_ratio <= 64 or self.mlp_size < 1:
            raise ConfigError(f"flextok: mlp_ratio must be positive, up to 64, got {self.mlp_ratio}.")

    @property
    def mlp_size(self) -> int:
        """Width inside the gated MLP."""
        return int(2 * int(self.mlp_ratio * self.width) / 3)

    def block(self, condition_size: int | None = None) -> BlockConfig:
        """Return the settings of a layer, modulated by a condition of some width if that is not None."""
        return BlockConfig(
            width=self.width,
            num_heads=self.width // self.head_dim,
            mlp_size=self.mlp_size,
            norm_affine=False,
            activation="silu",
            is_gated=True,
            qkv_bias=False,
            out_bias=False,
            mlp_bias=False,
            qk_norm="layer",
            attention_scale=8 / self.head_dim,  # 1/√64 at the published 64, and no square root elsewhere
            condition_size=condition_size,
            modulated=_MODULATED,
        )


@dataclass(frozen=True)
class FlexTokConfig:
    """A FlexTok of square images.

    Args:
        image_size: Pixels of a side, a multiple of `autoencoder.downsampling` · `patch_size`.
        autoencoder: Sizes of the convolutional autoencoder, in whose latents the flow works.
        latent_channels: Channels of these latents.
        scaling_factor: What latents are multiplied by, about one over their standard deviation.
        patch_size: Sides of the patches of latents.
        num_tokens: N, registers of the encoder: tokens of a whole image.
        encoder: Transformer of the encoder.
        decoder: Transformer of the decoder.
        quantizer: What stands between them.
        nested_dropout: Which prefixes training keeps, and so which lengths can be decoded well.
        max_timestep: Times are divided by 1/1000 of it before they are embedded.
        steps: Steps of the flow, if `decode` is not told otherwise.
        guidance: Its guidance scale, if not told otherwise; 1 is none.
        adaptive_guidance: Whether guidance is adaptive and projected, if not told otherwise.

    Raises:
        ConfigError: A value is unusable.
    """

    image_size: int = 256
    autoencoder: ConvConfig = ConvConfig()  # noqa: RUF009  (frozen)
    latent_channels: int = 16
    scaling_factor: float = 1.0
    patch_size: int = 2
    num_tokens: int = 256
    encoder: TrunkConfig = TrunkConfig()
    decoder: TrunkConfig = TrunkConfig()
    quantizer: QuantizerConfig = FSQConfig((8, 8, 8, 5, 5, 5))  # noqa: RUF009  (frozen)
    nested_dropout: NestedDropout = "pow2"
    max_timestep: float = 1000.0
    steps: int = 25
    guidance: float = 7.5
    adaptive_guidance: bool = True

    def __post_init__(self) -> None:
        check_fields(self, "flextok")
        for name, most in {"latent_channels": 4096, "patch_size": 256, "num_tokens": _MOST, "steps": 10_000}.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"flextok: {name} must be from 1 to {most}, got {getattr(self, name)}.")
        cell = self.autoencoder.downsampling * self.patch_size
        if not cell <= self.image_size <= 8192 or self.image_size % cell:
            raise ConfigError(
                f"flextok: image_size must be a multiple of {cell}, pixels of a patch of latents, up to 8192; got "
                f"{self.image_size}."
            )
        if self.autoencoder.image_channels != 3:
            raise ConfigError(f"flextok: images have 3 channels, got {self.autoencoder.image_channels}.")
        for name in ("scaling_factor", "max_timestep"):
            if not 1e-6 <= getattr(self, name) <= 1e6:
                raise ConfigError(f"flextok: {name} must be from 1e-6 to 1e6, got {getattr(self, name)}.")
        if not 0 <= self.guidance <= 1000:
            raise ConfigError(f"flextok: guidance must be from 0 to 1000, got {self.guidance}.")

    @property
    def latent_size(self) -> int:
        """Cells of the latents along a side."""
        return self.image_size // self.autoencoder.downsampling

    @property
    def grid(self) -> tuple[int, int]:
        """Patches of latents along height and width."""
        side = self.latent_size // self.patch_size
        return side, side

    @property
    def trained_lengths(self) -> tuple[int, ...]:
        """Numbers of tokens that training keeps, ascending."""
        return trained_lengths(self.nested_dropout, self.num_tokens)
