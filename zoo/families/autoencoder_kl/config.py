"""Settings of the convolutional autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.components.autoencoder_kl import ConvConfig
from zoo.components.quantizers import GaussianConfig, QuantizerConfig
from zoo.config import check_fields
from zoo.errors import ConfigError

__all__ = ["AutoencoderKLConfig"]


@dataclass(frozen=True)
class AutoencoderKLConfig:
    """An autoencoder of square pictures.

    Args:
        image_size: Pixels of a side; a multiple of `conv.downsampling`.
        conv: Sizes of both halves.
        quantizer: What stands between them. `gaussian` is the KL autoencoder of latent diffusion, which is continuous;
            with `vq` it is a VQGAN, and any other may be put there.

    Raises:
        ConfigError: A value is unusable.
    """

    image_size: int = 256
    conv: ConvConfig = ConvConfig()  # noqa: RUF009  (frozen)
    quantizer: QuantizerConfig = GaussianConfig(dim=16)  # noqa: RUF009  (frozen)

    def __post_init__(self) -> None:
        check_fields(self, "autoencoder_kl")
        factor = self.conv.downsampling
        if not factor <= self.image_size <= 8192 or self.image_size % factor:
            raise ConfigError(
                f"autoencoder_kl: image_size must be a multiple of {factor}, by which block_channels divide a side, up "
                f"to 8192; got {self.image_size}."
            )
        if self.conv.image_channels != 3:
            raise ConfigError(f"autoencoder_kl: pictures have 3 channels, got {self.conv.image_channels}.")

    @property
    def grid(self) -> tuple[int, int]:
        """Cells of the latents along height and width."""
        side = self.image_size // self.conv.downsampling
        return side, side
