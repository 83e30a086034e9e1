"""What tokenizers of images have in common, and of videos with them: items of one size, computed one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from zoo.components.exact.one_by_one import any_attention, canonical, same_kernels
from zoo.components.quantizers import Quantizer
from zoo.errors import ConfigError, InputError, TokenError
from zoo.tokenizer import Tokenizer
from zoo.tokens import Latents, Tokens

__all__ = ["DecodeOptions", "EncodeOptions", "ImageTokenizer", "PixelTokenizer"]


@dataclass(frozen=True)
class EncodeOptions:
    """Options of `encode`: whether what is transparent is laid on white."""

    on_white: bool = False


@dataclass(frozen=True)
class DecodeOptions:
    """Options of `decode`: whether what the decoder overshoots is clamped to 0…1."""

    clamp: bool = True


class PixelTokenizer(Tokenizer):
    """Pixels (B, 3, …) → vectors (B, T, D) by the encoder → ids by the quantizer → vectors → pixels by the decoder.

    A family makes the three and `spec` in its constructor, and names `grid` if its tokens have places; where encoder
    and decoder are more than functions of one tensor, it overrides `vectors` and `pixels`. Items have no lengths. In
    exact mode each is computed alone, which makes its ids a function of it alone; in fast mode all together.

    Attributes:
        grid: Arrangement of an item's tokens, row-major, or None; where it depends on the item, `grid_of` tells.
    """

    encode_options: ClassVar[type] = EncodeOptions
    decode_options: ClassVar[type] = DecodeOptions

    quantizer: Quantizer
    grid: tuple[int, ...] | None = None

    def vectors(self, pixels: Tensor) -> Tensor:
        """Return what is quantized of pixels (B, 3, …) in 0…1, (B, T, D)."""
        made: Tensor = self.encoder(pixels)
        return made

    def pixels(self, vectors: Tensor) -> Tensor:
        """Return the pixels (B, 3, …) of vectors (B, T, D), perhaps somewhat outside of 0…1."""
        made: Tensor = self.decoder(vectors)
        return made

    @property
    def input_dtype(self) -> torch.dtype | None:
        """What fast mode brings pixels to; a family whose first part stays in float32 says so."""
        return self.fast_dtype

    def encode(self, x: Any, lengths: Any = None, *, on_white: bool = False) -> Tokens:
        """Turn images or videos into tokens.

        Args:
            x: Float (B, 3, …) in 0…1, one item, uint8, PIL images, paths, or a list.
            lengths: None: every item is whole.
            on_white: Lay transparent pictures on white instead of refusing them.

        Raises:
            InputError: NaN, another size, out of range, transparent, or an unreadable file.
        """
        size = self.spec.require_codebook()
        ids, grid = self._encode(x, lengths, on_white, lambda pixels: self.quantizer.ids(self.vectors(pixels)))
        self._require_as_spec(ids)
        return Tokens(ids, ids.new_full((len(ids),), ids.shape[1]), size, self.name, grid)

    def encode_latents(self, x: Any, lengths: Any = None, *, on_white: bool = False) -> Latents:
        """Turn images or videos into the vectors that are quantized; arguments and errors as of `encode`."""
        if self.spec.latent_dim is None:
            return super().encode_latents(x, lengths)
        values, grid = self._encode(x, lengths, on_white, self.vectors)
        counts = torch.full((len(values),), values.shape[1], device=values.device)
        return Latents(values.float(), counts, self.name, grid)

    def decode(self, tokens: Any, lengths: Any = None, *, clamp: bool = True) -> Tensor:
        """Turn tokens into images or videos.

        Args:
            tokens: What `encode` returned, or ids (B, T) with `lengths`.
            lengths: (B,) valid ids of each item.
            clamp: Bring what the decoder overshoots back to 0…1.

        Returns:
            Float pixels (B, 3, …).

        Raises:
            TokenError: Ids out of range, too few, or another model's; or it was loaded without its decoder.
        """
        tokens = self.as_tokens(tokens, lengths)
        self.require_decoder("decode")
        counts = self.require_whole(tokens)
        with torch.no_grad():
            # Padding may stand for anything, so what differs in length is decoded apart.
            whole = [tokens.ids] if len(counts) < 2 else [row.ids[:, : int(row.lengths)] for row in tokens]
            made = torch.cat([self._pixels_of(self.quantizer.codes(ids)) for ids in whole])
        return made.clamp(0, 1) if clamp else made

    def decode_latents(self, latents: Latents | Tensor) -> Tensor:
        """Turn latents, or their bare values (B, T, D), into pixels in 0…1."""
        if self.spec.latent_dim is None:
            return super().decode_latents(latents)
        self.require_decoder("decode")
        with torch.no_grad():
            return self._pixels_of(self.whole_latents(latents)).clamp(0, 1)

    def require_whole(self, tokens: Tokens) -> set[int]:
        """Return the numbers of tokens that items have, if they are whole, or prefixes are items as well.

        Raises:
            TokenError: They are not.
        """
        counts = set(tokens.lengths.tolist())
        whole = self.spec.num_tokens or tokens.ids.shape[1]
        if not self.spec.is_ordered and counts - {whole}:
            raise TokenError(
                f"{self.name} decodes whole items of {whole} tokens, got lengths {tokens.lengths.tolist()}."
            )
        return counts

    def whole_latents(self, latents: Latents | Tensor) -> Tensor:
        """Return the values (B, T, D) of what a caller hands to `decode_latents`.

        Raises:
            TokenError: They are of another shape, or another tokenizer's.
        """
        values = self.latent_values(latents)
        count, width = self.spec.num_tokens, self.spec.latent_dim
        if values.ndim != 3 or values.shape[2] != width or 0 in values.shape or count not in (None, values.shape[1]):
            raise TokenError(
                f"latents of {self.name} are (B, {count or 'T'}, {width}), not empty, got {tuple(values.shape)}."
            )
        return values

    def num_tokens(self, length: int) -> int:
        """Return `spec.num_tokens`, whatever the length.

        Raises:
            InputError: It depends on the item.
        """
        if self.spec.num_tokens is None:
            raise InputError(f"{self.name} has a variable number of tokens: encode, and look at tokens.lengths.")
        return self.spec.num_tokens

    def output_lengths(self, tokens: Tokens) -> Tensor:
        """Return 1 for each item: an image."""
        return torch.ones_like(tokens.lengths)

    def grid_of(self, size: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the arrangement of the tokens of an item of that many rows and columns of pixels, frames in front."""
        return self.grid

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Record no gradients; in exact mode, heed neither an autocast nor switches that trade precision for speed."""
        with torch.no_grad():
            if not self.is_exact:
                with any_attention:
                    yield
                return
            with same_kernels, torch.autocast(self.device.type, enabled=False):
                yield

    def _encode(
        self, x: Any, lengths: Any, on_white: bool, finish: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, tuple[int, ...] | None]:
        """Return what is made of the items, and how it is arranged."""
        pixels, _ = self.as_batch(x, lengths, on_white=on_white)
        grid = self.grid_of(tuple(pixels.shape[2:]))
        with torch.no_grad():
            if not self.is_exact:
                with any_attention:
                    return finish(pixels.to(self.input_dtype)), grid
            rows = canonical(self.device, len(pixels), lambda run: run(finish, [*pixels[:, None]]))
        return torch.cat(rows), grid

    def _require_as_spec(self, ids: Tensor) -> None:
        """Raise `ConfigError` if ids (B, T) or (B, T, K) are not as many as `spec` says."""
        count, depth = self.spec.num_tokens, self.spec.num_codebooks
        own = ids.shape[2:] if ids.ndim > 2 else (1,)
        if ids.ndim not in (2, 3) or tuple(own) != (depth,) or (count is not None and ids.shape[1] != count):
            raise ConfigError(
                f"{self.name}: by its spec an item has {count or 'some'} tokens of {depth} codebook(s), "
                f"and ids made of pixels have the shape {tuple(ids.shape)}: "
                "`vectors` must make (B, T, D), a vector a token."
            )

    def _pixels_of(self, vectors: Tensor) -> Tensor:
        is_fast = not self.is_exact and "decoder" in self.fast_modules
        with any_attention:
            return self.pixels(vectors.to(self.fast_dtype) if is_fast else vectors).float()


class ImageTokenizer(PixelTokenizer):
    """A tokenizer of images (B, 3, H, W) in 0…1, of `spec.input_size` unless that is None."""

    @property
    def has_autoencoder(self) -> bool:
        """Whether `autoencode` works: what is tokenized are latents of an autoencoder that makes pixels again."""
        return False

    def autoencode(self, pixels: Tensor) -> Tensor:
        """Make images again from their autoencoder's latents, tokens left out: the best that tokens of these can do.

        Args:
            pixels: (B, 3, H, W) in 0…1, of `spec.input_size`.

        Returns:
            As many, as large, in 0…1.

        Raises:
            ConfigError: There is no autoencoder.
        """
        raise ConfigError(f"{self.name} has no autoencoder within it.")
