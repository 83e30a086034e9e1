"""Speech tokenizers to compare with, for a STAB-style suite: `zoo.evaluation.peers:mel_kmeans`, `:encodec_random`.

They are callables as `zoo.evaluation.subject` says, and learn what little they need from the suite's training
recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.components.audio.mel import mel_magnitudes
from zoo.errors import ConfigError, MissingExtraError, NotFittedError
from zoo.process.fresh import fresh

__all__ = ["EncodecRandom", "MelKMeans", "encodec_random", "mel_kmeans"]

Wave = NDArray[np.float32]
Ids = NDArray[np.int64]

_MEL_BINS = 80
_FLOOR = 1e-5
_NUM_STEPS = 30
_MOST_FRAMES = 40_000
_CHUNK = 4096


@dataclass(frozen=True)
class MelKMeans:
    """Units as HuBERT's, without HuBERT: log-mel frames, each as the nearest of a number of means.

    A frame is 40 ms around the middle of its token's time, and nothing else of the recording matters.

    Args:
        num_units: V.
        token_rate: Tokens a second.
        means: [V, bands], float32; None before `fit`.
    """

    num_units: int = 500
    token_rate: float = 50.0
    means: Tensor | None = None

    is_deterministic: ClassVar[bool] = True
    remark: ClassVar[str] = "k-means on log-mel frames, fitted in this run"
    sample_rate: ClassVar[int] = 16000

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """K sizes."""
        return (self.num_units,)

    @property
    def hop(self) -> int:
        """Samples a token."""
        return round(self.sample_rate / self.token_rate)

    @property
    def settings(self) -> dict[str, Any]:
        """What it is made with."""
        return {"num_units": self.num_units, "bands": _MEL_BINS}

    def fit(self, waves: Sequence[Wave], sample_rate: int, seed: int) -> MelKMeans:
        """Return one with the means of recordings' frames, found by Lloyd's algorithm from frames that are drawn.

        Raises:
            ConfigError: There are fewer frames than means.
        """
        frames = torch.cat([self._frames(wave, sample_rate) for wave in waves])
        generator = torch.Generator().manual_seed(seed)
        frames = frames[torch.randperm(len(frames), generator=generator)[:_MOST_FRAMES]]
        if len(frames) < self.num_units:
            raise ConfigError(f"{self.num_units} means need as many frames to learn from, and there are {len(frames)}.")
        return MelKMeans(self.num_units, self.token_rate, _lloyd(frames, self.num_units, generator))

    def __call__(self, wave: Wave, sample_rate: int) -> Ids:
        """Return the ids [1, T].

        Raises:
            NotFittedError: `fit` was not called.
            ConfigError: The rate is another.
        """
        if self.means is None:
            raise NotFittedError("mel_kmeans has no means yet: call fit(waves, sample_rate, seed) and use its result.")
        ids: Ids = _nearest(self._frames(wave, sample_rate), self.means)[None].numpy()
        return ids

    def _frames(self, wave: Wave, sample_rate: int) -> Tensor:
        """Return the log-mel frames [T, bands] of a wave."""
        if sample_rate != self.sample_rate:
            raise ConfigError(f"mel_kmeans takes waves at {self.sample_rate} Hz, got {sample_rate} Hz.")
        size, hop = 640, self.hop
        count = -(-len(wave) // hop)
        # A token's frame is centred on the middle of its hop.
        side = (size - hop) // 2
        padded = torch.nn.functional.pad(torch.from_numpy(np.array(wave)), (side, count * hop - len(wave) + size))
        energies = mel_magnitudes(
            padded, sample_rate, num_mel=_MEL_BINS, n_fft=size, hop_length=hop, equal_area=False, power=2
        )
        return energies.T[:count].clamp(min=_FLOOR).log()


@dataclass(frozen=True)
class EncodecRandom:
    """EnCodec's network (Défossez et al., arXiv 2210.13438) as transformers has it, at 16 kHz, with random weights.

    No weights of a neural codec come with a package, so that this tells what the architecture alone does: weights are
    transformers' own random ones, and the two codebooks are drawn from the network's vectors of training recordings, as
    EnCodec's own are before training. It says nothing of a trained EnCodec.
    """

    model: Any = None
    seed: int = 0

    codebook_sizes: ClassVar[tuple[int, ...]] = (1024, 1024)
    token_rate: ClassVar[float] = 50.0
    hop: ClassVar[int] = 320
    is_deterministic: ClassVar[bool] = True
    remark: ClassVar[str] = "RANDOM WEIGHTS: EnCodec's architecture, untrained"
    sample_rate: ClassVar[int] = 16000

    @property
    def settings(self) -> dict[str, Any]:
        """What it is made with."""
        return {"architecture": "transformers.EncodecModel", "weights": "random", "seed": self.seed}

    def fit(self, waves: Sequence[Wave], sample_rate: int, seed: int) -> EncodecRandom:
        """Return one with random weights, and with codebooks of recordings' vectors.

        Raises:
            MissingExtraError: transformers is not installed.
        """
        try:
            from transformers import EncodecConfig, EncodecModel
        except ImportError as error:
            raise MissingExtraError(
                "encodec_random needs transformers, of the extra 'eval': pip install 'tokenizer-zoo[eval]'."
            ) from error
        with fresh(seed=seed):
            model = EncodecModel(EncodecConfig(sampling_rate=self.sample_rate, target_bandwidths=[1.0])).eval()
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(waves), generator=generator)[:40].tolist()
        with torch.no_grad():
            left = torch.cat([model.encoder(_batch(waves[place])[:, :, : 5 * sample_rate])[0].T for place in chosen])
            for layer in model.quantizer.layers[: len(self.codebook_sizes)]:
                book = layer.codebook.embed
                drawn = left[torch.randperm(len(left), generator=generator)[: len(book)]]
                book[: len(drawn)] = drawn
                left = left - book[_nearest(left, book)]
        return EncodecRandom(model, seed)

    @torch.no_grad()
    def __call__(self, wave: Wave, sample_rate: int) -> Ids:
        """Return the ids [2, T].

        Raises:
            NotFittedError: `fit` was not called.
            ConfigError: The rate is another.
        """
        if self.model is None:
            raise NotFittedError("encodec_random has no weights yet: call fit(waves, sample_rate, seed).")
        if sample_rate != self.sample_rate:
            raise ConfigError(f"encodec_random takes waves at {self.sample_rate} Hz, got {sample_rate} Hz.")
        ids: Ids = self.model.encode(_batch(wave), bandwidth=1.0).audio_codes[0, 0].numpy()
        return ids


mel_kmeans = MelKMeans()
"""500 units at 50 a second."""

encodec_random = EncodecRandom()
"""Two codebooks of 1024 ids at 50 a second, 1 kbit/s."""


def _batch(wave: Wave) -> Tensor:
    return torch.from_numpy(np.array(wave))[None, None]


def _nearest(vectors: Tensor, means: Tensor) -> Tensor:
    """Return the number of the nearest mean of each vector [N, D], [N]."""
    # Of |v - m|² the first term is the same for all means.
    halves = means.square().sum(1) / 2
    return torch.cat([(part @ means.T - halves).argmax(1) for part in torch.split(vectors, _CHUNK)])


def _lloyd(frames: Tensor, count: int, generator: torch.Generator) -> Tensor:
    means = frames[torch.randperm(len(frames), generator=generator)[:count]].clone()
    for _ in range(_NUM_STEPS):
        ids = _nearest(frames, means)
        sums = torch.zeros_like(means, dtype=torch.float64).index_add_(0, ids, frames.double())
        sizes = torch.bincount(ids, minlength=count)
        # A mean without frames stays where it is.
        means = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1)[:, None], means.double()).float()
    return means
