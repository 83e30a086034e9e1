"""LARP, a clip as holistic tokens that are easy to predict one after another (Wang et al., arXiv 2410.21264).

A transformer reads a clip's patches together with learned queries and keeps these alone: each token may hold something
of the whole clip, and none belongs to a place in it. So their order is free, and training gives it a meaning: a small
autoregressive prior, which is thrown away afterwards, sends its gradient through the tokens into the encoder, so that
each token can be guessed from those before it. That makes reconstruction slightly worse, and generation much better. In
training the ids are drawn (stochastic vector quantization), which keeps the codebook in use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.components.exact.one_by_one import any_attention, canonical
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
    """Clips (B, 3, T, H, W) in 0…1 → ids (B, n), n whatever T is; T is that of the config, or fewer whole patches.

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

    def encode(
        self,
        x: Any,
        lengths: Any = None,
        *,
        on_white: bool = False,
        repeat_last: bool = False,
        sample: bool = False,
        seed: int = 0,
        generator: Generators = None,
    ) -> Tokens:
        """Turn clips into tokens.

        Args:
            x: Float (B, 3, T, H, W) in 0…1, one clip, uint8, lists of PIL images, paths, or a list.
            lengths: None: every clip is whole.
            on_white: Lay transparent frames on white instead of refusing them.
            repeat_last: Repeat the last frame of clips whose length is no multiple of a patch's, instead of refusing
                them. The tokens know the true length, and decode to it.
            sample: Draw ids from the probabilities of the codes, as training does; by default the most likely are
                taken. For `stochastic_vq` alone.
            seed: What a clip draws starts from here, whatever else is in the batch, where there is no generator.
            generator: Source of what is drawn: one for all clips, of which each takes a seed, or one a clip.

        Raises:
            InputError: NaN, another size, out of range, transparent, an unreadable file, too many frames, or a number
                that patches do not fill; generators are of another number.
            ConfigError: The quantizer cannot draw.
        """
        size = self.spec.require_codebook()
        if sample and not isinstance(self.quantizer, StochasticVQ):
            raise ConfigError(
                f"{self.name} has a quantizer of the kind {self.config.quantizer.kind!r}, which draws no ids: leave "
                "sample out."
            )
        if generator is not None and not sample:
            raise ConfigError("nothing is drawn, and there is a generator: pass sample=True as well.")
        clips, counts = self._clips(x, lengths, on_white, repeat_last)
        sources = _generators(generator, seed, len(clips)) if sample else None
        ids = self._each(clips, lambda vectors, number: self._ids(vectors, sources and sources[number]))
        return Tokens(ids, torch.full_like(counts, ids.shape[1]), size, self.name, signal_lengths=counts)

    def encode_latents(
        self, x: Any, lengths: Any = None, *, on_white: bool = False, repeat_last: bool = False
    ) -> Latents:
        """Turn clips into the vectors that are quantized; arguments and errors as of `encode`."""
        clips, counts = self._clips(x, lengths, on_white, repeat_last)
        values = self._each(clips, lambda vectors, _: vectors.float())
        return Latents(values, torch.full_like(counts, values.shape[1]), self.name, signal_lengths=counts)

    def decode(self, tokens: Any, lengths: Any = None, *, num_frames: int | None = None, clamp: bool = True) -> Tensor:
        """Turn tokens into clips.

        Args:
            tokens: What `encode` returned, or ids (B, n) with `lengths`.
            lengths: (B,) valid ids of each clip.
            num_frames: Frames of all clips, up to those of the config. If None, as many as each had when it was
                encoded, and of bare ids as many as a whole clip has.
            clamp: Bring what the decoder overshoots back to 0…1.

        Returns:
            Float pixels (B, 3, T, H, W). Clips of different lengths are followed by zeros; `output_lengths` tells them.

        Raises:
            TokenError: Ids out of range, too few, or another model's; of another number of frames than there can be; or
                it was loaded without its decoder.
            ConfigError: There is no such number of frames.
        """
        tokens = self.as_tokens(tokens, lengths)
        self.require_decoder("decode")
        if set(tokens.lengths.tolist()) - {self.config.num_tokens} or tokens.ids.shape[1] != self.config.num_tokens:
            raise TokenError(
                f"{self.name} decodes whole clips of {self.config.num_tokens} tokens, got lengths "
                f"{tokens.lengths.tolist()}."
            )
        counts = self._frames(tokens, num_frames)
        with torch.no_grad():
            made = self._of_lengths(self.quantizer.codes(tokens.ids), counts)
        return made.clamp(0, 1) if clamp else made

    def decode_latents(self, latents: Latents | Tensor) -> Tensor:
        """Quantize latents, or their bare values (B, n, D), and turn the codes into clips as `decode` does."""
        self.require_decoder("decode")
        values, shape = self.latent_values(latents), (self.config.num_tokens, self.quantizer.input_dim)
        if values.ndim != 3 or values.shape[1:] != shape or not len(values):
            raise TokenError(
                f"latents of {self.name} are (B, {shape[0]}, {shape[1]}), not empty, got {tuple(values.shape)}."
            )
        counts = self._frames(latents if isinstance(latents, Latents) else values, None)
        with torch.no_grad():
            values = values.to(self.device, torch.float32)
            quantizer = self.quantizer
            codes = quantizer.codes(quantizer.ids(values)) if quantizer.num_codebooks else quantizer(values).codes
            return self._of_lengths(codes, counts).clamp(0, 1)

    def pixels(self, vectors: Tensor, num_frames: int | None = None) -> Tensor:
        """Return clips (B, 3, T, H, W) of codes (B, n, D), perhaps somewhat outside of 0…1."""
        made: Tensor = self.decoder(vectors, num_frames)
        return made

    def as_batch(
        self, x: Any, lengths: Any = None, *, repeat_last: bool = False, **reading: Any
    ) -> tuple[Tensor, Tensor | None]:
        """As of every tokenizer; clips may be shorter than a whole one.

        Args:
            x: The clips.
            lengths: As for `encode`.
            repeat_last: Leave clips as they are whose length is no multiple of a patch's, instead of refusing them.
            reading: As of every tokenizer.

        Raises:
            InputError: There are too many frames, or a number that patches do not fill.
        """
        clips, counts = super().as_batch(x, lengths, **reading)
        frames, most, step = clips.shape[2], self.config.num_frames, self.config.temporal_patch_size
        if frames > most:
            raise InputError(
                f"{self.name} takes clips of at most {most} frames, got {frames}: cut them, x.split({most}, -3)."
            )
        if frames % step and not repeat_last:
            raise InputError(
                f"{self.name} takes clips of {step} frames or a multiple of it, up to {most}, got {frames}: pass "
                "repeat_last=True to repeat the last frame until they are long enough."
            )
        return clips, counts

    def _needs(self) -> dict[str, Any]:
        size = self.config.image_size
        return {**super()._needs(), "input_size": (size, size)}

    def _clips(self, x: Any, lengths: Any, on_white: bool, repeat_last: bool) -> tuple[Tensor, Tensor]:
        """Return clips that patches fill, and how many frames they had, (B,)."""
        clips, _ = self.as_batch(x, lengths, on_white=on_white, repeat_last=repeat_last)
        frames = clips.shape[2]
        counts = torch.full((len(clips),), frames, dtype=torch.int64, device=clips.device)
        if missing := -frames % self.config.temporal_patch_size:
            clips = F.pad(clips, (0, 0, 0, 0, 0, missing), mode="replicate")
        return clips, counts

    def _ids(self, vectors: Tensor, generators: torch.Generator | Sequence[torch.Generator] | None) -> Tensor:
        """Return ids (B, n) of vectors (B, n, D), drawn if there are generators."""
        if generators is None:
            return self.quantizer.ids(vectors)
        quantizer = cast(StochasticVQ, self.quantizer)
        several = [generators] if isinstance(generators, torch.Generator) else generators
        return torch.stack([quantizer.draw(row, each) for row, each in zip(vectors, several, strict=True)])

    def _each(self, clips: Tensor, finish: Any) -> Tensor:
        """Return what `finish` makes of each clip's vectors and its number, or slice of numbers, joined."""
        with torch.no_grad():
            if not self.is_exact:
                with any_attention:
                    return cast(Tensor, finish(self.vectors(clips.to(self.input_dtype)), slice(None)))

            def made(item: tuple[int, Tensor]) -> Tensor:
                return cast(Tensor, finish(self.vectors(item[1]), item[0]))

            items = list(enumerate(clips[:, None]))
            return torch.cat(canonical(self.device, len(items), lambda run: run(made, items)))

    def _frames(self, tokens: Tokens | Latents | Tensor, num_frames: int | None) -> list[int]:
        """Return how many frames each clip is to have."""
        most = self.config.num_frames
        if num_frames is not None:
            if type(num_frames) is not int or not 1 <= num_frames <= most:
                raise ConfigError(f"{self.name} decodes 1 to {most} frames, got num_frames={shown(num_frames)}.")
            return [num_frames] * len(tokens)
        known = None if isinstance(tokens, Tensor) else tokens.signal_lengths
        counts = [most] * len(tokens) if known is None else cast("list[int]", known.tolist())
        if any(not 1 <= count <= most for count in counts):
            raise TokenError(f"{self.name} decodes 1 to {most} frames, and these tokens are of {shown(counts)}.")
        return counts

    def _of_lengths(self, codes: Tensor, counts: list[int]) -> Tensor:
        """Return the clips of codes (B, n, D), with so many frames each."""
        step, is_fast = self.config.temporal_patch_size, not self.is_exact
        codes = codes.to(self.fast_dtype) if is_fast else codes
        made: Tensor | None = None
        for count in sorted(set(counts), reverse=True):
            rows = [number for number, other in enumerate(counts) if other == count]
            with any_attention:
                clips = self.pixels(codes[rows], math.ceil(count / step) * step)[:, :, :count].float()
            if len(rows) == len(counts):
                return clips
            if made is None:
                made = clips.new_zeros(len(counts), *clips.shape[1:])
            made[rows, :, :count] = clips
        return cast(Tensor, made)


def _generators(generator: Generators, seed: int, count: int) -> list[torch.Generator]:
    """Return a generator for each of some clips."""
    if generator is None:
        return [torch.Generator().manual_seed(seed) for _ in range(count)]
    if isinstance(generator, torch.Generator):
        seeds = torch.randint(2**62, (count,), generator=generator, device=generator.device).tolist()
        return [torch.Generator().manual_seed(each) for each in seeds]
    if len(generator) != count:
        raise InputError(f"{count} clips need one generator, or as many, got {len(generator)}.")
    return list(generator)
