"""StableToken, a noise-robust semantic speech tokenizer (Song et al., arXiv 2509.22220, ICLR 2026).

A speech recogniser's encoder knows what is said, but the token it is cut down to flips when a little noise pushes a
vector over a decision boundary. StableToken lets an odd number of quantizers decide: n linear branches each project the
vector to d signs, and every bit of the token is the majority of its n signs. In training a minority of the branches
sees the same speech with noise, and a consensus loss pulls all branches together, so the branches learn to say the same
of clean and noisy speech, and at inference a bit only changes when most of its branches are pushed over at once. Put
differently: of an odd number of values, the majority's sign is the sign of the median, so each bit is the sign of a
median of n learned measurements, a robust statistic instead of a single one.

25 tokens a second of 13 bits. The encoder is the first half of Whisper's; the second half and Whisper's decoder exist
only in training, where recognising the transcript teaches the tokens what to keep. What turns tokens back into speech
is trained afterwards, and a checkpoint may come without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from zoo.components.audio.log_mel import LogMel
from zoo.components.exact.one_by_one import Run, canonical
from zoo.components.quantizers import Quantizer, build
from zoo.components.windows import Chunking, cut, groups, in_chunks, whole_tokens
from zoo.errors import ConfigError, InputError, TokenError, shown
from zoo.families.stabletoken.config import StableTokenConfig
from zoo.families.stabletoken.encoder import SpeechEncoder
from zoo.families.stabletoken.fast import encode_together
from zoo.families.stabletoken.options import DecodeOptions, EncodeOptions
from zoo.modalities.speech import SpeechTokenizer
from zoo.spec import TokenSpec
from zoo.tokenizer import NoDecoder
from zoo.tokens import Latents, Tokens

if TYPE_CHECKING:
    from zoo.families.stabletoken.decoder import DecoderConfig
    from zoo.families.stabletoken.decoder.speech import SpeechDecoder

__all__ = ["NoDecoder", "StableTokenTokenizer"]


class StableTokenTokenizer(SpeechTokenizer):
    """Speech (B, samples) → ids (B, T), one for every 40 ms begun; (B, T, K) if the quantizer has K codebooks.

    Speech of more than 30 s is cut into consecutive segments of 30 s, each encoded alone; the last may be shorter. A
    token depends on the whole of its segment, so this is no streaming model: another cut gives other tokens.

    Attributes:
        features: Waves → log-mel spectra (`LogMel`).
        encoder: Spectra → a vector a token (`SpeechEncoder`).
        quantizer: Vectors → ids, as published by vote (`VotingLFQ`).
        decoder: Ids → waves (`SpeechDecoder`, at a rate of its own), or `NoDecoder` if the config has none, or
            with `decoder=False`: `decode` raises then. In a checkpoint it has a file of its own.
    """

    family: ClassVar[str] = "stabletoken"
    config_class: ClassVar[type] = StableTokenConfig
    decoder_file: ClassVar[bool] = True
    fast_modules: ClassVar[tuple[str, ...]] = ("encoder",)
    encode_options: ClassVar[type] = EncodeOptions
    decode_options: ClassVar[type] = DecodeOptions
    official: ClassVar[str] = "zoo.families.stabletoken.official.folder"

    config: StableTokenConfig
    encoder: SpeechEncoder
    quantizer: Quantizer
    decoder: NoDecoder | SpeechDecoder

    def __init__(self, config: StableTokenConfig, *, decoder: bool = True) -> None:
        super().__init__(config, decoder=decoder)
        self.features = LogMel(
            num_mel=config.num_mel,
            n_fft=config.n_fft,
            hop_length=config.hop_length,
            sample_rate=config.sample_rate,
            token_samples=config.token_samples,
        )
        quantizer = build(config.quantizer)
        self.encoder = SpeechEncoder(config, quantizer.input_dim)
        self.quantizer = quantizer
        self.decoder = NoDecoder()
        if config.decoder is not None:
            config.decoder.require_codebooks(quantizer.codebook_size, quantizer.num_codebooks)
            if decoder:
                self.decoder = _build_decoder(config.decoder)
        self.spec = TokenSpec(
            modality="speech",
            codebook_size=quantizer.codebook_size,
            num_codebooks=quantizer.num_codebooks,
            token_rate=config.sample_rate / config.token_samples,
            sample_rate=config.sample_rate,
            latent_dim=quantizer.input_dim,
        )

    def encode(
        self, x: Any, lengths: Any = None, *, resample: bool = False, mix_down: bool = False, overlap: float = 0.0
    ) -> Tokens:
        """Turn speech into tokens, ⌈samples / 640⌉ an item at 16 kHz.

        The ids are a function of the item alone, since every kernel computes on one item, one thread and in float32
        (see `canonical`). Shapes, and so the speed, are those of items encoded one after another; on the CPU, the
        threads that `torch.get_num_threads()` allows share the work. In fast mode, what is about as long is computed
        together, in the encoder's dtype or that of an autocast.

        Args:
            x: (B, samples) or (samples,) in -1…1 at `spec.sample_rate`, a path, an array, `(wave, rate)`, or a list.
            lengths: (B,) samples of each item of a padded batch.
            resample: Resample speech of another rate instead of refusing it.
            mix_down: Average the channels of speech instead of refusing more than one.
            overlap: Seconds that neighbouring segments have in common, a multiple of a token's 0.04 s. Each keeps the
                tokens that are further from its end, so that all but the first and the last have seen half of these
                seconds on either side. Their number stays the same. 0, as published, gives other tokens of speech of
                more than 30 s, and the same of less.

        Raises:
            InputError: NaN, wrong rank or rate, several channels, empty, out of range, or an unreadable file.
            ConfigError: The weights are not in float32 in exact mode, or the overlap is no part of a segment.
        """
        with torch.no_grad():
            ids, counts, samples = self._encode(x, lengths, overlap, self.quantizer.ids, resample, mix_down)
        return Tokens(ids, counts, self.spec.require_codebook(), self.name, signal_lengths=samples)

    def encode_latents(
        self, x: Any, lengths: Any = None, *, resample: bool = False, mix_down: bool = False, overlap: float = 0.0
    ) -> Latents:
        """Turn speech into the vectors that are quantized, (B, T, D); arguments and errors as of `encode`."""
        with torch.no_grad():
            values, counts, samples = self._encode(x, lengths, overlap, lambda hidden: hidden, resample, mix_down)
        return Latents(values, counts, self.name, signal_lengths=samples)

    def _encode(
        self,
        x: Any,
        lengths: Any,
        overlap: float,
        finish: Callable[[Tensor], Tensor],
        resample: bool,
        mix_down: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `finish` makes of the vectors, (B, T, …) and 0 past an item's end; its tokens; its samples."""
        longest = self._longest
        shared = self._tokens_of("overlap", overlap, longest - 1)
        waves, valid = self.as_batch(x, lengths, resample=resample, mix_down=mix_down)
        samples = torch.full((len(waves),), waves.shape[1], device=self.device) if valid is None else valid
        counts = -(-samples // self.config.token_samples)
        pieces = [(row, piece) for row, count in enumerate(counts.tolist()) for piece in cut(count, longest, shared)]
        ends = samples.tolist()
        segments = [piece.samples(waves[row, : ends[row]], self.config.token_samples) for row, piece in pieces]
        parts = self._encode_segments(segments, finish)
        made = parts[0].new_zeros((len(waves), int(counts.max()), *parts[0].shape[1:]))
        for (row, piece), part in zip(pieces, parts, strict=True):
            made[row, piece.first : piece.last] = piece.kept(part)
        return made, counts, samples

    def encode_chunks(
        self,
        x: str | os.PathLike[str] | Tensor | Iterable[Tensor],
        *,
        chunk: float = 10.0,
        left: float = 5.0,
        right: float = 5.0,
        mix_down: bool = False,
    ) -> Iterator[Tokens]:
        """Turn a long file or a stream into tokens, chunk by chunk.

        StableToken is no streaming model: a token depends on all of its 30 s segment, and here on its chunk with
        declared surroundings, so these are not the tokens of `encode` (`eval/invariance.yaml` measures how many
        differ). They are as many, and depend on the speech and on these options alone, not on the blocks it arrives in.

        Args:
            x: The path of a file that libsndfile reads, which is then never in memory as a whole; a wave (samples,); or
                an iterable of consecutive waves (samples,) of any lengths, at `spec.sample_rate`, -1…1.
            chunk: Seconds whose tokens are given together.
            left: Seconds before the chunk that are encoded with it.
            right: Seconds after it that are encoded with it. The tokens of a sample are given once `chunk + right`
                seconds after it have arrived, at the latest.
            mix_down: Average the channels of a file instead of refusing more than one.

        Returns:
            An iterator over `Tokens` of one item each, to be put together in order; all but the last are as long as a
            chunk. At the start and the end the surroundings are what there is.

        Raises:
            InputError: As for `encode`, perhaps only once what is wrong is reached.
            ConfigError: The weights are not in float32 in exact mode, or the seconds are not multiples of 0.04, or more
                than 30 s in all.
        """
        chunking = Chunking(
            self._tokens_of("chunk", chunk), self._tokens_of("left", left), self._tokens_of("right", right)
        )
        if not chunking.size or sum(chunking) > self._longest:
            raise ConfigError(
                f"chunk must be more than 0, and chunk + left + right at most {self._seconds(self._longest):g} s, got "
                f"{chunk:g} + {left:g} + {right:g}."
            )
        blocks: Iterable[Any]
        if isinstance(x, (str, os.PathLike)):
            from zoo.data.blocks import read_blocks

            blocks = read_blocks(x, sample_rate=self.config.sample_rate, mix_down=mix_down)
        else:
            blocks = [x] if isinstance(x, Tensor) else x
        made = in_chunks(map(self._block, blocks), chunking, self.config.token_samples, self._ids_of)
        return (
            Tokens(
                ids[None],
                torch.tensor([len(ids)], device=self.device),
                self.spec.require_codebook(),
                self.name,
                signal_lengths=torch.tensor([count], device=self.device),
            )
            for ids, count in made
        )

    def decode(
        self,
        tokens: Any,
        lengths: Any = None,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        generator: torch.Generator | None = None,
        sample_rate: int | None = None,
    ) -> Tensor:
        """Turn tokens into speech: what was said, in a voice that is not the speaker's.

        A wave is as long as what was encoded, or as its tokens, 40 ms each, if that is not known. The vocoder makes
        whole frames, so that up to 12 ms at the end are silence.

        Every item is computed alone and from the same random numbers, so that its wave does not depend on the others.

        Args:
            tokens: What `encode` returned, or ids (B, T) with `lengths`.
            lengths: (B,) valid ids of each item.
            steps: Steps from noise to the mel spectrum; those of the decoder's config, 10 as published, if None.
            guidance: How much the tokens' influence is exaggerated; as in the config, 0.7 as published, if None. 0 is
                not at all, and twice as fast.
            generator: Source of the random numbers, which one number from it starts; the decoder's own seed if None.
            sample_rate: Hz of the result. If None, that of speech to encode, `spec.sample_rate`, to which the decoder's
                waves are resampled; they are not with `config.decoder.sample_rate`.

        Returns:
            (B, samples) float32, 0 past the end of each item; `output_lengths` says where that is.

        Raises:
            TokenError: Ids out of range, of the wrong shape or another model's; or this tokenizer has no decoder.
            ConfigError: The weights are not in float32, or an option is not usable.
            InputError: It cannot be resampled to such a rate.
        """
        tokens = self.as_tokens(tokens, lengths)
        decoder = self._require_decoder()
        own_rate = decoder.config.sample_rate
        rate = self.config.sample_rate if sample_rate is None else sample_rate
        counts = self.output_lengths(tokens, rate).tolist()
        waves = torch.zeros(len(tokens), max(counts, default=0), dtype=torch.float32, device=self.device)
        seed = None if generator is None else _drawn(generator)
        with torch.no_grad(), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            for row, ids, length, count in zip(waves, tokens.ids, tokens.lengths.tolist(), counts, strict=True):
                if length:
                    noise = None if seed is None else torch.Generator().manual_seed(seed)
                    wave = decoder(ids[:length], steps=steps, guidance=guidance, generator=noise)
                    wave = (wave if rate == own_rate else _resampled(wave, own_rate, rate))[:count]
                    row[: len(wave)] = wave
        return waves

    @property
    def has_vocoder(self) -> bool:
        """Whether there is a decoder, whose last part is a vocoder."""
        return not isinstance(self.decoder, NoDecoder)

    @torch.no_grad()
    def vocode(self, wave: Tensor) -> Tensor:
        """Make a wave again from its mel spectrum, tokens left out: what the decoder's vocoder alone does to it.

        Args:
            wave: (samples,) at `spec.sample_rate`, -1…1, at least a token's.

        Returns:
            (samples,) at that rate, up to 12 ms shorter.

        Raises:
            InputError: The wave is unusable.
            TokenError: This tokenizer has no decoder.
        """
        decoder, rate = self._require_decoder(), self.config.sample_rate
        wave = self.as_batch(wave)[0][0]
        if len(wave) < self.config.token_samples:
            raise InputError(f"a wave of at least {self.config.token_samples} samples is needed, got {len(wave)}.")
        copied = decoder.copy(_resampled(wave, rate, decoder.config.sample_rate))
        return _resampled(copied, decoder.config.sample_rate, rate)[: len(wave)]

    def num_tokens(self, length: int) -> int:
        """Return ⌈length / 640⌉, at 16 kHz and 25 tokens a second."""
        return -(-length // self.config.token_samples)

    def output_lengths(self, tokens: Tokens, sample_rate: int | None = None) -> Tensor:
        """Return how many samples each item stands for, (B,) int64.

        Args:
            tokens: The items.
            sample_rate: Hz that samples are counted at; `spec.sample_rate` if None.

        Raises:
            ConfigError: There is no such rate.
        """
        if sample_rate is not None and (type(sample_rate) is not int or sample_rate < 1):
            raise ConfigError(f"sample_rate must be a whole number of Hz, at least 1, got {shown(sample_rate)}.")
        most, known = tokens.lengths * self.config.token_samples, tokens.signal_lengths
        samples = most if known is None else torch.minimum(known, most)
        own_rate = self.config.sample_rate
        return samples if sample_rate is None else -(-samples * sample_rate // own_rate)

    def _encode_segments(self, segments: list[Tensor], finish: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Return what `finish` makes of the vectors of each wave of at most one segment, (T, …)."""
        if not self.is_exact:
            return encode_together(self.features, self.encoder, segments, finish)
        self._require_float32(self)
        pieces = sum(self.encoder.num_pieces(self._num_frames(wave)) for wave in segments)
        together = self.config.segment_samples * torch.get_num_threads()

        def encode(run: Run) -> list[Tensor]:
            done = []
            for group in groups(segments, together):
                mels = run(self.features.alone, group)
                hidden = self.encoder.apart(mels, [self._num_frames(wave) for wave in group], run)
                done += run(finish, hidden)
            return [made[0] for made in done]

        return canonical(self.device, pieces, encode)

    def _ids_of(self, wave: Tensor) -> Tensor:
        return self._encode_segments([wave], self.quantizer.ids)[0]

    def _block(self, block: Any) -> Tensor:
        """Return a checked wave (samples,) of a stream, perhaps an empty one."""
        if not isinstance(block, (Tensor, np.ndarray)) or block.ndim != 1:
            found = f"the shape {tuple(block.shape)}" if hasattr(block, "shape") else type(block).__name__
            raise InputError(f"a stream is made of consecutive waves (samples,), tensors or arrays, got {found}.")
        return self.as_batch(block)[0][0] if len(block) else torch.zeros(0, dtype=torch.float32, device=self.device)

    @property
    def _longest(self) -> int:
        return self.config.segment_samples // self.config.token_samples

    def _seconds(self, num_tokens: int) -> float:
        return num_tokens * self.config.token_samples / self.config.sample_rate

    def _tokens_of(self, name: str, seconds: float, most: int | None = None) -> int:
        """Return how many tokens an option of so many seconds is."""
        num_tokens = whole_tokens(name, seconds, self.config.sample_rate / self.config.token_samples)
        if most is not None and num_tokens > most:
            raise ConfigError(f"{name} must be at most {self._seconds(most):g} s, got {seconds:g}.")
        return num_tokens

    def _num_frames(self, wave: Tensor) -> int:
        return -(-len(wave) // self.config.hop_length)

    def _require_decoder(self) -> SpeechDecoder:
        self.require_decoder("decode")
        if self.config.decoder is None:
            raise TokenError(
                f"{self.name} turns speech into tokens only: this checkpoint has no waveform decoder. Use the ids as "
                "they are, or tokenizer.quantizer.codes(ids), the vectors they stand for."
            )
        self._require_float32(self.decoder)
        return cast("SpeechDecoder", self.decoder)

    def _require_float32(self, part: nn.Module) -> None:
        dtypes = {p.dtype for p in part.parameters()} - {torch.float32}
        if dtypes:
            raise ConfigError(
                f"{self.name} gives the same ids only in float32, and has weights in {', '.join(map(str, dtypes))}: "
                "call tokenizer.float(), or better load it again without dtype, for the digits that are lost."
            )


def _build_decoder(config: DecoderConfig) -> SpeechDecoder:
    # Its code is loaded for those alone who decode.
    from zoo.families.stabletoken.decoder.speech import SpeechDecoder

    return SpeechDecoder(config)


def _drawn(generator: torch.Generator) -> int:
    """Return a seed that a generator gives."""
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))


def _resampled(wave: Tensor, rate: int, new_rate: int) -> Tensor:
    from zoo.data.audio import change_rate

    return change_rate(wave, rate, new_rate)
