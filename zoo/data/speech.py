"""Speech with transcripts, listed by manifests, for training: clean and noisy views of each utterance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo import resources
from zoo.data.datamodule import DataModule, Split
from zoo.data.manifest import Utterance, default_folder, read_manifest
from zoo.data.perturbations.noise import NoiseBank, RandomPerturbation
from zoo.errors import ConfigError, shown
from zoo.strict import is_file

__all__ = ["SpeechBatch", "SpeechData", "SpeechItems"]


class SpeechBatch(NamedTuple):
    """What `SpeechData` gives a training step.

    Attributes:
        waves: (B, samples) float32, zeros past each item's end.
        noisy: The same utterances perturbed, or `waves` itself where the data has no noise.
        lengths: (B,) int64, samples of each item.
        texts: Transcripts, "" where there is none to learn from.
        languages: ISO codes, "" where unknown.
        speakers: Names, "" where unknown.
    """

    waves: Tensor
    noisy: Tensor
    lengths: Tensor
    texts: list[str]
    languages: list[str]
    speakers: list[str]


class SpeechItems(Dataset[tuple[Tensor, Tensor, str, str, str]]):
    """Utterances as (wave (samples,), the same perturbed, transcript, language, speaker).

    Args:
        utterances: What to read: stretches of files.
        sample_rate: Hz; a file of another rate is an error.
        max_samples: Longer utterances are cut to their first so many samples (arXiv 2509.22220, appendix B.8), and lose
            their transcript with the speech.
        perturbation: Makes the noisy view, drawing from torch's default generator; none if None.
        text_languages: Languages whose transcripts are given; all if None.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        sample_rate: int,
        max_samples: int,
        perturbation: RandomPerturbation | None = None,
        text_languages: Sequence[str] | None = None,
    ) -> None:
        self.utterances = utterances
        self.sample_rate = sample_rate
        self.max_samples = max_samples
        self.perturbation = perturbation
        self.text_languages = text_languages

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, str, str, str]:
        utterance = self.utterances[index]
        whole = utterance.read_mono(self.sample_rate)
        wave = whole[: self.max_samples]
        # What was cut off was part of the transcript.
        has_text = len(wave) == len(whole)
        has_text = has_text and (self.text_languages is None or utterance.language in self.text_languages)
        noisy = wave if self.perturbation is None else self.perturbation(wave)
        return wave, noisy, utterance.text if has_text else "", utterance.language, utterance.speaker

    def wave(self, index: int) -> Tensor:
        """Return the wave (samples,) of an utterance, cut if it is too long."""
        return self.utterances[index].read_mono(self.sample_rate)[: self.max_samples]


class SpeechData(DataModule):
    """Speech corpora of manifests: `train.jsonl`, `val.jsonl`, `test.jsonl`.

    Args:
        folder: Where the manifests are; what `recipes/data/speech.py` makes if None.
        noise: Whether to give noisy views: one of the paper's five perturbations each, drawn anew in every epoch, with
            real noise of `noise-train.jsonl`; of `noise-test.jsonl` in validation and testing.
        text_languages: Languages whose transcripts are given; all if None.
        sources: Sources to train on; all if None.
        eval_sources: Sources to validate and test on; all if None.
        eval_speakers: Speakers to validate and test on, of these sources; all if None.
        repeat: How often an epoch has the items of a source, where that is not once.
        max_seconds: Longer utterances are cut.
        eval_items: At most so many items in validation, evenly picked; all if None.
        sample_rate: Hz.
        batch_size: Items of a training batch of one process.
        eval_batch_size: Items of a batch in validation and testing; `batch_size` if None.
        num_workers: Processes that read; 0 reads in the training process. The result is the same.
        seed: Of the order and of the noise.
        pin_memory: Put batches where they are copied to a GPU faster.
    """

    def __init__(
        self,
        folder: str | None = None,
        noise: bool = True,
        text_languages: list[str] | None = None,
        sources: list[str] | None = None,
        eval_sources: list[str] | None = None,
        eval_speakers: list[str] | None = None,
        repeat: dict[str, int] | None = None,
        max_seconds: float = 30.0,
        eval_items: int | None = None,
        sample_rate: int = 16000,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, num_workers, seed, pin_memory)
        if max_seconds <= 0:
            raise ConfigError(f"data: max_seconds must be above 0, got {max_seconds}.")
        if eval_items is not None and eval_items < 1:
            raise ConfigError(f"data: eval_items must be at least 1, got {eval_items}.")
        if any(count < 1 for count in (repeat or {}).values()):
            raise ConfigError(f"data: counts of repeat must be at least 1, got {repeat}.")
        self.folder = default_folder() if folder is None else resources.expanded(folder)
        self.noise = noise
        self.text_languages = text_languages
        self.sources = sources
        self.eval_sources = eval_sources
        self.eval_speakers = eval_speakers
        self.repeat: Mapping[str, int] = repeat or {}
        self.max_seconds = max_seconds
        self.eval_items = eval_items
        self.sample_rate = sample_rate

    def dataset(self, split: Split) -> SpeechItems | None:
        """Return the data set of a split; None if it has no manifest.

        Raises:
            InputError: A manifest is unusable.
            ConfigError: There is no training data, or a source is named that the manifest does not have.
        """
        manifest = self.folder / f"{split}.jsonl"
        if not is_file(manifest):
            if split == "train":
                raise ConfigError(
                    f"{manifest} does not exist: make the corpus with `zoo data speech`, or point "
                    "data.folder at manifests of your own."
                )
            return None
        utterances = read_manifest(manifest)
        _require_known(utterances, "source", self.repeat if split == "train" else (), manifest)
        utterances = _only(utterances, "source", self.sources if split == "train" else self.eval_sources, manifest)
        utterances = _only(utterances, "speaker", None if split == "train" else self.eval_speakers, manifest)
        if split == "train":
            utterances = [u for u in utterances for _ in range(self.repeat.get(u.source, 1))]
        elif split == "val" and self.eval_items is not None:
            step = max(1.0, len(utterances) / self.eval_items)
            utterances = [utterances[int(i * step)] for i in range(min(self.eval_items, len(utterances)))]
        perturbation = None
        if self.noise:
            bank = NoiseBank.from_manifest(self.folder / f"noise-{'train' if split == 'train' else 'test'}.jsonl")
            perturbation = RandomPerturbation(noise_bank=bank)
        return SpeechItems(
            utterances, self.sample_rate, int(self.max_seconds * self.sample_rate), perturbation, self.text_languages
        )

    def collate(self, items: list[tuple[Tensor, Tensor, str, str, str]]) -> SpeechBatch:
        """Pad items to the longest."""
        waves, noisy, texts, languages, speakers = zip(*items, strict=True)
        pad = torch.nn.utils.rnn.pad_sequence
        clean = pad(list(waves), batch_first=True)
        lengths = torch.tensor([len(wave) for wave in waves], device="cpu")
        disturbed = pad(list(noisy), batch_first=True) if self.noise else clean
        return SpeechBatch(clean, disturbed, lengths, list(texts), list(languages), list(speakers))


def _only(utterances: list[Utterance], field: str, names: Sequence[str] | None, manifest: Path) -> list[Utterance]:
    """Return the utterances of some sources or speakers, each of which must be there."""
    if names is None:
        return utterances
    _require_known(utterances, field, names, manifest)
    return [utterance for utterance in utterances if getattr(utterance, field) in names]


def _require_known(utterances: list[Utterance], field: str, names: Iterable[str], manifest: Path) -> None:
    known = {getattr(utterance, field) for utterance in utterances}
    for name in names:
        if name not in known:
            raise ConfigError(f"{manifest} has no {field} {shown(name)}; it has {', '.join(sorted(known))}.")
