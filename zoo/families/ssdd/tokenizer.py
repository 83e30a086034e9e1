"""SSDD, pictures decoded by a flow in pixels that may be a single step (Vallaeys et al., arXiv 2510.04961).

The encoder is that of latent diffusion: a picture becomes a grid of latents, one for 8 × 8 pixels, say. The decoder is
a diffusion model in place of the usual convolutions and adversary: from noise as large as the picture, and conditioned
on the latents, it makes the picture in a few steps of a flow. Since what the latents leave open is drawn and not
averaged, pictures are sharp without an adversarial loss. A decoder that has learned this is then distilled: a copy
learns to make, of the same noise, in one step what it makes in several.

As published, latents are continuous. With a quantizer behind the encoder they are tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from einops import rearrange
from torch import Tensor

from zoo.components.quantizers import Gaussian, Quantizer, build
from zoo.errors import NotFittedError, TokenError
from zoo.families.ssdd.config import SSDDConfig
from zoo.families.ssdd.decoder import SSDDDecoder
from zoo.families.ssdd.encoder import SSDDEncoder
from zoo.families.ssdd.options import DecodeOptions
from zoo.modalities.image import ImageTokenizer
from zoo.spec import TokenSpec
from zoo.stored import NoDecoder
from zoo.tokens import Latents

__all__ = ["SSDDTokenizer"]


class SSDDTokenizer(ImageTokenizer):
    """Pictures (B, 3, H, W) in 0…1 → latents (B, h·w, Y) row by row, and ids (B, h·w) if the quantizer has a codebook.

    Attributes:
        encoder: Pictures in -1…1 → what the quantizer takes, on a grid (`SSDDEncoder`).
        quantizer: See `SSDDConfig.quantizer`.
        decoder: Codes on a grid and noise → pictures (`SSDDDecoder`), or `NoDecoder` with `decoder=False`.
    """

    family: ClassVar[str] = "ssdd"
    config_class: ClassVar[type] = SSDDConfig
    fast_modules: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    decode_options: ClassVar[type] = DecodeOptions
    decoder_file: ClassVar[bool] = True
    official: ClassVar[str] = "zoo.families.ssdd.official.folder"

    config: SSDDConfig
    encoder: SSDDEncoder
    quantizer: Quantizer
    decoder: SSDDDecoder | NoDecoder

    def __init__(self, config: SSDDConfig, *, decoder: bool = True) -> None:
        super().__init__(config, decoder=decoder)
        self.quantizer = build(config.quantizer)
        self.encoder = SSDDEncoder(config, self.quantizer)
        self.decoder = (
            SSDDDecoder(config.decoder, self.quantizer.dim, config.latent_channels) if decoder else NoDecoder()
        )
        self.grid = grid = config.grid
        self.spec = TokenSpec(
            modality="image",
            codebook_size=self.quantizer.codebook_size or None,
            num_codebooks=max(1, self.quantizer.num_codebooks),
            num_tokens=None if grid is None else grid[0] * grid[1],
            input_size=config.image_size,
            latent_dim=self.quantizer.dim if isinstance(self.quantizer, Gaussian) else self.quantizer.input_dim,
        )

    def require_ready(self) -> None:
        """Raise `NotFittedError` if there is no encoder, as in the authors' files of a decoder alone."""
        if not isinstance(self.encoder, SSDDEncoder):
            raise NotFittedError(f"{self.name} is a decoder alone, without an encoder, and can only decode latents.")

    def grid_of(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Return rows and columns of the latents of a picture of that height and width."""
        return tuple(side // self.config.encoder.downsampling for side in size)

    def moments(self, pixels: Tensor) -> Tensor:
        """Return what the quantizer takes of pixels (B, 3, H, W) in 0…1, (B, h·w, input_dim)."""
        rows: Tensor = rearrange(self.encoder(2 * pixels - 1), "b c h w -> b (h w) c")
        return rows

    def vectors(self, pixels: Tensor) -> Tensor:
        """Return the latents of pixels (B, 3, H, W) in 0…1, (B, h·w, D); of a Gaussian the mean."""
        moments = self.moments(pixels)
        return moments[..., : self.quantizer.dim] if isinstance(self.quantizer, Gaussian) else moments

    def decode(
        self,
        tokens: Any,
        lengths: Any = None,
        *,
        steps: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        noise: Tensor | None = None,
        seed: int = 0,
        clamp: bool = True,
    ) -> Tensor:
        """Turn tokens into pictures.

        Args:
            tokens: What `encode` returned, or ids (B, T) with `lengths`, which need a config with an `image_size`.
            lengths: (B,) valid ids of each picture: all.
            steps: Euler steps from noise to a picture; those of the config if None. 1 is for distilled decoders.
            generator: Source of the noise, drawn picture by picture, or one a picture.
            noise: The noise itself, (B, 3, H, W), standard normal.
            seed: Where neither is given, every picture's noise is drawn from a generator of its own that starts here,
                so that a picture depends on its tokens alone.
            clamp: Bring what the decoder overshoots back to 0…1.

        Returns:
            Float pixels (B, 3, H, W).

        Raises:
            TokenError: Ids out of range, of another number, or another model's; or it was loaded without its decoder.
            InputError: The noise is of another shape, or generators are of another number.
            ConfigError: There are no such steps.
        """
        tokens = self.as_tokens(tokens, lengths)
        self.require_decoder("decode")
        count = tokens.ids.shape[1]
        if set(tokens.lengths.tolist()) - {count} or not count:
            raise TokenError(
                f"{self.name} decodes whole pictures, here of {count} tokens, got lengths {tokens.lengths.tolist()}."
            )
        grid = self._grid(count, tokens.grid)
        with self.computing():
            codes = rearrange(self.quantizer.codes(tokens.ids), "b (h w) c -> b c h w", h=grid[0])
            return self._decoded(codes, steps, generator, noise, seed, clamp)

    def decode_latents(
        self,
        latents: Latents | Tensor,
        *,
        steps: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        noise: Tensor | None = None,
        seed: int = 0,
        clamp: bool = True,
    ) -> Tensor:
        """Turn latents into pictures; where there is a codebook, they are quantized first.

        Args:
            latents: What `encode_latents` returned; their maps (B, D, h, w); or their values (B, T, D), which need a
                config with an `image_size`.
            steps: As of `decode`.
            generator: As of `decode`.
            noise: As of `decode`.
            seed: As of `decode`.
            clamp: As of `decode`.

        Raises:
            TokenError: They are of another shape, or another model's; or it was loaded without its decoder.
            InputError: As of `decode`.
            ConfigError: As of `decode`.
        """
        self.require_decoder("decode")
        values, width = self.latent_values(latents), cast(int, self.spec.latent_dim)
        grid = latents.grid if isinstance(latents, Latents) else None
        if values.ndim == 4 and grid is None:
            grid, values = tuple(values.shape[2:]), values.flatten(2).transpose(1, 2)
        if values.ndim != 3 or values.shape[2] != width or 0 in values.shape or not values.is_floating_point():
            raise TokenError(
                f"latents of {self.name} are (B, T, {width}), or maps (B, {width}, h, w), floating and not empty, got "
                f"{values.dtype} of {tuple(self.latent_values(latents).shape)}."
            )
        grid = self._grid(values.shape[1], grid)
        with self.computing():
            values = values.to(self.device, torch.float32)
            codes = values if isinstance(self.quantizer, Gaussian) else self.quantizer(values).codes
            return self._decoded(
                rearrange(codes, "b (h w) c -> b c h w", h=grid[0]), steps, generator, noise, seed, clamp
            )

    def _grid(self, count: int, grid: tuple[int, ...] | None) -> tuple[int, ...]:
        """Return rows and columns of so many positions."""
        if self.grid is not None and grid is None:
            grid = self.grid
        if grid is None:
            raise TokenError(
                f"{self.name} takes pictures of any size, so {count} positions may be any grid: pass what encode or "
                "encode_latents returned, or maps (B, D, h, w) of latents."
            )
        if len(grid) != 2 or grid[0] * grid[1] != count or self.grid not in (None, grid):
            wanted = "rows × columns" if self.grid is None else " × ".join(map(str, self.grid))
            raise TokenError(
                f"{self.name} decodes a grid of {wanted}, got {count} positions as {' × '.join(map(str, grid))}."
            )
        return grid

    def _decoded(
        self,
        codes: Tensor,
        steps: int | None,
        generator: torch.Generator | Sequence[torch.Generator] | None,
        noise: Tensor | None,
        seed: int,
        clamp: bool,
    ) -> Tensor:
        """Return the pictures (B, 3, H, W) of codes (B, D, h, w)."""
        decoder, config = cast(SSDDDecoder, self.decoder), self.config
        height, width = (side * config.encoder.downsampling for side in codes.shape[2:])
        steps = config.steps if steps is None else steps
        latents = decoder.latents(codes)
        made = decoder.pictures(latents, (height, width), steps, config.time_power, generator, noise, seed)
        return made.clamp(0, 1) if clamp else made
