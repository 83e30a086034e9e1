"""Tokens → mel spectrum: flow matching towards speech (arXiv 2210.02747) that the tokens guide."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.components.flow import Cosine, Guidance, Path, Solver, draw_noise, sample
from zoo.components.layers.conformer import BlockConformer
from zoo.components.layers.unet1d import VelocityUNet
from zoo.families.stabletoken.decoder.config import DecoderConfig

__all__ = ["PATH", "LengthRegulator", "MelFlow"]

PATH = Path(noise_time=0, points_to="data", sigma=1e-6)
"""What the velocities were trained as: noise at time 0, speech at time 1."""


class MelFlow(nn.Module):
    """Ids (T,) of one item → its mel spectrum (M, F), of ⌊441·T / 128⌋ frames as published.

    Attributes:
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

    def forward(self, ids: Tensor, *, steps: int, guidance: float, generator: torch.Generator) -> Tensor:
        """Generate the spectrum of one item.

        Args:
            ids: (T,), T at least 1.
            steps: Steps of the solver, short ones first.
            guidance: How far to go on past the velocity that the tokens give, away from the one without them; 0 for not
                at all, which takes half the time.
            generator: Source of the noise, on any device.

        Returns:
            (M, F).
        """
        content = self.content(ids[None])
        noise = draw_noise(content.shape, generator, content.device)
        conditions = (content, self.voice(), torch.zeros_like(content))
        spectrum = sample(
            self.velocity,
            noise,
            PATH,
            Solver(steps, warp=Cosine()),
            conditions=conditions,
            null=[torch.zeros_like(condition) for condition in conditions],
            guidance=Guidance(guidance, origin="condition"),
        )
        return spectrum[0] * self.config.mel_std + self.config.mel_mean

    def content(self, ids: Tensor) -> Tensor:
        """Return what the tokens (B, T) of items of one length say about their spectra, (B, M, F)."""
        hidden = self.to_mel(self.encoder(self.tokens(ids)))
        stretched: Tensor = self.regulator(hidden.transpose(1, 2), self.config.num_frames(ids.shape[1]))
        return stretched

    def voice(self, speaker: Tensor | None = None) -> Tensor:
        """Return what a speaker's vectors (B, S) add, (B, M); that of the zero vector (1, M) if None."""
        if speaker is None:
            speaker = self.speaker.weight.new_zeros(1, self.config.speaker_size)
        # Zero has no direction and stays zero, so that the bias alone is left.
        added: Tensor = self.speaker(F.normalize(speaker, dim=1))
        return added


class LengthRegulator(nn.Module):
    """Spectra (B, M, T) → (B, M, F): each frame takes the token it lies in, then convolutions smooth."""

    def __init__(self, num_mel: int, num_layers: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(num_layers):
            layers += [nn.Conv1d(num_mel, num_mel, 3, padding=1), nn.GroupNorm(1, num_mel), nn.Mish()]
        self.layers = nn.Sequential(*layers, nn.Conv1d(num_mel, num_mel, 1))

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Stretch items of one length to F = `num_frames`."""
        smoothed: Tensor = self.layers(F.interpolate(x, num_frames, mode="nearest"))
        return smoothed
