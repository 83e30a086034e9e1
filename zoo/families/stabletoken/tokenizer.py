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

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn

from zoo.components.audio.log_mel import LogMel
from zoo.components.exact.one_by_one import Run, canonical, same_kernels
from zoo.components.quantizers import Quantizer, build
from zoo.components.windows import groups
from zoo.data.audio import change_rate
from zoo.data.blocks import change_rate_of_blocks
from zoo.errors import CheckpointError, ConfigError, InputError, TokenError
from zoo.families.stabletoken.config import StableTokenConfig
from zoo.families.stabletoken.encoder import SpeechEncoder
from zoo.families.stabletoken.fast import encode_together
from zoo.families.stabletoken.options import DecodeOptions
from zoo.modalities.speech import SegmentedSpeechTokenizer
from zoo.process.progress import counted, part
from zoo.process.random import require_generator
from zoo.spec import TokenSpec
from zoo.tokenizer import NoDecoder
from zoo.tokens import Tokens

if TYPE_CHECKING:
    from zoo.families.stabletoken.decoder import DecoderConfig
    from zoo.families.stabletoken.decoder.speech import SpeechDecoder

__all__ = ["NoDecoder", "StableTokenTokenizer"]


class StableTokenTokenizer(SegmentedSpeechTokenizer):
    """Speech (B, samples) → ids (B, T), one for every 40 ms begun; (B, T, K) if the quantizer has K codebooks.

    Speech of more than 30 s is cut into consecutive segments of 30 s, each encoded alone; the last may be shorter. As
    published, a token depends on the whole of its segment, so this is no streaming model: another cut gives other
    tokens, of `encode_chunks` as well (`eval/invariance.yaml` measures how many differ). With `attention_reach`, what
    is further away than the layers reach together says nothing but how loud a segment's loudest moment is, from which
    spectra are floored.

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

    def decode(
        self,
        tokens: Any,
        lengths: Any = None,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        temperature: float | None = None,
        generator: torch.Generator | None = None,
        sample_rate: int | None = None,
        voice: str | Tensor | None = None,
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
            temperature: What the noise that the spectrum starts from is scaled by; as in the decoder's config, 1 as
                published, if None. Less keeps to what is likely: plainer, and better understood.
            generator: Source of the random numbers, which one number from it starts; the decoder's own seed if None.
            sample_rate: Hz of the result. If None, that of speech to encode, `spec.sample_rate`, to which the decoder's
                waves are resampled; they are not with `config.decoder.sample_rate`.
            voice: Whose voice it has: a name of `config.decoder.voices`, or the vector (S,) of a speaker that the
                decoder was made for. If None, `config.decoder.voice`'s, in published models no one's in particular.

        Returns:
            (B, samples) float32, 0 past the end of each item; `output_lengths` says where that is.

        Raises:
            TokenError: Ids out of range, of the wrong shape or another model's; or this tokenizer has no decoder.
            ConfigError: The weights are not in float32, or an option is not usable.
            InputError: It cannot be resampled to such a rate, or there is no such voice.
            CheckpointError: The decoder's weights make NaN or infinities.
        """
        tokens = self.as_tokens(tokens, lengths)
        decoder = self._require_decoder()
        own_rate = decoder.config.sample_rate
        rate = self.config.sample_rate if sample_rate is None else sample_rate
        counts = self.output_lengths(tokens, rate).tolist()
        waves = torch.zeros(len(tokens), max(counts, default=0), dtype=torch.float32, device=self.device)
        seed = None if generator is None else _drawn(generator)
        speaker = _voice(decoder, voice)
        with same_kernels, torch.no_grad(), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            rows = zip(waves, tokens.ids, tokens.lengths.tolist(), counts, strict=True)
            for number, (row, ids, length, count) in enumerate(rows):
                if not length:
                    continue
                with part(number / len(waves), (number + 1) / len(waves)):
                    noise = None if seed is None else torch.Generator().manual_seed(seed)
                    pieces = decoder.pieces(
                        ids[:length],
                        steps=steps,
                        guidance=guidance,
                        temperature=temperature,
                        generator=noise,
                        speaker=speaker,
                    )
                    place = 0
                    for piece in _at_rate(pieces, own_rate, rate):
                        kept = piece[: count - place]
                        row[place : place + len(kept)] = kept
                        place += len(kept)
        if not waves.isfinite().all():
            raise CheckpointError(
                f"the decoder of {self.name} makes values that are not finite: its weights are damaged, get them "
                "again; or guidance is far too large."
            )
        return waves

    def check_decode(self, tokens: Tokens | None = None, **options: Any) -> None:
        """Refuse to decode without a decoder, or with steps, numbers or voices that there cannot be."""
        super().check_decode(tokens, **options)
        decoder = self._require_decoder()
        decoder.flow_settings(*(options.get(name) for name in ("steps", "guidance", "temperature")))
        _voice(decoder, options.get("voice"))

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
        copied = decoder.copy(change_rate(wave, rate, decoder.config.sample_rate))
        return change_rate(copied, decoder.config.sample_rate, rate)[: len(wave)]

    def encode_segments(self, segments: list[Tensor], finish: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Return what `finish` makes of the vectors of each wave of at most one segment, (T, …).

        They are a function of the wave alone, since every kernel computes on one item, one thread and in float32 (see
        `canonical`). Shapes, and so the speed, are those of items encoded one after another; on the CPU, the threads
        that `torch.get_num_threads()` allows share the work. In fast mode, what is about as long is computed together,
        in the encoder's dtype or that of an autocast.
        """
        if not self.is_exact:
            return encode_together(self.features, self.encoder, segments, finish)
        self._require_float32(self)
        pieces = sum(self.encoder.num_pieces(self._num_frames(wave)) for wave in segments)
        together = self.config.segment_samples * torch.get_num_threads()

        several = list(groups(segments, together))
        counted_groups = counted(several, len(several))

        def encode(run: Run) -> list[Tensor]:
            done = []
            for group in counted_groups:
                mels = run(self.features.alone, group)
                hidden = self.encoder.apart(mels, [self._num_frames(wave) for wave in group], run)
                done += run(finish, hidden)
            return [made[0] for made in done]

        return canonical(self.device, pieces, encode)

    def vectors(self, wave: Tensor) -> Tensor:
        """Return the vectors that are quantized of a wave, with gradients: those of `encode_latents` up to rounding.

        Args:
            wave: (samples,) at `spec.sample_rate`, at least one.

        Returns:
            (T, D), differentiable by the wave.
        """
        parts = []
        for segment in torch.split(wave, self.config.segment_samples):
            mel, frames = self.features(segment[None], torch.tensor([len(segment)], device=wave.device))
            parts.append(self.encoder(mel.to(self.encoder.conv1.weight.dtype), frames)[0][0].float())
        return torch.cat(parts)

    @property
    def segment_tokens(self) -> int:
        """Tokens of 30 s of speech."""
        return self.config.segment_samples // self.config.token_samples

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


def _voice(decoder: SpeechDecoder, voice: str | Tensor | None) -> Tensor:
    from zoo.families.stabletoken.decoder.voices import voice_vector

    return voice_vector(voice, decoder.config)


def _at_rate(pieces: Iterator[Tensor], rate: int, new_rate: int) -> Iterator[Tensor]:
    """Yield the consecutive pieces (samples,) of a wave at another rate."""
    first, second = next(pieces), next(pieces, None)
    if rate == new_rate or second is None:
        yield first if rate == new_rate else change_rate(first, rate, new_rate)
        yield from [] if second is None else chain([second], pieces)
    else:
        yield from change_rate_of_blocks(chain([first, second], pieces), rate, new_rate)


def _drawn(generator: torch.Generator) -> int:
    """Return a seed that a generator gives."""
    require_generator(generator)
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))
