"""The convolutional autoencoder of latent diffusion (Rombach et al., arXiv 2112.10752) as a tokenizer.

An encoder brings a picture to a grid of vectors, one for 8 × 8 pixels as published, and a decoder back. Between them
stands a quantizer. As published for latent diffusion that is a Gaussian, whose mean is the latent: then there are no
ids, and the grid is what a diffusion model works on, and what FlexTok tokenizes. With a codebook there, it is the VQGAN
(arXiv 2012.09841) that newer tokenizers are compared with.
"""

from __future__ import annotations

from typing import ClassVar

from einops import rearrange
from torch import Tensor

from zoo.components.autoencoder_kl import ConvDecoder, ConvEncoder
from zoo.components.quantizers import Gaussian, Quantizer, build
from zoo.families.autoencoder_kl.config import AutoencoderKLConfig
from zoo.modalities.image import ImageTokenizer
from zoo.spec import TokenSpec
from zoo.stored import NoDecoder

__all__ = ["AutoencoderKLTokenizer"]


class AutoencoderKLTokenizer(ImageTokenizer):
    """Pictures (B, 3, H, W) in 0…1 → latents (B, h·w, D) row by row, and ids (B, h·w) if the quantizer has a codebook.

    Attributes:
        encoder: Pictures in -1…1 → what the quantizer takes, on a grid.
        quantizer: See `AutoencoderKLConfig.quantizer`.
        decoder: Codes on a grid → pictures.
    """

    family: ClassVar[str] = "autoencoder_kl"
    config_class: ClassVar[type] = AutoencoderKLConfig
    fast_modules: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    decoder_file: ClassVar[bool] = True
    official: ClassVar[str] = "zoo.families.autoencoder_kl.official"

    config: AutoencoderKLConfig
    encoder: ConvEncoder
    quantizer: Quantizer
    decoder: ConvDecoder | NoDecoder

    def __init__(self, config: AutoencoderKLConfig, *, decoder: bool = True) -> None:
        super().__init__(config, decoder=decoder)
        self.quantizer = build(config.quantizer)
        self.encoder = ConvEncoder(config.conv, self.quantizer.input_dim)
        self.decoder = ConvDecoder(config.conv, self.quantizer.dim) if decoder else NoDecoder()
        self.grid = config.grid
        self.spec = TokenSpec(
            modality="image",
            codebook_size=self.quantizer.codebook_size or None,
            num_codebooks=max(1, self.quantizer.num_codebooks),
            num_tokens=config.grid[0] * config.grid[1],
            input_size=(config.image_size, config.image_size),
            latent_dim=self.quantizer.dim if isinstance(self.quantizer, Gaussian) else self.quantizer.input_dim,
        )

    def moments(self, pixels: Tensor) -> Tensor:
        """Return what the quantizer takes of pixels (B, 3, H, W) in 0…1, (B, h·w, input_dim)."""
        rows: Tensor = rearrange(self.encoder(2 * pixels - 1), "b c h w -> b (h w) c")
        return rows

    def vectors(self, pixels: Tensor) -> Tensor:
        """Return the latents of pixels (B, 3, H, W) in 0…1, (B, h·w, D); of a Gaussian the mean."""
        moments = self.moments(pixels)
        return moments[..., : self.quantizer.dim] if isinstance(self.quantizer, Gaussian) else moments

    def pixels(self, vectors: Tensor) -> Tensor:
        """Return the pixels (B, 3, H, W) of codes (B, h·w, D), perhaps somewhat outside of 0…1."""
        height, width = self.config.grid
        made: Tensor = self.decoder(rearrange(vectors, "b (h w) c -> b c h w", h=height, w=width))
        return (made + 1) / 2
