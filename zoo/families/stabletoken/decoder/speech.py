"""Tokens → speech, the second half of StableToken: what the quantizer threw away is made up again.

Tokens say what was said, not by whom or how it sounded. A flow-matching network (CosyVoice's and GLM-4-Voice's design)
draws one of the mel spectra that may belong to them, and a vocoder its wave. The speaker is a vector that is zero, and
the noise comes from a seed, so that the same tokens give the same wave.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypedDict

import torch
from torch import Tensor, nn

from zoo.components.flow import Solver
from zoo.components.vocoder.vocoder import Vocoder
from zoo.errors import ConfigError
from zoo.families.stabletoken.decoder.config import DecoderConfig
from zoo.families.stabletoken.decoder.mel import MelFlow
from zoo.process.fresh import fresh
from zoo.process.memory import give_back
from zoo.process.progress import counted, part

__all__ = ["SEED", "FlowSettings", "SpeechDecoder"]

_FLOW = 0.8  # of the time, about, that decoding takes

SEED = 42
"""Where random numbers start from if nobody says otherwise, as in the published code."""


class FlowSettings(TypedDict):
    """How a flow is followed from noise to a spectrum: as `MelFlow` takes it."""

    steps: int
    guidance: float
    temperature: float


class SpeechDecoder(nn.Module):
    """Ids (T,) of one item → its wave (samples,) at `config.sample_rate`, 256 samples a mel frame as published.

    Items are computed one at a time, since most of the network mixes an item's padding into it; so an item's wave is
    its own, whatever else there is to decode. Nothing depends on whether the module is in training mode. Time grows
    with an item's length, and memory with little more than its wave: see `MelFlow` and `Vocoder`.

    Attributes:
        flow: Ids → mel spectrum (`MelFlow`).
        vocoder: Mel spectrum → wave (`Vocoder`).
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.flow = MelFlow(config)
        self.vocoder = Vocoder(config.num_mel, config.sample_rate, config.vocoder)

    def forward(
        self,
        ids: Tensor,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        temperature: float | None = None,
        generator: torch.Generator | None = None,
        speaker: Tensor | None = None,
    ) -> Tensor:
        """Make the wave of one item, (`config.num_samples(T)`,); arguments and errors as of `pieces`."""
        pieces = self.pieces(
            ids, steps=steps, guidance=guidance, temperature=temperature, generator=generator, speaker=speaker
        )
        return torch.cat(list(pieces))

    def pieces(
        self,
        ids: Tensor,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        temperature: float | None = None,
        generator: torch.Generator | None = None,
        speaker: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Make the wave of one item, piece by piece.

        Args:
            ids: (T,) int64, T at least 1.
            steps: Steps from noise to spectrum; those of the config, 10 as published, if None.
            guidance: How much the tokens' influence is exaggerated; as in the config, 0.7 as published, if None.
            temperature: What the spectrum's noise is scaled by; as in the config, 1 as published, if None.
            generator: Source of all random numbers: the spectrum's noise, then the vocoder's. If None, a CPU generator
                that starts from `SEED`. Torch's own generators are left alone.
            speaker: The vector (S,) of the voice (`voice_vector`); zero if None.

        Yields:
            Consecutive waves (samples,), of half a minute or less as published.

        Raises:
            ConfigError: There is not at least one step, or one of the numbers makes no sense.
        """
        if generator is None:
            generator = torch.Generator().manual_seed(SEED)
        settings = self.flow_settings(steps, guidance, temperature)
        with part(0.0, _FLOW):
            mel = self.flow(ids, **settings, generator=generator, speaker=speaker)
        count = -(-len(mel.T) // self.vocoder.piece_frames)
        pieces = counted(self.vocoder.pieces(mel[None], generator), count, _FLOW)
        for piece in pieces:
            # One piece leaves no holes, and to ask for its memory anew takes 5 % of a short call.
            if count > 1:
                give_back()
            yield piece[0]

    def flow_settings(self, steps: int | None, guidance: float | None, temperature: float | None) -> FlowSettings:
        """Return what the flow is followed with, the config's values in place of None.

        Raises:
            ConfigError: There is not at least one step, `guidance` is not finite, or `temperature` not from 0 on.
        """
        steps = self.config.steps if steps is None else steps
        guidance = self.config.guidance if guidance is None else guidance
        temperature = self.config.temperature if temperature is None else temperature
        if not math.isfinite(guidance):
            raise ConfigError(f"guidance must be a finite number, got {guidance}.")
        if not 0 <= temperature < math.inf:
            raise ConfigError(f"temperature must be a finite number, 0 or more, got {temperature}.")
        return {"steps": Solver(steps).num_steps, "guidance": guidance, "temperature": temperature}

    def copy(self, wave: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Make a wave again from its own mel spectrum, tokens left out: what the vocoder alone does to it.

        Args:
            wave: (samples,) at `config.sample_rate`, at least 512.
            generator: Source of the vocoder's random numbers; as for the forward pass.

        Returns:
            (samples,), whole mel frames of them.
        """
        from zoo.components.audio.mel import MelSpectrum

        if generator is None:
            generator = torch.Generator().manual_seed(SEED)
        with fresh(wave.device):
            mel = MelSpectrum(*self.config.mel)
        spectrum = mel(wave[None])
        copied: Tensor = self.vocoder(spectrum, generator)
        return copied[0]
