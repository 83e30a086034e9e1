"""What both stages of training a decoder share: a finished tokenizer, one half of whose decoder is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo import config as configs
from zoo.components.audio.mel import MelSpectrum
from zoo.data.audio import change_rate
from zoo.data.speech import SpeechBatch
from zoo.errors import ConfigError
from zoo.families.stabletoken.config import StableTokenConfig
from zoo.families.stabletoken.decoder.config import DecoderConfig
from zoo.families.stabletoken.decoder.speech import SpeechDecoder
from zoo.families.stabletoken.tokenizer import StableTokenTokenizer
from zoo.training import OptimizerConfig, TokenizerModule
from zoo.training.origin import Origin, read_origin

__all__ = ["DecoderStage"]


class DecoderStage(TokenizerModule):
    """A finished tokenizer with a decoder, one half of which is trained.

    Args:
        tokens: Model whose tokens are decoded: a name, a folder, an `hf://` address, or a training checkpoint, `.ckpt`.
        decoder: Values of `DecoderConfig`. None for that of `tokens`, whose weights are then gone on from.
        decoder_weights: Model whose decoder is gone on from instead, behind `tokens`.
        optimizer: Optimiser and schedule.
        loss_weights: Weights of losses by name, where they are not those of `default_weights`.
        more: What a base class takes beside these.

    Raises:
        ConfigError: `tokens` has no decoder, and none is described or taken from elsewhere; or both are, and differ.
    """

    family: ClassVar[str] = "stabletoken"

    tokenizer: StableTokenTokenizer

    def __init__(
        self,
        tokens: str,
        decoder: dict[str, Any] | None,
        decoder_weights: str | None,
        optimizer: OptimizerConfig,
        loss_weights: dict[str, float] | None,
        **more: Any,
    ) -> None:
        start = read_origin(tokens)
        if start.family != self.family:
            raise ConfigError(f"tokens: {tokens!r} is a {start.family}, not a stabletoken.")
        if decoder_weights is not None:
            start = _with_decoder(start, decoder_weights)
        before = configs.from_dict(StableTokenConfig, start.config, repr(tokens))
        config = configs.to_dict(before)
        if decoder is not None:
            told = configs.from_dict(DecoderConfig, decoder, "decoder")
            if before.decoder is not None:  # whose voices are what it has learned
                told = replace(told, voice=before.decoder.voice, voices=before.decoder.voices)
            config["decoder"] = configs.to_dict(told)
        if config["decoder"] is None:
            raise ConfigError(f"{tokens!r} has no decoder; describe one: decoder: {{...}}, {{}} for the published one.")
        super().__init__(config, None, optimizer, loss_weights, **more)
        self.decoder_config = cast("DecoderConfig", self.tokenizer.config.decoder)
        if before.decoder is not None and before.decoder != self.decoder_config:
            raise ConfigError(f"{tokens!r} has another decoder; leave `decoder` out to go on from it.")
        self.goes_on = before.decoder is not None
        missing = self.tokenizer.load_state_dict(start.tokenizer, strict=False)
        if missing.unexpected_keys or any(not key.startswith("decoder.") for key in missing.missing_keys):
            raise ConfigError(f"{tokens!r} does not fit: {missing}.")
        self.tokenizer.requires_grad_(False)
        nn.ModuleList(self.trained_modules()).requires_grad_(True)
        self.spectrum = MelSpectrum(*self.decoder_config.mel)
        self._carried, self.start_licence = start.needed, start.licence

    @property
    def decoder(self) -> SpeechDecoder:
        """What is trained, in part."""
        return cast("SpeechDecoder", self.tokenizer.decoder)

    def train(self, mode: bool = True) -> DecoderStage:
        """Leave the tokenizer in evaluation mode, as it is used; nothing in the decoder depends on the mode."""
        super().train(mode)
        self.tokenizer.eval()
        return self

    def num_items(self, batch: SpeechBatch) -> int:
        """Return how many utterances a batch has."""
        return len(batch.lengths)

    def crops(self, waves: Tensor, lengths: Tensor, starts: Sequence[tuple[int, int]], num_tokens: int) -> Tensor:
        """Return stretches of utterances, at the decoder's rate.

        Args:
            waves: (B, samples).
            lengths: (B,).
            starts: N pairs of the row and the first token of each stretch; past the end of its utterance is silence.
            num_tokens: How long.

        Returns:
            (N, samples).
        """
        own, size = self.tokenizer.config, num_tokens * self.tokenizer.config.token_samples
        pieces = []
        for row, token in starts:
            piece = waves[row, : int(lengths[row])][token * own.token_samples :][:size]
            pieces.append(F.pad(piece, (0, size - len(piece))))
        cut = change_rate(torch.stack(pieces), own.sample_rate, self.decoder_config.sample_rate)
        return cut[:, : self.decoder_config.num_samples(num_tokens)]


def _with_decoder(start: Origin, weights: str) -> Origin:
    """Return a start with the decoder of another model, of unknown licence where theirs differ.

    Raises:
        ConfigError: That one has none.
    """
    other = read_origin(weights)
    if other.family != start.family or not other.config.get("decoder"):
        raise ConfigError(f"decoder_weights: {weights!r} has no decoder of a {start.family} to go on from.")
    own = {name: tensor for name, tensor in start.tokenizer.items() if not name.startswith("decoder.")}
    theirs = {name: tensor for name, tensor in other.tokenizer.items() if name.startswith("decoder.")}
    licences = {start.licence, other.licence} - {None}
    return replace(
        start,
        config={**start.config, "decoder": other.config["decoder"]},
        tokenizer=own | theirs,
        licence=licences.pop() if len(licences) == 1 else "" if licences else None,
    )
