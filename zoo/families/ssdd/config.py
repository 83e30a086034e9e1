"""Settings of SSDD; the defaults are those of the smallest released model, `ssdd.f8c4_S_256`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from zoo.components.autoencoder_kl import ConvConfig
from zoo.components.quantizers import GaussianConfig, QuantizerConfig
from zoo.config import check_fields
from zoo.errors import ConfigError, near_matches

__all__ = ["SIZES", "DecoderConfig", "SSDDConfig", "encoder_config"]

_MOST_CHANNELS = 8192


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of the decoder: a U-Net of convolutions around a transformer.

    Attributes:
        channels: From which, times `multipliers` and rounded up to a multiple of `norm_groups`, the width of each level
            follows.
        multipliers: One a level, from the full size down; sizes are halved between two levels. With the four published
            ones the transformer has a token for 8 × 8 pixels, whatever the latents' grid.
        num_layers: Blocks of the transformer.
        num_heads: Of its attention; None for one for each 64 channels, at least 4 and at most 16, as published.
        layers_per_block: Residual blocks of a level on the way down; on the way up there is one more.
        window: w; tokens w or more apart on either axis do not see each other. The paper's text is said to have 9,
            the authors' code has 8, 15 × 15 tokens.
        norm_groups: Groups of every norm.
        latent_mean: Subtracted from each channel of the latents that the decoder is given; none for nothing. For
            latents of other autoencoders, with which decoders do worse if they are not normalised alike.
        latent_std: What each is then divided by.

    Raises:
        ConfigError: A value is unusable.
    """

    channels: int = 48
    multipliers: tuple[int, ...] = (1, 2, 3, 3)
    num_layers: int = 8
    num_heads: int | None = None
    layers_per_block: int = 2
    window: int = 8
    norm_groups: int = 32
    latent_mean: tuple[float, ...] = ()
    latent_std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self, "ssdd decoder")
        most = {"channels": 4096, "num_layers": 256, "layers_per_block": 16, "window": 256, "norm_groups": 4096}
        for name, limit in most.items():
            if not 1 <= getattr(self, name) <= limit:
                raise ConfigError(f"ssdd decoder: {name} must be from 1 to {limit}, got {getattr(self, name)}.")
        if not 2 <= len(self.multipliers) <= 8 or min(self.multipliers) < 1:
            raise ConfigError(f"ssdd decoder: multipliers must be 2 to 8, each at least 1, got {self.multipliers}.")
        if max(self.widths) > _MOST_CHANNELS or self.widths[0] % 2:
            raise ConfigError(
                f"ssdd decoder: widths must be at most {_MOST_CHANNELS}, and the first even, for sines and cosines of "
                f"the time; channels, multipliers and norm_groups give {self.widths}."
            )
        if not 1 <= self.heads <= 256 or self.widths[-1] % self.heads:
            raise ConfigError(f"ssdd decoder: {self.heads} heads do not divide a width of {self.widths[-1]}.")
        if len(self.latent_mean) != len(self.latent_std) or any(not std > 0 for std in self.latent_std):
            raise ConfigError(
                "ssdd decoder: latent_mean and latent_std are of as many channels, the latter positive; got "
                f"{len(self.latent_mean)} and {list(self.latent_std)}."
            )

    @classmethod
    def of_size(cls, name: str) -> DecoderConfig:
        """Return the settings of a published size, a key of `SIZES`.

        Raises:
            ConfigError: There is none of that name.
        """
        if name not in SIZES:
            raise ConfigError(f"ssdd has no size {name!r}; {near_matches(name, SIZES)}")
        return SIZES[name]

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        groups = self.norm_groups
        return tuple(-(-self.channels * multiplier // groups) * groups for multiplier in self.multipliers)

    @property
    def heads(self) -> int:
        """Attention heads."""
        return self.num_heads or min(16, max(4, self.widths[-1] // 64))

    @property
    def downsampling(self) -> int:
        """Pixels of a side for each token of the transformer."""
        return 1 << (len(self.multipliers) - 1)

    @property
    def aligned_layer(self) -> int:
        """The block of the transformer, from 0, whose states training compares with a frozen network's."""
        return min(4, self.num_layers // 2)


SIZES: Mapping[str, DecoderConfig] = MappingProxyType(
    {
        "XS": DecoderConfig(32, (1, 2, 3, 3), 8),
        "S": DecoderConfig(48, (1, 2, 3, 3), 8),
        "B": DecoderConfig(64, (1, 2, 3, 3), 10),
        "M": DecoderConfig(96, (1, 2, 3, 3), 12),
        "L": DecoderConfig(96, (1, 2, 4, 4), 16),
        "XL": DecoderConfig(128, (1, 2, 4, 4), 16),
        "H": DecoderConfig(192, (1, 2, 4, 4), 16),
        "XH": DecoderConfig(256, (1, 2, 4, 4), 16),
        "G": DecoderConfig(384, (1, 2, 4, 4), 16),
    }
)
"""The published sizes of the decoder, 5 to 1,450 million parameters."""


def encoder_config(downsampling: int) -> ConvConfig:
    """Return the published encoder of so many pixels a side for each latent, a power of two from 4.

    Raises:
        ConfigError: It is none.
    """
    levels = downsampling.bit_length()
    if downsampling != 1 << (levels - 1) or not 3 <= levels <= 8:
        raise ConfigError(f"ssdd: an encoder divides a side by a power of two from 4 to 128, got {downsampling}.")
    return ConvConfig((128, 256, *[512] * (levels - 2)))


@dataclass(frozen=True)
class SSDDConfig:
    """An SSDD.

    Args:
        image_size: Height and width of pictures, multiples of `encoder.downsampling`; None takes any.
        encoder: Sizes of the convolutional encoder.
        latent_channels: Y, channels of a latent of the encoder.
        quantizer: What stands behind the encoder. With `gaussian`, as published, there are latents and no ids; any
            other makes a discrete tokenizer, and has a 1×1 convolution before and behind it where its widths are not Y.
        is_variational: Whether an encoder with another quantizer than `gaussian` gives log-variances, too, as one does
            that was trained with `gaussian` before and is kept. They are left out then.
        decoder: Sizes of the decoder.
        steps: Steps of the decoder's flow, if `decode` is not told otherwise: 8, or 1 of a distilled decoder.
        time_power: p; steps begin at the times (1 - i / N)^p.

    Raises:
        ConfigError: A value is unusable.
    """

    image_size: tuple[int, int] | None = None
    encoder: ConvConfig = ConvConfig()  # noqa: RUF009  (frozen)
    latent_channels: int = 4
    quantizer: QuantizerConfig = GaussianConfig(4)  # noqa: RUF009  (frozen)
    is_variational: bool = False
    decoder: DecoderConfig = DecoderConfig()
    steps: int = 8
    time_power: float = 2.0

    def __post_init__(self) -> None:
        check_fields(self, "ssdd")
        for name, most in {"latent_channels": 4096, "steps": 10_000}.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"ssdd: {name} must be from 1 to {most}, got {getattr(self, name)}.")
        factor = self.encoder.downsampling
        if factor < self.decoder.downsampling:
            raise ConfigError(
                f"ssdd: the encoder divides a side by {factor} and the decoder's transformer by "
                f"{self.decoder.downsampling}: latents can be no finer than its tokens. Give the encoder more stages, "
                "or the decoder fewer multipliers."
            )
        if self.image_size is not None and any(not factor <= side <= 8192 or side % factor for side in self.image_size):
            raise ConfigError(
                f"ssdd: image_size must be multiples of {factor}, pixels of a latent, up to 8192; got "
                f"{list(self.image_size)}."
            )
        if self.encoder.image_channels != 3:
            raise ConfigError(f"ssdd: pictures have 3 channels, got {self.encoder.image_channels}.")
        if isinstance(self.quantizer, GaussianConfig) and self.quantizer.dim != self.latent_channels:
            raise ConfigError(
                f"ssdd: a gaussian has the encoder's latents, of {self.latent_channels} channels, got "
                f"{self.quantizer.dim}."
            )
        if not 0.1 <= self.time_power <= 100:
            raise ConfigError(f"ssdd: time_power must be from 0.1 to 100, got {self.time_power}.")

    @property
    def encoder_outputs(self) -> int:
        """Channels that the encoder's last layer gives: means and log-variances, or latents alone."""
        has_variance = self.is_variational or isinstance(self.quantizer, GaussianConfig)
        return self.latent_channels * (2 if has_variance else 1)

    @property
    def grid(self) -> tuple[int, int] | None:
        """Latents along height and width, None where pictures have any size."""
        if self.image_size is None:
            return None
        height, width = self.image_size
        return height // self.encoder.downsampling, width // self.encoder.downsampling
