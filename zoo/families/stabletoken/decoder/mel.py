"""Tokens → mel spectrum: flow matching towards speech (arXiv 2210.02747) that the tokens guide."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.components.flow import Cosine, Guidance, Path, Solver, draw_noise, sample
from zoo.components.layers.conformer import BlockConformer
from zoo.components.layers.unet1d import VelocityUNet
from zoo.components.windows import Windows
from zoo.families.stabletoken.decoder.config import DecoderConfig

__all__ = ["PATH", "LengthRegulator", "MelFlow"]

PATH = Path(noise_time=0, points_to="data", sigma=1e-6)
"""What the velocities were trained as: noise at time 0, speech at time 1."""

# Seconds of a window, all of whose frames attention compares, and of what it has in common with the next.
_WINDOW, _OVERLAP = 30.0, 4.0
# Seconds that tokens look back beyond their window.
_HISTORY = 10.0


class MelFlow(nn.Module):
    """Ids (T,) of one item → its mel spectrum (M, F), of ⌊441·T / 128⌋ frames as published.

    What is longer than a window, 30 s, is made in windows that fade into one another, of noise that is the item's.

    Attributes:
        windows: Of frames.
        history: Tokens before a window's first that its tokens may see.
        tokens: Ids → vectors.
        encoder: Vectors that know their neighbours (`BlockConformer`).
        to_mel: These → mel bands.
        regulator: From the tokens' rate to the mel's (`LengthRegulator`).
        speaker: A speaker's vector → mel bands.
        velocity: The network that is followed from noise to speech (`VelocityUNet`).
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.conformer.width
        self.tokens = nn.Embedding(config.codebook_size, width)
        self.encoder = BlockConformer(config.conformer)
        self.to_mel = nn.Linear(width, config.num_mel)
        self.regulator = LengthRegulator(config.num_mel)
        self.speaker = nn.Linear(config.speaker_size, config.num_mel)
        self.velocity = VelocityUNet(config.num_mel, config.unet)
        rate = config.sample_rate / config.vocoder.frame_samples
        # On the grid of the lowest level, as if there were one window.
        grid = 2 ** (len(config.unet.channels) - 1)
        size, overlap = (grid * math.ceil(seconds * rate / grid) for seconds in (_WINDOW, _OVERLAP))
        self.windows = Windows(max(size, 2 * overlap), overlap, margin=overlap * 3 // 8)
        self.history = round(_HISTORY * config.token_rate)

    def forward(
        self,
        ids: Tensor,
        *,
        steps: int,
        guidance: float,
        generator: torch.Generator,
        temperature: float = 1.0,
        speaker: Tensor | None = None,
    ) -> Tensor:
        """Generate the spectrum of one item.

        Args:
            ids: (T,), T at least 1.
            steps: Steps of the solver, short ones first.
            guidance: How far to go on past the velocity that the tokens give, away from the one without them; 0 for not
                at all, which takes half the time.
            generator: Source of the noise, on any device.
            temperature: What the noise is scaled by (Grad-TTS: Popov et al., arXiv 2105.06337, section 3.4): less than
                1 keeps to what is likely.
            speaker: The vector (S,) of the voice, of any length but zero's; zero if None.

        Returns:
            (M, F).
        """
        frames = self.config.num_frames(len(ids))
        noise = temperature * draw_noise((1, self.config.num_mel, frames), generator, ids.device)
        voice = self.voice(None if speaker is None else speaker.to(ids.device)[None])

        def window(start: int, stop: int) -> Tensor:
            content = self.content(ids[None], start, stop)
            conditions = (content, voice, torch.zeros_like(content))
            return sample(
                self.velocity,
                noise[:, :, start:stop],
                PATH,
                Solver(steps, warp=Cosine()),
                conditions=conditions,
                null=[torch.zeros_like(condition) for condition in conditions],
                guidance=Guidance(guidance, origin="condition"),
            )

        # In place: an hour's spectrum is 100 MB.
        return self.windows.blended(frames, window)[0].mul_(self.config.mel_std).add_(self.config.mel_mean)

    def content(self, ids: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Return what tokens say about their spectra.

        Args:
            ids: (B, T), of items of one length.
            start: The first frame wanted.
            stop: After the last, all of them if None. Of the tokens before a frame only the last ones are read, and
                those after it as far as its own block goes.

        Returns:
            (B, M, stop - start).
        """
        length, block = ids.shape[1], self.config.conformer.block_size
        places = torch.arange(length, device=ids.device, dtype=torch.float64)[None, None]
        # The token that each frame lies in.
        places = F.interpolate(places, self.config.num_frames(length), mode="nearest")[0, 0, start:stop].long()
        first = max(0, int(places[0]) // block - -(-self.history // block)) * block
        last = (int(places[-1]) // block + 1) * block
        hidden = self.to_mel(self.encoder(self.tokens(ids[:, first:last])))
        stretched: Tensor = self.regulator(hidden.transpose(1, 2)[:, :, places - first])
        return stretched

    def voice(self, speaker: Tensor | None = None) -> Tensor:
        """Return what a speaker's vectors (B, S) add, (B, M); that of the zero vector (1, M) if None."""
        if speaker is None:
            speaker = self.speaker.weight.new_zeros(1, self.config.speaker_size)
        # Zero has no direction and stays zero, so that the bias alone is left.
        added: Tensor = self.speaker(F.normalize(speaker, dim=1))
        return added


class LengthRegulator(nn.Module):
    """Spectra (B, M, F) that are as their tokens have it, in steps → smooth ones."""

    def __init__(self, num_mel: int, num_layers: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(num_layers):
            layers += [nn.Conv1d(num_mel, num_mel, 3, padding=1), nn.GroupNorm(1, num_mel), nn.Mish()]
        self.layers = nn.Sequential(*layers, nn.Conv1d(num_mel, num_mel, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Smooth items of one length."""
        smoothed: Tensor = self.layers(x)
        return smoothed
