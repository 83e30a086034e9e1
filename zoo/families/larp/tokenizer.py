"""LARP, a clip as holistic tokens that are easy to predict one after another (Wang et al., arXiv 2410.21264).

A transformer reads a clip's patches together with learned queries and keeps these alone: each token may hold something
of the whole clip, and none belongs to a place in it. So their order is free, and training gives it a meaning: a small
autoregressive prior, which is thrown away afterwards, sends its gradient through the tokens into the encoder, so that
each token can be guessed from those before it. That makes reconstruction slightly worse, and generation much better. In
training the ids are drawn (stochastic vector quantization), which keeps the codebook in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from zoo.components.exact.one_by_one import canonical
from zoo.components.quantizers import Quantizer, StochasticVQ, build
from zoo.errors import ConfigError, InputError, TokenError, shown
from zoo.families.larp.config import LARPConfig
from zoo.families.larp.decoder import LARPDecoder
from zoo.families.larp.encoder import LARPEncoder
from zoo.families.larp.options import DecodeOptions, EncodeOptions
from zoo.modalities.video import VideoTokenizer
from zoo.spec import TokenSpec
from zoo.stored import NoDecoder
from zoo.tokens import Latents, Tokens

__all__ = ["LARPTokenizer"]

Generators = torch.Generator | Sequence[torch.Generator] | None


class LARPTokenizer(VideoTokenizer):
    """Clips (B, 3, T, H, W) in 0…1 → ids (B, n), n whatever T is, as long as it is at most that of the config.

    Of fewer frames the encoder sees fewer patches, and the decoder makes fewer; frames that fill no patch are filled up
    by the last one. Of more frames there are several clips, one after another (`VideoTokenizer`).

    Attributes:
        encoder: Clips → vectors (`LARPEncoder`).
        quantizer: Vectors → ids, as published `StochasticVQ`.
        decoder: Codes → clips (`LARPDecoder`), or `NoDecoder` with `decoder=False`.
    """

    family: ClassVar[str] = "larp"
    config_class: ClassVar[type] = LARPConfig
    fast_modules: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    encode_options: ClassVar[type] = EncodeOptions
    decode_options: ClassVar[type] = DecodeOptions
    decoder_file: ClassVar[bool] = True
    official: ClassVar[str] = "zoo.families.larp.official.folder"

    config: LARPConfig
    encoder: LARPEncoder
    quantizer: Quantizer
    decoder: LARPDecoder | NoDecoder

    def __init__(self, config: LARPConfig, *, decoder: bool = True) -> None:
        super().__init__(config, decoder=decoder)
        self.quantizer = build(config.quantizer)
        self.encoder = LARPEncoder(config, self.quantizer.input_dim)
        self.decoder = LARPDecoder(config, self.quantizer.dim) if decoder else NoDecoder()
        self.spec = TokenSpec(
            modality="video",
            codebook_size=self.quantizer.codebook_size or None,
            num_codebooks=max(1, self.quantizer.num_codebooks),
            num_tokens=config.num_tokens,
            input_size=(config.num_frames, config.image_size, config.image_size),
            latent_dim=self.quantizer.input_dim,
        )

    @property
    def frame_multiple(self) -> int:
        """Frames of a patch."""
        return self.config.temporal_patch_size

    def window_pixels(self, vectors: Tensor, num_frames: int) -> Tensor:
        """Return clips (B, 3, num_frames, H, W) of codes (B, n, D), perhaps somewhat outside of 0…1."""
        made: Tensor = self.decoder(vectors, num_frames)
        return made

    def encode(
        self,
        x: Any,
        lengths: Any = None,
        *,
        on_white: bool = False,
        sample: bool = False,
        seed: int = 0,
        generator: Generators = None,
    ) -> Tokens:
        """Turn videos into tokens.

        Args:
            x: Float (B, 3, T, H, W) in 0…1, one video, uint8, lists of PIL images, paths, or a list.
            lengths: (B,) frames of each item of a padded batch.
            on_white: Lay transparent frames on white instead of refusing them.
            sample: Draw ids from the probabilities of the codes, as training does; by default the most likely are
                taken. For `stochastic_vq` alone.
            seed: What a clip draws starts from here, whatever else is in the batch, where there is no generator.
            generator: Source of what is drawn: one for all videos, or one a video. Each clip takes a seed from it.

        Raises:
            InputError: NaN, another size, out of range, transparent, or an unreadable file; or generators are of
                another number.
            ConfigError: The quantizer cannot draw.
        """
        if not sample:
            if generator is not None:
                raise ConfigError("nothing is drawn, and there is a generator: pass sample=True as well.")
            return super().encode(x, lengths, on_white=on_white)
        size, quantizer = self.spec.require_codebook(), self._drawing()
        latents = self.encode_latents(x, lengths, on_white=on_white)
        most = latents.values.shape[1] // self.config.num_tokens
        clips = latents.values.reshape(
            len(latents.values), most, -1, quantizer.input_dim
        )  # those of padding as well, which matter to nobody
        counts = (latents.lengths // self.config.num_tokens).tolist()
        sources = _generators(generator, seed, counts)

        def drawn(item: tuple[Tensor, list[torch.Generator]]) -> Tensor:
            rows, own = item
            made = rows.new_zeros(rows.shape[:2], dtype=torch.int64)
            for place, source in enumerate(own):
                made[place] = quantizer.draw(rows[place], source)
            return made.flatten()

        items = list(zip(clips, sources, strict=True))
        ids = torch.stack(canonical(self.device, len(items), lambda run: run(drawn, items)))
        return Tokens(ids, latents.lengths, size, self.name, signal_lengths=latents.signal_lengths)

    def decode(self, tokens: Any, lengths: Any = None, *, num_frames: int | None = None, clamp: bool = True) -> Tensor:
        """Turn tokens into videos.

        Args:
            tokens: What `encode` returned, or ids (B, n) with `lengths`.
            lengths: (B,) valid ids of each video.
            num_frames: Frames of all videos. If None, as many as each had when it was encoded, and of bare ids as many
                as whole clips have.
            clamp: Bring what the decoder overshoots back to 0…1.

        Returns:
            Float pixels (B, 3, T, H, W). Shorter videos are followed by zeros; `output_lengths` tells them.

        Raises:
            TokenError: Ids out of range, too few, or another model's; of another number of frames than there can be; or
                it was loaded without its decoder.
            ConfigError: There is no such number of frames.
        """
        tokens = self.as_tokens(tokens, lengths)
        return super().decode(tokens if num_frames is None else _lasting(tokens, num_frames), clamp=clamp)

    def check_encode(self, **options: Any) -> None:
        """Refuse to draw ids where the quantizer cannot; see `Tokenizer.check_encode`."""
        super().check_encode(**options)
        if options.get("sample"):
            self._drawing()

    def check_decode(self, tokens: Tokens | None = None, **options: Any) -> None:
        """Refuse a number of frames that tokens cannot have; see `Tokenizer.check_decode`."""
        num_frames = options.get("num_frames")
        if tokens is not None and num_frames is not None:
            tokens = _lasting(tokens, num_frames)
        super().check_decode(tokens, **options)

    def _drawing(self) -> StochasticVQ:
        """Return the quantizer, if it can draw."""
        if not isinstance(self.quantizer, StochasticVQ):
            raise ConfigError(
                f"{self.name} has a quantizer of the kind {self.config.quantizer.kind!r}, which draws no ids: leave "
                "sample out."
            )
        return self.quantizer

    def decode_latents(self, latents: Latents | Tensor) -> Tensor:
        """Quantize latents, or their bare values (B, n, D), and turn the codes into videos as `decode` does."""
        self.require_decoder("decode")
        values, width = self.latent_values(latents), self.quantizer.input_dim
        if values.ndim != 3 or values.shape[2] != width or 0 in values.shape:
            raise TokenError(f"latents of {self.name} are (B, n, {width}), not empty, got {tuple(values.shape)}.")
        values = values.to(self.device, torch.float32)
        counts = torch.full((len(values),), values.shape[1], device=self.device)
        known = replace(latents, values=values) if isinstance(latents, Latents) else Latents(values, counts, self.name)
        with torch.no_grad():
            return self._joined(known, self._codes).clamp(0, 1)

    def _codes(self, vectors: Tensor) -> Tensor:
        """Return the codes (B, n, D) of vectors: of the most likely ids, if there are ids."""
        quantizer = self.quantizer
        if not quantizer.num_codebooks:
            return cast(Tensor, quantizer(vectors).codes)
        return quantizer.codes(quantizer.ids(vectors))


def _lasting(tokens: Tokens, num_frames: Any) -> Tokens:
    """Return tokens as those of videos of so many frames."""
    if type(num_frames) is not int or num_frames < 1:
        raise ConfigError(f"num_frames must be a number of frames, at least 1, got {shown(num_frames)}.")
    return replace(tokens, signal_lengths=torch.full_like(tokens.lengths, num_frames))


def _generators(generator: Generators, seed: int, counts: list[int]) -> list[list[torch.Generator]]:
    """Return a generator for each clip of some videos."""
    if generator is None:
        return [[torch.Generator().manual_seed(seed) for _ in range(count)] for count in counts]
    several = [generator] * len(counts) if isinstance(generator, torch.Generator) else list(generator)
    if len(several) != len(counts):
        raise InputError(f"{len(counts)} videos need one generator, or as many, got {len(several)}.")
    made = []
    for count, source in zip(counts, several, strict=True):
        seeds = torch.randint(2**62, (count,), generator=source, device=source.device).tolist()
        made.append([torch.Generator().manual_seed(each) for each in seeds])
    return made
