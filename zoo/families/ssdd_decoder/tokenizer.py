"""Another tokenizer's tokens, or latents, decoded by SSDD.

Encoder and quantizer are the other's, unchanged, so that its ids are what they were; its decoder is left out, and
SSDD's is in its place. What that is conditioned on, latents on a grid, are the code vectors of tokens that lie on a
grid, or, of tokens that are a list, such as FlexTok's, what a small transformer makes of the list: one query for each
cell of the grid reads it. Code vectors are normalised by channel, since each tokenizer has its own scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from zoo import registry
from zoo.components.layers.start import start_linear_maps
from zoo.components.quantizers import Gaussian, Quantizer
from zoo.components.query import GroupTransformerConfig, QueryDecoder, QueryDecoderConfig, TokenGroup
from zoo.errors import ConfigError, TokenError
from zoo.families.ssdd.decoder import SSDDDecoder
from zoo.families.ssdd.options import DecodeOptions
from zoo.families.ssdd_decoder.config import LayoutConfig, SSDDDecoderConfig
from zoo.modalities.image import ImageTokenizer
from zoo.stored import NoDecoder
from zoo.tokens import Latents, Tokens

__all__ = ["Layout", "SSDDDecoderTokenizer"]


class SSDDDecoderTokenizer(ImageTokenizer):
    """Pictures (B, 3, H, W) in 0…1 → ids, or latents, of the source → pictures.

    Attributes:
        encoder: The source, without its decoder.
        decoder: Code vectors and noise → pictures (`SSDDDecoder`), or `NoDecoder` with `decoder=False`.
    """

    family: ClassVar[str] = "ssdd_decoder"
    config_class: ClassVar[type] = SSDDDecoderConfig
    fast_modules: ClassVar[tuple[str, ...]] = ("decoder",)  # ids are exact, whatever the mode
    decode_options: ClassVar[type] = DecodeOptions
    decoder_file: ClassVar[bool] = True

    config: SSDDDecoderConfig
    encoder: ImageTokenizer
    decoder: SSDDDecoder | NoDecoder

    def __init__(self, config: SSDDDecoderConfig, *, decoder: bool = True) -> None:
        super().__init__(config, decoder=decoder)
        self.encoder = source = _source(config)
        if decoder:
            width, layout = source.quantizer.dim, None
            if config.layout is not None:
                layout = Layout(config.layout, width, config.latent_channels, source.num_tokens(1), config.grid)
            self.decoder = SSDDDecoder(config.decoder, width, config.latent_channels, layout)
        else:
            self.decoder = NoDecoder()
        self.grid = source.grid
        self.spec = source.spec

    @property
    def quantizer(self) -> Quantizer:  # type: ignore[override]
        """The source's."""
        return self.encoder.quantizer

    def encode(self, x: Any, lengths: Any = None, *, on_white: bool = False) -> Tokens:
        """Turn pictures into the source's tokens; arguments and errors are its."""
        return replace(self.encoder.encode(x, lengths, on_white=on_white), model=self.name)

    def encode_latents(self, x: Any, lengths: Any = None, *, on_white: bool = False) -> Latents:
        """Turn pictures into the source's latents; arguments and errors are its."""
        return replace(self.encoder.encode_latents(x, lengths, on_white=on_white), model=self.name)

    def as_tokens(self, tokens: Any, lengths: Any = None) -> Tokens:
        """As of the base; the source's own tokens are these, too."""
        if isinstance(tokens, Tokens) and tokens.model and tokens.model == self.config.source.name:
            tokens = replace(tokens, model=self.name)
        return super().as_tokens(tokens, lengths)

    def latent_values(self, latents: Latents | Tensor) -> Tensor:
        """As of the base; the source's own latents are these, too."""
        if isinstance(latents, Latents) and latents.model and latents.model == self.config.source.name:
            latents = replace(latents, model=self.name)
        return super().latent_values(latents)

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
            tokens: What `encode` returned, here or of the source, or ids (B, T) with `lengths`. Of an ordered tokenizer
                a prefix will do.
            lengths: (B,) valid ids of each picture.
            steps: As of `SSDDTokenizer.decode`.
            generator: As of `SSDDTokenizer.decode`.
            noise: As of `SSDDTokenizer.decode`.
            seed: As of `SSDDTokenizer.decode`.
            clamp: As of `SSDDTokenizer.decode`.

        Raises:
            TokenError: Ids out of range, too few or too many, or another model's; or it was loaded without its decoder.
            InputError: As of `SSDDTokenizer.decode`.
            ConfigError: As of `SSDDTokenizer.decode`.
        """
        tokens = self.as_tokens(tokens, lengths)
        self.require_decoder("decode")
        most, counts = self.encoder.num_tokens(1), tokens.lengths.tolist()
        least = 1 if self.spec.is_ordered else most
        if not counts or min(counts) < least or tokens.ids.shape[1] > most:
            raise TokenError(f"{self.name} decodes {least} to {most} tokens of a picture, got lengths {counts}.")
        with self.computing():
            # What differs in length is laid out apart: padding may stand for anything.
            rows = [self.quantizer.codes(row.ids[:, : int(row.lengths)]) for row in tokens]
            alike = rows if len(set(counts)) > 1 else [torch.cat(rows)]
            latents = torch.cat([self.latents(codes) for codes in alike])
            return self._pictures(latents, steps, generator, noise, seed, clamp)

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
        """Turn latents, or their bare values (B, T, D), into pictures; options and errors are those of `decode`."""
        self.require_decoder("decode")
        values, width, most = self.latent_values(latents), self.spec.latent_dim, self.encoder.num_tokens(1)
        least = 1 if self.spec.is_ordered else most
        if values.ndim != 3 or values.shape[2] != width or 0 in values.shape or not least <= values.shape[1] <= most:
            raise TokenError(
                f"latents of {self.name} are (B, T, {width}) with T from {least} to {most}, got {tuple(values.shape)}."
            )
        with self.computing():
            codes = self.codes_of(self.encoder, values.to(self.device, torch.float32))
            return self._pictures(self.latents(codes), steps, generator, noise, seed, clamp)

    @staticmethod
    def codes_of(source: ImageTokenizer, vectors: Tensor) -> Tensor:
        """Return the code vectors (B, T, D) of what a tokenizer's encoder gives, `vectors` of it."""
        codes: Tensor = vectors if isinstance(source.quantizer, Gaussian) else source.quantizer(vectors).codes
        return codes

    def latents(self, codes: Tensor) -> Tensor:
        """Return what the decoder is conditioned on, (B, Y, h, w), of code vectors (B, T, D)."""
        return cast(SSDDDecoder, self.decoder).latents(self.maps(codes))

    def maps(self, codes: Tensor) -> Tensor:
        """Return code vectors (B, T, D) as the decoder takes them: on their grid, or a list as a grid of one row."""
        grid = (1, codes.shape[1]) if self.config.layout is not None else self.config.grid
        return codes.transpose(1, 2).reshape(*codes.shape[::2], *grid)

    def _pictures(
        self,
        latents: Tensor,
        steps: int | None,
        generator: torch.Generator | Sequence[torch.Generator] | None,
        noise: Tensor | None,
        seed: int,
        clamp: bool,
    ) -> Tensor:
        config, decoder = self.config, cast(SSDDDecoder, self.decoder)
        steps = config.steps if steps is None else steps
        made = decoder.pictures(latents, config.image_size, steps, config.time_power, generator, noise, seed)
        return made.clamp(0, 1) if clamp else made


class Layout(nn.Module):
    """A list of codes (B, D, 1, T) → latents on a grid (B, Y, h, w).

    Args:
        config: Sizes.
        code_size: D.
        latent_channels: Y.
        num_tokens: The most tokens there are.
        grid: h and w.

    Attributes:
        query: Codes → what each cell's query reads.
    """

    def __init__(
        self, config: LayoutConfig, code_size: int, latent_channels: int, num_tokens: int, grid: tuple[int, int]
    ) -> None:
        super().__init__()
        self.grid = grid
        groups = (TokenGroup("latents"), TokenGroup("queries"))
        transformer = GroupTransformerConfig(groups, config.block, config.depth)
        self.query = QueryDecoder(
            QueryDecoderConfig(transformer, code_size, latent_channels, num_tokens, num_queries=grid[0] * grid[1])
        )
        start_linear_maps(self)

    def forward(self, codes: Tensor) -> Tensor:
        """Lay out."""
        cells: Tensor = self.query(codes[:, :, 0].transpose(1, 2))
        return cells.transpose(1, 2).reshape(*cells.shape[::2], *self.grid)


def _source(config: SSDDDecoderConfig) -> ImageTokenizer:
    """Return the source without its decoder.

    Raises:
        ConfigError: It is no tokenizer of pictures of one size, or its tokens do not fit the grid.
    """
    cls = registry.family(config.source.family)
    if not issubclass(cls, ImageTokenizer):
        raise ConfigError(f"ssdd_decoder: pictures are decoded, and {config.source.family} is no tokenizer of images.")
    source = cls.from_config(config.source.config, decoder=False) if cls.decoder_file else None
    source = cls.from_config(config.source.config) if source is None else source
    source.decoder, source.is_whole = NoDecoder(), False
    source.name = config.source.name or source.name
    if source.spec.input_size != config.image_size or source.spec.num_tokens is None:
        raise ConfigError(
            f"ssdd_decoder: the source takes pictures of {source.spec.input_size}, got image_size {config.image_size}."
        )
    if config.layout is None and source.grid != config.grid:
        raise ConfigError(
            f"ssdd_decoder: the source's tokens lie on a grid of {source.grid}, which is not {config.grid}: give that "
            "grid, or a layout, for tokens that are a list."
        )
    return source
