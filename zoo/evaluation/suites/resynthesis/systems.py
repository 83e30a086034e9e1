"""What makes speech again of speech: tokenizers, their vocoder alone, any function, and nothing at all."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from zoo import config
from zoo.data.audio import change_rate
from zoo.errors import InputError
from zoo.evaluation.functions import named_function
from zoo.evaluation.items import load_for
from zoo.modalities.speech import SpeechTokenizer
from zoo.tokenizer import Tokenizer

__all__ = ["Function", "Recording", "RoundTrip", "System", "Vocoder", "systems"]


class System(ABC):
    """Makes a wave (samples,) of a recording, at its rate and as long.

    Attributes:
        name: As the report has it.
        settings: As the report has them.
        seconds: How long it took last time to make a wave of what was there before it, tokens for instance; None where
            nothing is made.
    """

    def __init__(self, name: str, settings: dict[str, Any] | None = None) -> None:
        self.name = name
        self.settings = settings or {}
        self.seconds: float | None = None

    @abstractmethod
    def make(self, recording: Tensor, sample_rate: int) -> Tensor:
        """Return the wave, of any length, at the recording's rate; set `seconds`."""

    def __call__(self, recording: Tensor, sample_rate: int) -> Tensor:
        """Return a wave as long as the recording: what is missing is silence, which costs what it costs.

        Raises:
            InputError: What came out is no wave.
        """
        with torch.no_grad():
            wave = self.make(recording, sample_rate)
        if wave.ndim != 1 or not bool(wave.isfinite().all()):
            raise InputError(f"{self.name} must make a wave of finite samples (samples,), got {tuple(wave.shape)}.")
        wave = wave.detach().to("cpu", torch.float32).clamp(-1, 1)[: len(recording)]
        return pad(wave, (0, len(recording) - len(wave)))


class Recording(System):
    """The recording as it is: what the measures say of real speech."""

    def __init__(self) -> None:
        super().__init__("recording")

    def make(self, recording: Tensor, sample_rate: int) -> Tensor:
        """Return the recording."""
        return recording


class _OfTokenizer(System):
    def __init__(self, name: str, tokenizer: Tokenizer) -> None:
        super().__init__(name, config.to_dict(tokenizer.config))
        self.tokenizer = tokenizer

    def _timed(self, make: Callable[[], Tensor]) -> Tensor:
        start = time.perf_counter()
        wave = make()
        if wave.device.type == "cuda":
            torch.cuda.synchronize(wave.device)
        self.seconds = time.perf_counter() - start
        return wave

    def _rate(self, sample_rate: int) -> int:
        return int(self.tokenizer.spec.sample_rate or sample_rate)


class RoundTrip(_OfTokenizer):
    """A tokenizer's `decode(encode(x))`; the seconds are those of `decode`."""

    def make(self, recording: Tensor, sample_rate: int) -> Tensor:
        """Encode and decode."""
        rate = self._rate(sample_rate)
        tokens = self.tokenizer.encode(_resampled(recording, sample_rate, rate))
        wave = self._timed(lambda: self.tokenizer.decode(tokens)[0])
        return _resampled(wave[: int(self.tokenizer.output_lengths(tokens)[0])].cpu(), rate, sample_rate)


class Vocoder(_OfTokenizer):
    """A tokenizer's `vocode(x)`: the recording's spectrum made sound by the decoder's last part, tokens left out.

    What this loses is the vocoder's; what the round trip loses beyond it is the tokens' and that of what makes spectra
    of them. A tokenizer has this row if it says `has_vocoder`.
    """

    def make(self, recording: Tensor, sample_rate: int) -> Tensor:
        """Analyse and synthesise."""
        rate = self._rate(sample_rate)
        wave = _resampled(recording, sample_rate, rate).to(self.tokenizer.device)
        tokenizer = cast("SpeechTokenizer", self.tokenizer)
        return _resampled(self._timed(lambda: tokenizer.vocode(wave)).cpu(), rate, sample_rate)


class Function(System):
    """Any function of a wave (samples,) and its rate in Hz that returns a wave at that rate."""

    def __init__(self, name: str, function: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__(name, {"function": name})
        self.function = function

    def make(self, recording: Tensor, sample_rate: int) -> Tensor:
        """Call the function."""
        start = time.perf_counter()
        wave = torch.as_tensor(self.function(recording.clone(), sample_rate))
        self.seconds = time.perf_counter() - start
        return wave


def systems(name: str) -> Iterator[System]:
    """Yield what is measured of a model: its vocoder alone if it has one, then the model.

    Args:
        name: Registered name, folder, Hub address, or `module:function`, which is imported: only a name that the caller
            typed, never one out of a file.

    Raises:
        InputError: It is not for speech, or there is no such function.
    """
    if function := named_function(name):
        yield Function(name, function)
        return
    tokenizer = load_for(name, "speech")
    if isinstance(tokenizer, SpeechTokenizer) and tokenizer.has_vocoder:
        yield Vocoder(f"{name}: vocoder alone", tokenizer)
    yield RoundTrip(name, tokenizer)


def _resampled(wave: Tensor, rate: int, new_rate: int) -> Tensor:
    return wave if rate == new_rate else change_rate(wave, rate, new_rate)
