"""Voices that speech can be decoded in: the vectors that stand for speakers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import InputError, near_matches, shown
from zoo.families.stabletoken.decoder.config import DecoderConfig

__all__ = ["speaker_vector", "voice_vector"]


def speaker_vector(name: str, size: int) -> Tensor:
    """Return a direction (size,) that stands for a speaker's name, the same everywhere; zero for the empty name."""
    if not name:
        return torch.zeros(size, dtype=torch.float32, device="cpu")
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(size, dtype=torch.float32, device="cpu", generator=generator), dim=0)


def voice_vector(voice: str | Tensor | Sequence[float] | None, config: DecoderConfig) -> Tensor:
    """Return the vector (S,) float32 on the CPU of the voice to decode in.

    Args:
        voice: One of `config.voice` and `config.voices`; or a vector of a speaker as those that the flow was trained
            on, (S,); zero, which is the voice of `config.voice`, if None.
        config: Of the decoder, S is its `speaker_size`.

    Raises:
        InputError: There is no such voice, or it is no vector of S numbers.
    """
    size = config.speaker_size
    if voice is None or (isinstance(voice, str) and voice and voice == config.voice):
        return speaker_vector("", size)
    if isinstance(voice, str):
        if voice not in config.voices:
            known = [name for name in (config.voice, *config.voices) if name]
            told = near_matches(voice, known) if known else f"none is known by name: pass a vector of {size} numbers."
            raise InputError(f"voice: this decoder has no {shown(voice)}; {told}")
        return speaker_vector(voice, size)
    try:
        vector = torch.as_tensor(voice).detach().to("cpu", torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"voice must be a name or a vector of {size} numbers: {error}.") from error
    if vector.shape != (size,) or not vector.isfinite().all():
        raise InputError(f"voice must be a vector of {size} finite numbers, got the shape {tuple(vector.shape)}.")
    return vector
