"""What tokenizers of speech have in common: rates, a vocoder perhaps, and segments where the encoder sees no more."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from zoo.components.quantizers import Quantizer
from zoo.components.windows import Chunking, cut, in_chunks, whole_tokens
from zoo.data import signals
from zoo.data._source import Source, is_source
from zoo.errors import ConfigError, InputError, shown
from zoo.tokenizer import Tokenizer
from zoo.tokens import Latents, Tokens

__all__ = ["EncodeOptions", "SegmentedSpeechTokenizer", "SpeechTokenizer"]


class SpeechTokenizer(Tokenizer):
    """A tokenizer of speech (B, samples) in -1…1 at `spec.sample_rate` Hz, with `spec.token_rate` tokens a second."""

    @property
    def token_samples(self) -> int:
        """Samples that a token stands for."""
        return round((self.spec.sample_rate or 0) / (self.spec.token_rate or 1))

    def num_tokens(self, length: int) -> int:
        """Return how many tokens `length` samples give: one for every `token_samples` begun."""
        return -(-length // self.token_samples)

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
        most, known = tokens.lengths * self.token_samples, tokens.signal_lengths
        samples = most if known is None else torch.minimum(known, most)
        return samples if sample_rate is None else -(-samples * sample_rate // int(self.spec.sample_rate or 1))

    @property
    def has_vocoder(self) -> bool:
        """Whether `vocode` works: a part of the decoder makes waves of spectra, and so of a recording's own."""
        return False

    def vocode(self, wave: Tensor) -> Tensor:
        """Make a wave again from its own spectrum, tokens left out: what the decoder's last part alone does to it.

        Args:
            wave: (samples,) at `spec.sample_rate`, -1…1.

        Returns:
            (samples,) at that rate.

        Raises:
            ConfigError: There is no vocoder.
        """
        raise ConfigError(f"{self.name} has no vocoder.")


@dataclass(frozen=True)
class EncodeOptions:
    """Options of `encode`: two of reading files, and seconds that neighbouring segments have in common."""

    resample: bool = False
    mix_down: bool = False
    overlap: float = 0.0


class SegmentedSpeechTokenizer(SpeechTokenizer):
    """A tokenizer of speech whose encoder sees a segment at a time: longer speech is cut, each piece encoded alone."""

    encode_options: ClassVar[type] = EncodeOptions

    quantizer: Quantizer

    @property
    @abstractmethod
    def segment_tokens(self) -> int:
        """Tokens of the longest segment."""

    @abstractmethod
    def encode_segments(self, segments: list[Tensor], finish: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Encode waves (samples,) of at most a segment.

        Args:
            segments: The waves, at least one.
            finish: Vectors (1, T, D) → what is made of them, such as ids (1, T).

        Returns:
            What `finish` made of each, (T, …), a function of the wave alone unless in fast mode.
        """

    def encode(
        self, x: Any, lengths: Any = None, *, resample: bool = False, mix_down: bool = False, overlap: float = 0.0
    ) -> Tokens:
        """Turn speech into tokens, one for every `token_samples` begun.

        Args:
            x: (B, samples) or (samples,) in -1…1 at `spec.sample_rate`, a path, an array, `(wave, rate)`, or a list.
            lengths: (B,) samples of each item of a padded batch.
            resample: Resample speech of another rate instead of refusing it.
            mix_down: Average the channels of speech instead of refusing more than one.
            overlap: Seconds that neighbouring segments have in common, a multiple of a token's. Each keeps the tokens
                that are further from its end, so that all but the first and the last have seen half of these seconds on
                either side. Their number stays the same. 0 gives other tokens of speech of more than a segment, and the
                same of less.

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
        longest, shared = self.segment_tokens, self._shared_tokens(overlap)
        speech = self.as_ragged(x, lengths, resample=resample, mix_down=mix_down)
        waves, samples = speech.items(), speech.lengths
        counts = -(-samples // self.token_samples)
        pieces = [(row, piece) for row, count in enumerate(counts.tolist()) for piece in cut(count, longest, shared)]
        segments = [piece.samples(waves[row], self.token_samples) for row, piece in pieces]
        parts = self.encode_segments(segments, finish)
        made = parts[0].new_zeros((len(waves), int(counts.max()), *parts[0].shape[1:]))
        for (row, piece), part in zip(pieces, parts, strict=True):
            made[row, piece.first : piece.last] = piece.kept(part)
        return made, counts, samples

    def encode_chunks(
        self,
        x: Source | Tensor | Iterable[Tensor],
        *,
        chunk: float = 10.0,
        left: float = 5.0,
        right: float = 5.0,
        resample: bool = False,
        mix_down: bool = False,
    ) -> Iterator[Tokens]:
        """Turn a long file or a stream into tokens, chunk by chunk.

        A token depends on its chunk with declared surroundings, so these are not the tokens of `encode`. They are as
        many, and depend on the speech and on these options alone, not on the blocks it arrives in.

        Args:
            x: A sound file of any kind that `encode` takes, by its path, its bytes, or open, which is then never in
                memory as decoded as a whole; a wave as `encode` takes one; or an iterable of consecutive waves
                (samples,) of any lengths, at `spec.sample_rate`, -1…1.
            chunk: Seconds whose tokens are given together.
            left: Seconds before the chunk that are encoded with it.
            right: Seconds after it that are encoded with it. The tokens of a sample are given once `chunk + right`
                seconds after it have arrived, at the latest.
            resample: Resample a file of another rate instead of refusing it.
            mix_down: Average the channels of a file instead of refusing more than one.

        Returns:
            An iterator over `Tokens` of one item each, to be put together in order; all but the last are as long as a
            chunk. At the start and the end the surroundings are what there is.

        Raises:
            InputError: As for `encode`, perhaps only once what is wrong is reached.
            ConfigError: The weights are not in float32 in exact mode, or the seconds are no multiples of a token's, or
                more than a segment in all.
        """
        chunking = Chunking(
            self._tokens_in("chunk", chunk), self._tokens_in("left", left), self._tokens_in("right", right)
        )
        if not chunking.size or sum(chunking) > self.segment_tokens:
            raise ConfigError(
                f"chunk must be more than 0, and chunk + left + right at most {self._seconds(self.segment_tokens):g} "
                f"s, got {chunk:g} + {left:g} + {right:g}."
            )
        blocks: Iterable[Any]
        if is_source(x):
            from zoo.data.blocks import read_blocks

            rate = int(self.spec.sample_rate or 0)
            blocks = read_blocks(x, sample_rate=rate, resample=resample, mix_down=mix_down)
        elif isinstance(x, (Tensor, np.ndarray)):
            blocks = [x]
        elif isinstance(x, Mapping) or (isinstance(x, tuple) and signals.of("speech").is_one(x)):
            blocks = self.as_batch([x], resample=resample, mix_down=mix_down)[0]
        else:
            blocks = cast("Iterable[Any]", x)
        made = in_chunks(map(self._block, blocks), chunking, self.token_samples, self._ids_of)
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

    def encode_stream(
        self, x: Source | Tensor | Iterable[Tensor], *, resample: bool = False, mix_down: bool = False
    ) -> Tokens:
        """Return the tokens that `encode` gives of one item, in memory that is that of a segment however long it is.

        Arguments and errors are those of `encode_chunks`.
        """
        segment = self._seconds(self.segment_tokens)
        parts = list(self.encode_chunks(x, chunk=segment, left=0.0, right=0.0, resample=resample, mix_down=mix_down))
        counts, samples = (
            torch.stack([getattr(part, name) for part in parts]).sum(0) for name in ("lengths", "signal_lengths")
        )
        ids = torch.cat([part.ids for part in parts], 1)
        return Tokens(ids, counts, self.spec.require_codebook(), self.name, signal_lengths=samples)

    def _ids_of(self, wave: Tensor) -> Tensor:
        return self.encode_segments([wave], self.quantizer.ids)[0]

    def _block(self, block: Any) -> Tensor:
        """Return a checked wave (samples,) of a stream, perhaps an empty one."""
        if not isinstance(block, (Tensor, np.ndarray)) or block.ndim != 1:
            found = f"the shape {tuple(block.shape)}" if hasattr(block, "shape") else type(block).__name__
            raise InputError(f"a stream is made of consecutive waves (samples,), tensors or arrays, got {found}.")
        return self.as_batch(block)[0][0] if len(block) else torch.zeros(0, dtype=torch.float32, device=self.device)

    def check_encode(self, **options: Any) -> None:
        """Refuse an overlap that is no part of a segment; see `Tokenizer.check_encode`."""
        super().check_encode(**options)
        self._shared_tokens(options.get("overlap", 0.0))

    def _shared_tokens(self, overlap: float) -> int:
        """Return how many tokens neighbouring segments have in common."""
        shared, longest = self._tokens_in("overlap", overlap), self.segment_tokens
        if shared >= longest:
            raise ConfigError(f"overlap must be at most {self._seconds(longest - 1):g} s, got {overlap:g}.")
        return shared

    def _seconds(self, num_tokens: int) -> float:
        return num_tokens / (self.spec.token_rate or 1)

    def _tokens_in(self, name: str, seconds: float) -> int:
        return whole_tokens(name, seconds, self.spec.token_rate or 1)
