"""What tokenizers of speech have in common."""

from __future__ import annotations

from torch import Tensor

from zoo.errors import ConfigError
from zoo.tokenizer import Tokenizer

__all__ = ["SpeechTokenizer"]


class SpeechTokenizer(Tokenizer):
    """A tokenizer of speech (B, samples) in -1…1 at `spec.sample_rate` Hz."""

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
