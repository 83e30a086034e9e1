"""How Whisper spells text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.components.whisper.config import WhisperConfig
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as TextTokenizer

__all__ = ["Spelling"]

# The English models' text tokens end one earlier; their prompt names neither language nor task.
_MULTILINGUAL_END = 50257


class Spelling:
    """Transcripts as Whisper's text tokens, and back.

    Args:
        tokenizer: Of `tokenizer.json`.
        config: Of the model.
    """

    def __init__(self, tokenizer: TextTokenizer, config: WhisperConfig) -> None:
        self.tokenizer = tokenizer
        self.config = config

    def prompt(self, language: str = "en") -> list[int]:
        """Return what a transcript starts with: start, language and task if the model has several, no timestamps.

        Raises:
            ConfigError: The model does not know the language.
        """
        ids = [self.config.start_id]
        if self.config.end_id >= _MULTILINGUAL_END:
            ids += [self._special(f"<|{language}|>"), self._special("<|transcribe|>")]
        return [*ids, self._special("<|notimestamps|>")]

    def encode(self, text: str) -> list[int]:
        """Return the text tokens of a transcript, without prompt and end."""
        ids: list[int] = self.tokenizer.encode(" " + text.strip(), add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the transcript of text tokens, special ones left out."""
        text: str = self.tokenizer.decode([i for i in ids if i < self.config.end_id], skip_special_tokens=True)
        return text.strip()

    def _special(self, token: str) -> int:
        number = self.tokenizer.token_to_id(token)
        if number is None:
            raise ConfigError(f"this Whisper model has no text token {token}.")
        return int(number)
