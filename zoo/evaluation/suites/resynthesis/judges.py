"""The measures of a clip, each of which may lack the package or the weights it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from zoo.errors import CheckpointError, MissingExtraError
from zoo.evaluation.suites.resynthesis.config import ResynthesisSuite
from zoo.metrics.speech.resynthesis import log_mel_distance, mel_cepstral_distortion
from zoo.metrics.speech.speech_quality import distill_mos, dnsmos, pesq, stoi
from zoo.metrics.speech.transcription import Transcriber
from zoo.metrics.tokens.edits import character_edits, word_edits

__all__ = ["JUDGES", "TEXT_RATES", "Judges", "text_counts"]

Judge = Callable[[Tensor, Tensor, int], float]

JUDGES: Mapping[str, Judge] = MappingProxyType(
    {
        "mel_distance": log_mel_distance,
        "cepstral_distortion": mel_cepstral_distortion,
        "stoi": stoi,
        "pesq": pesq,
        "dnsmos": lambda wave, recording, sample_rate: dnsmos(wave, sample_rate),
        "distill_mos": lambda wave, recording, sample_rate: distill_mos(wave, sample_rate),
    }
)
"""Measures by name: a wave, the recording as long, their rate → a number; NaN where it is not defined."""

TEXT_RATES = {"wer": ("word_edits", "words"), "cer": ("character_edits", "characters")}
"""Which counts make which rate."""


class Judges:
    """Measures clips with all that a suite names and that can be had.

    Args:
        suite: What to measure.
        has_texts: Whether there are transcripts, without which nothing is read.

    Attributes:
        missing: Why a measure cannot be made, by name.
    """

    def __init__(self, suite: ResynthesisSuite, *, has_texts: bool = True) -> None:
        self.missing: dict[str, str] = {}
        self._judges: dict[str, Judge] = {}
        self._transcribe: Transcriber | None = None
        # Asked once before there is any work, so that what is not there is known from the start.
        hum = 0.1 * torch.sin(torch.arange(suite.data.sample_rate) * 0.05)
        for name in suite.measures:
            try:
                if name == "wer" and not has_texts:
                    self.missing[name] = (
                        f"no clip has a transcript in {suite.language!r}: point --data at a manifest whose lines have "
                        "a text, and a lang if they are in several."
                    )
                elif name == "wer":
                    self._transcribe = Transcriber(suite.recognizer.path, suite.language)
                else:
                    JUDGES[name](hum, hum, suite.data.sample_rate)
                    self._judges[name] = JUDGES[name]
            except MissingExtraError as error:
                self.missing[name] = str(error)
            except CheckpointError as error:
                self.missing[name] = f"{error} Make it with `{suite.recognizer.made_by}`."

    @property
    def names(self) -> list[str]:
        """Measures that can be made, without `wer`."""
        return list(self._judges)

    def __call__(self, wave: Tensor, recording: Tensor, sample_rate: int) -> dict[str, float]:
        """Return each of `names` for one clip."""
        return {name: judge(wave, recording, sample_rate) for name, judge in self._judges.items()}

    def transcribe(self, wave: Tensor, sample_rate: int) -> str | None:
        """Return what the recogniser reads; None if there is none."""
        return None if self._transcribe is None else self._transcribe(wave, sample_rate)


def text_counts(heard: str, text: str) -> dict[str, float]:
    """Return the edits in words and characters and the transcript's numbers of these, as `TEXT_RATES` names them."""
    counts = word_edits([heard], [text])[0].tolist() + character_edits([heard], [text])[0].tolist()
    return dict(zip([name for pair in TEXT_RATES.values() for name in pair], counts, strict=True))
