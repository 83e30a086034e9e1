"""What a speech recogniser understands: Whisper as transformers runs it, for word error rates of decoded speech."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from zoo.errors import CheckpointError, InputError, MissingExtraError
from zoo.strict import is_file

__all__ = ["Transcriber"]

_RATE = 16000
_START, _TASK, _NO_TIMES = "<|startoftranscript|>", "<|transcribe|>", "<|notimestamps|>"
# Models of several languages have one text token more, and so another id for the end.
_MULTILINGUAL_END = 50257


class Transcriber:
    """Speech → text, by the likeliest word each time (greedy), in a language that is given.

    Every clip is padded to the model's 30 s and read alone, so that its text does not depend on others. The recogniser
    makes errors of its own: read the word error rate of decoded speech beside that of the recordings.

    Args:
        folder: A Whisper model as the Hub has it: `config.json`, `model.safetensors`, `tokenizer.json`; for instance
            what `recipes/data/whisper.py` writes.
        language: ISO code; an English model (`.en`) has no other.
        max_tokens: Text tokens after which it is stopped, since it may repeat itself where there is no speech.

    Raises:
        MissingExtraError: transformers or tokenizers is not installed.
        CheckpointError: The folder is incomplete or not a Whisper model.
        InputError: The model does not know the language.
    """

    def __init__(self, folder: str | os.PathLike[str], language: str = "en", max_tokens: int = 128) -> None:
        self.folder = Path(folder)
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if not is_file(self.folder / name):
                raise CheckpointError(
                    f"{self.folder / name} does not exist; a folder of a Whisper model is expected, as "
                    "`zoo data whisper` writes."
                )
        try:
            from tokenizers import Tokenizer
            from transformers import (
                GenerationConfig,
                GenerationMixin,
                WhisperFeatureExtractor,
                WhisperForConditionalGeneration,
            )
        except ImportError as error:
            raise MissingExtraError(
                f"transcribing needs the packages transformers and tokenizers ({error}): "
                "pip install 'tokenizer-zoo[eval]'."
            ) from error
        self._generate: Any = GenerationMixin.generate
        try:
            model, found = WhisperForConditionalGeneration.from_pretrained(
                self.folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
            )
            self._tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        except Exception as error:  # whatever the libraries meet in a stranger's files
            raise CheckpointError(f"{self.folder} is not a Whisper model that can be read: {error}") from error
        if found["missing_keys"]:  # the library would fill them with random numbers
            raise CheckpointError(f"{self.folder} lacks the tensors {', '.join(sorted(found['missing_keys']))}.")
        self._model: Any = model.eval()
        config = self._model.config
        self._features: Any = WhisperFeatureExtractor(feature_size=config.num_mel_bins)
        # A position is two frames of 10 ms; 30 s in every published model.
        self._features.n_samples = config.max_source_positions * 2 * self._features.hop_length
        self._prompt = self._start(language)
        longest = min(max_tokens, config.max_target_positions - len(self._prompt))
        self._options = GenerationConfig(
            max_new_tokens=longest,
            do_sample=False,
            num_beams=1,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.eos_token_id,
        )

    @property
    def max_seconds(self) -> float:
        """Seconds of the longest clip."""
        return float(self._features.n_samples / _RATE)

    def __call__(self, wave: Tensor, sample_rate: int) -> str:
        """Transcribe a clip.

        Args:
            wave: (samples,) in -1…1.
            sample_rate: Hz, 16000.

        Returns:
            The text as the model writes it; "" if it hears none. `zoo.metrics.tokens.edits.normalize_text` makes
            texts alike.

        Raises:
            InputError: The wave is empty, not finite, too long or at another rate.
        """
        if wave.ndim != 1 or not len(wave) or not bool(wave.isfinite().all()):
            raise InputError(f"a clip is a wave of finite samples (samples,), not empty, got {tuple(wave.shape)}.")
        if sample_rate != _RATE:
            raise InputError(f"Whisper takes speech at {_RATE} Hz, got {sample_rate} Hz: resample it first.")
        if len(wave) > self._features.n_samples:
            raise InputError(
                f"Whisper takes at most {self.max_seconds:g} s at once, got {len(wave) / _RATE:.1f} s: cut it first."
            )
        # The library's own padding goes by its chunk length, in seconds.
        samples = pad(wave.detach().to("cpu", torch.float32), (0, self._features.n_samples - len(wave)))
        features = self._features(samples.numpy(), sampling_rate=_RATE, padding=False, return_tensors="pt")
        with torch.inference_mode():
            states = self._model.model.encoder(features.input_features)
            # Whisper's own `generate` cuts long sound into windows and wants a table of languages that not every
            # folder has; this is the plain one that it ends in.
            found = self._generate(
                self._model,
                encoder_outputs=states,
                decoder_input_ids=torch.tensor([self._prompt]),
                generation_config=self._options,
            )
        text: str = self._tokenizer.decode(found[0].tolist(), skip_special_tokens=True)
        return text.strip()

    def _start(self, language: str) -> list[int]:
        """Return the tokens that a transcript starts with."""
        names = [_START, _NO_TIMES]
        if self._model.config.eos_token_id >= _MULTILINGUAL_END:
            names[1:1] = [f"<|{language}|>", _TASK]
        elif language != "en":
            raise InputError(f"{self.folder} is a Whisper model of English alone, and the language is {language!r}.")
        ids = []
        for name in names:
            number = self._tokenizer.token_to_id(name)
            if number is None:
                raise InputError(f"{self.folder} has no text token {name}: it does not know {language!r}.")
            ids.append(number)
        return ids
