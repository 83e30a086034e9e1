"""Settings of SSDD's decoder for another tokenizer."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.components.layers.block import BlockConfig
from zoo.config import check_fields
from zoo.errors import ConfigError
from zoo.families.ssdd.config import DecoderConfig

__all__ = ["LayoutConfig", "SSDDDecoderConfig", "SourceConfig"]


@dataclass(frozen=True)
class SourceConfig:
    """The tokenizer whose tokens or latents are decoded.

    Attributes:
        family: Its family.
        config: Values of the family's config.
        name: Of the model, whose own tokens are decoded as well; "" if it has none.

    Raises:
        ConfigError: It is itself one of these.
    """

    family: str
    config: dict  # of plain values, which the family checks
    name: str = ""

    def __post_init__(self) -> None:
        check_fields(self, "ssdd_decoder source")
        if self.family == "ssdd_decoder":
            raise ConfigError("ssdd_decoder: the source is one already; name the tokenizer whose tokens it decodes.")


@dataclass(frozen=True)
class LayoutConfig:
    """A transformer that lays a list of tokens out on a grid: queries for the grid's cells, and the list, together.

    Attributes:
        depth: Layers.
        width: D.
        num_heads: Attention heads, a divisor of D.

    Raises:
        ConfigError: A value is unusable.
    """

    depth: int = 4
    width: int = 256
    num_heads: int = 4

    def __post_init__(self) -> None:
        check_fields(self, "ssdd_decoder layout")
        for name, most in {"depth": 256, "width": 8192, "num_heads": 256}.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"ssdd_decoder layout: {name} must be from 1 to {most}, got {getattr(self, name)}.")
        if self.width % self.num_heads:
            raise ConfigError(f"ssdd_decoder layout: {self.num_heads} heads do not divide a width of {self.width}.")

    @property
    def block(self) -> BlockConfig:
        """Settings of a layer."""
        return BlockConfig(self.width, self.num_heads, 4 * self.width)


@dataclass(frozen=True)
class SSDDDecoderConfig:
    """A tokenizer of pictures whose decoder is SSDD's.

    Args:
        source: Whose encoder and quantizer it has.
        image_size: Height and width of pictures, those of the source.
        grid: Rows and columns of the latents that pictures are decoded from, each for as many pixels as the other.
        latent_channels: Of these latents.
        layout: What makes these latents of a list of tokens; None where the source's lie on the grid already.
        decoder: Sizes of the decoder; mean and deviation in it are of the source's code vectors.
        steps: Steps of the flow, if `decode` is not told otherwise.
        time_power: p; steps begin at the times (1 - i / N)^p.

    Raises:
        ConfigError: A value is unusable.
    """

    source: SourceConfig
    image_size: tuple[int, int]
    grid: tuple[int, int]
    latent_channels: int = 8
    layout: LayoutConfig | None = None
    decoder: DecoderConfig = DecoderConfig()  # noqa: RUF009  (frozen)
    steps: int = 8
    time_power: float = 2.0

    def __post_init__(self) -> None:
        check_fields(self, "ssdd_decoder")
        for name, most in {"latent_channels": 4096, "steps": 10_000}.items():
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"ssdd_decoder: {name} must be from 1 to {most}, got {getattr(self, name)}.")
        if not all(1 <= side <= 8192 for side in (*self.image_size, *self.grid)):
            raise ConfigError("ssdd_decoder: image_size and grid must be from 1 to 8192.")
        factors = {side / cells if cells else 0 for side, cells in zip(self.image_size, self.grid, strict=True)}
        factor = factors.pop()
        if factors or factor % self.decoder.downsampling:
            raise ConfigError(
                f"ssdd_decoder: a cell of the grid must be of so many pixels a side that "
                f"{self.decoder.downsampling}, those of a token of the decoder, divide them, got a grid of "
                f"{self.grid[0]} × {self.grid[1]} for {self.image_size[0]} × {self.image_size[1]} pixels."
            )
        if not 0.1 <= self.time_power <= 100:
            raise ConfigError(f"ssdd_decoder: time_power must be from 0.1 to 100, got {self.time_power}.")
