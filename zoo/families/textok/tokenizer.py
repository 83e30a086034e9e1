"""TexTok, an image as few tokens beside its caption (Zha et al., arXiv 2412.05796, CVPR 2025).

A caption says what an image shows, and leaves open how it looks. A transformer reads the image's patches together with
learned queries and the caption's tokens, as a frozen text encoder has them, and keeps the queries alone; a second one
makes the patches again from these and the same caption. So the tokens can spend their capacity on what the caption does
not say, and fewer are enough.

The caption is no part of the tokens: **it is needed again to decode**, and travels with them as a condition. A fair
comparison counts its bits, or says that it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from zoo.components.exact.one_by_one import any_attention, canonical
from zoo.components.quantizers import Gaussian, Quantizer, build
from zoo.components.text import KnownCaptions, TextEncoder, TextStates
from zoo.errors import ConfigError
from zoo.families.textok.config import TexTokConfig
from zoo.families.textok.decoder import TexTokDecoder
from zoo.families.textok.encoder import TexTokEncoder
from zoo.families.textok.options import DecodeOptions, EncodeOptions
from zoo.families.textok.text import Captions
from zoo.modalities.image import ImageTokenizer
from zoo.spec import TokenSpec
from zoo.stored import NoDecoder
from zoo.tokens import Conditions, Latents, Tokens

__all__ = ["TexTokTokenizer"]

_CAPTIONS = "captions.safetensors"
_TOGETHER = 64  # images decoded at a time


class TexTokTokenizer(ImageTokenizer):
    """Images (B, 3, H, W) in 0…1 and captions → latents (B, N, D), or ids (B, N) if the quantizer has a codebook.

    A caption is given as text, whose states `text_encoder` computes or the checkpoint has, or as states; without one a
    learned token stands for it, if there is one. Ids depend on the caption as they do on the image, and on nothing
    else, padding of captions included.

    Attributes:
        encoder: Pixels in -1…1 and text → what the quantizer takes (`TexTokEncoder`).
        quantizer: See `TexTokConfig.quantizer`.
        decoder: Codes and text → pixels in -1…1 (`TexTokDecoder`), or `NoDecoder` with `decoder=False`.
        captions: States of captions, and what computes them.
    """

    family: ClassVar[str] = "textok"
    config_class: ClassVar[type] = TexTokConfig
    fast_modules: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    encode_options: ClassVar[type] = EncodeOptions
    decode_options: ClassVar[type] = DecodeOptions
    decoder_file: ClassVar[bool] = True
    asset_names: ClassVar[tuple[str, ...]] = (_CAPTIONS,)

    config: TexTokConfig
    encoder: TexTokEncoder
    quantizer: Quantizer
    decoder: TexTokDecoder | NoDecoder

    def __init__(self, config: TexTokConfig, *, decoder: bool = True) -> None:
        super().__init__(config, decoder=decoder)
        self.quantizer = build(config.quantizer)
        self.encoder = TexTokEncoder(config, self.quantizer.input_dim)
        self.decoder = TexTokDecoder(config, self.quantizer.dim) if decoder else NoDecoder()
        self.captions = Captions(config)
        self.spec = TokenSpec(
            modality="image",
            codebook_size=self.quantizer.codebook_size or None,
            num_codebooks=max(1, self.quantizer.num_codebooks),
            num_tokens=config.num_tokens,
            input_size=(config.image_size, config.image_size),
            latent_dim=self.quantizer.dim if isinstance(self.quantizer, Gaussian) else self.quantizer.input_dim,
        )

    @property
    def text_encoder(self) -> TextEncoder:
        """What computes the states of captions; any other `TextEncoder` of the same width may be set."""
        return self.captions.encoder

    @text_encoder.setter
    def text_encoder(self, encoder: TextEncoder) -> None:
        if encoder.dim != self.config.text_dim:
            raise ConfigError(f"{self.name} takes states of {self.config.text_dim} numbers, got {encoder.dim}.")
        self.captions.encoder = encoder

    def assets(self) -> dict[str, bytes]:
        """Return the states of captions that go with the weights."""
        return {_CAPTIONS: self.captions.known.to_bytes()}

    def load_assets(self, assets: Mapping[str, bytes]) -> None:
        """Take over states of captions."""
        self.captions.known = KnownCaptions.from_bytes(assets[_CAPTIONS], _CAPTIONS)

    def keep_captions(self, captions: Sequence[str]) -> None:
        """Have the states of these captions, and of no others, go with the weights.

        Where the text encoder is not installed, the model can then be used with them.

        Raises:
            InputError: As of `TextEncoder.encode`.
        """
        self.captions.known = KnownCaptions.of(self.text_encoder, captions)

    def encode(
        self,
        x: Any,
        lengths: Any = None,
        *,
        on_white: bool = False,
        caption: str | Sequence[str] | None = None,
        states: Any = None,
        mask: Any = None,
        cut: bool = False,
    ) -> Tokens:
        """Turn images into tokens, of which the captions are a part in so far as they go with them.

        Args:
            x: Float (B, 3, H, W) in 0…1, one image, uint8, PIL images, paths, or a list.
            lengths: None: every image is whole.
            on_white: Lay transparent images on white instead of refusing them.
            caption: What the images show: one text for all, or one an image, "" for none. Without any, a model that
                was trained with captions dropped uses the token it learned for that; another one takes the states of an
                empty text, of which a warning tells.
            states: In place of captions, their states: (B, L, D), or a list of (L, D).
            mask: Bool (B, L), where the states count; all if None.
            cut: Take of captions that are too long the words that fit, instead of refusing them; these are then the
                captions that go with the tokens.

        Raises:
            InputError: NaN, another size, out of range, transparent, or an unreadable file; or captions are too long,
                or of another number, or states of another shape.
            ConfigError: The model knows no text, or is continuous.
            MissingExtraError: The text encoder is not installed.
            CheckpointError: The text encoder's weights are not there.
        """
        size = self.spec.require_codebook()
        ids, conditions = self._encoded(x, lengths, on_white, (caption, states, mask, cut), self.quantizer.ids)
        counts = ids.new_full((len(ids),), ids.shape[1])
        return Tokens(ids, counts, size, self.name, conditions=conditions)

    def encode_latents(
        self,
        x: Any,
        lengths: Any = None,
        *,
        on_white: bool = False,
        caption: str | Sequence[str] | None = None,
        states: Any = None,
        mask: Any = None,
        cut: bool = False,
    ) -> Latents:
        """Turn images into the vectors that are quantized, of a Gaussian the means; arguments as of `encode`."""
        values, conditions = self._encoded(x, lengths, on_white, (caption, states, mask, cut), self._latents)
        counts = torch.full((len(values),), values.shape[1], device=values.device)
        return Latents(values.float(), counts, self.name, conditions=conditions)

    def decode(
        self,
        tokens: Any,
        lengths: Any = None,
        *,
        caption: str | Sequence[str] | None = None,
        states: Any = None,
        mask: Any = None,
        cut: bool = False,
        clamp: bool = True,
    ) -> Tensor:
        """Turn tokens into images, with the captions that they carry, or with others.

        Args:
            tokens: What `encode` returned, or ids (B, N) with `lengths`.
            lengths: (B,) valid ids of each image.
            caption: Captions in place of those that the tokens carry, "" for none: what the tokens hold is then shown
                as what another caption says.
            states: As for `encode`.
            mask: As for `encode`.
            cut: As for `encode`.
            clamp: Bring what the decoder overshoots back to 0…1.

        Returns:
            Float pixels (B, 3, H, W).

        Raises:
            TokenError: Ids out of range, too few, or another model's; or it was loaded without its decoder.
            InputError: As for `encode`, of captions.
            ConfigError: The model knows no text.
        """
        tokens = self.as_tokens(tokens, lengths)
        self.require_decoder("decode")
        self.require_whole(tokens)
        made = self._decoded(self.quantizer.codes(tokens.ids), tokens.conditions, (caption, states, mask, cut))
        return made.clamp(0, 1) if clamp else made

    def decode_latents(
        self,
        latents: Latents | Tensor,
        *,
        caption: str | Sequence[str] | None = None,
        states: Any = None,
        mask: Any = None,
        cut: bool = False,
    ) -> Tensor:
        """Turn latents, or their bare values (B, N, D), into images; captions as for `decode`.

        If there is a codebook, they are quantized first.
        """
        self.require_decoder("decode")
        values = self.whole_latents(latents).to(self.device, torch.float32)
        if self.quantizer.num_codebooks:
            values = self.quantizer.codes(self.quantizer.ids(values))
        carried = latents.conditions if isinstance(latents, Latents) else None
        return self._decoded(values, carried, (caption, states, mask, cut)).clamp(0, 1)

    def moments(self, pixels: Tensor, text: TextStates | None) -> Tensor:
        """Return what the quantizer takes of pixels (B, 3, H, W) in 0…1 and states of captions, (B, N, input_dim)."""
        made: Tensor = self.encoder(2 * pixels - 1, text)
        return made

    def images(self, codes: Tensor, text: TextStates | None) -> Tensor:
        """Return the images (B, 3, H, W) of codes (B, N, D), perhaps somewhat outside of 0…1."""
        made: Tensor = self.decoder(codes, text)
        return (made + 1) / 2

    def text_of(self, rows: Sequence[Tensor] | None) -> TextStates | None:
        """Return states (L, D) of several captions as both networks take them."""
        return None if rows is None else self.captions.batched(rows, self.device)

    def _latents(self, moments: Tensor) -> Tensor:
        return moments[..., : self.quantizer.dim] if isinstance(self.quantizer, Gaussian) else moments

    def _encoded(
        self, x: Any, lengths: Any, on_white: bool, text: tuple[Any, Any, Any, bool], finish: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Conditions | None]:
        pixels, _ = self.as_batch(x, lengths, on_white=on_white)
        conditions = self._conditions(text, len(pixels))
        rows = self._rows(conditions, len(pixels), "encoder")
        with torch.no_grad():
            if not self.is_exact:
                with any_attention:
                    made = finish(self.moments(pixels.to(self.input_dtype), self.text_of(rows)))
                return made, conditions

            def alone(number: int) -> Tensor:
                # Its own states alone, so that there is no padding at all.
                own = self.text_of(None if rows is None else rows[number : number + 1])
                return finish(self.moments(pixels[number : number + 1], own))

            parts = canonical(self.device, len(pixels), lambda run: run(alone, range(len(pixels))))
        return torch.cat(parts), conditions

    def _decoded(self, codes: Tensor, carried: Conditions | None, text: tuple[Any, Any, Any, bool]) -> Tensor:
        conditions = self._conditions(text, len(codes)) or carried
        rows = self._rows(conditions, len(codes), "decoder")
        codes = codes if self.is_exact else codes.to(self.fast_dtype)
        made = []
        with torch.no_grad(), any_attention:
            for first in range(0, len(codes), _TOGETHER):
                part = slice(first, first + _TOGETHER)
                own = self.text_of(None if rows is None else rows[part])
                made.append(self.images(codes[part], own).float())
        return torch.cat(made)

    def _conditions(self, text: tuple[Any, Any, Any, bool], batch: int) -> Conditions | None:
        """Return what a caller says of captions.

        Raises:
            ConfigError: It says something, and the model knows no text.
        """
        caption, states, mask, cut = text
        self._require_text(caption, states)
        return self.captions.conditions(caption, states, mask, cut, batch)

    def _require_text(self, caption: Any, states: Any) -> None:
        if self.config.text_in == "none" and (caption is not None or states is not None):
            raise ConfigError(f"{self.name} was made without text (text_in is none): pass no captions.")

    def check_encode(self, **options: Any) -> None:
        """Refuse captions where none are known; see `Tokenizer.check_encode`."""
        super().check_encode(**options)
        self._require_text(options.get("caption"), options.get("states"))

    def check_decode(self, tokens: Tokens | None = None, **options: Any) -> None:
        """Refuse captions where none are known; see `Tokenizer.check_decode`."""
        super().check_decode(tokens, **options)
        self._require_text(options.get("caption"), options.get("states"))

    def _rows(self, conditions: Conditions | None, batch: int, side: Any) -> list[Tensor] | None:
        """Return the states that a network sees of each item; None if it sees no text."""
        return self.captions.rows_of(conditions, batch) if self.config.sees_text(side) else None
