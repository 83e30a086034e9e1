"""Fast mode: segments of about the same length are encoded together, whole batches in one kernel.

Kernels round as the batch's shape makes them, in whatever dtype the encoder's weights or an autocast have, so a vector
close to a decision boundary may fall on the other side of it. Beyond that nothing changes: what an item's padding is,
and how much of it there is, is masked wherever it could leak.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from zoo.components.audio.log_mel import LogMel
from zoo.components.exact.one_by_one import any_attention
from zoo.components.quantizers.base import full_precision
from zoo.families.stabletoken.encoder import SpeechEncoder
from zoo.process.progress import counted

__all__ = ["encode_together"]

# Segments of 30 s in a batch, at most: its largest tensor, inside an MLP of 5120, then is 1 GB in float32.
_SEGMENTS = 32
# Padding of an item, at most: a share of the longest one's tokens, or so many of them, 1 s.
_PADDING = 0.2
_FEW_TOKENS = 25


def encode_together(
    features: LogMel, encoder: SpeechEncoder, segments: Sequence[Tensor], finish: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """Encode waves in batches.

    Args:
        features: Waves → spectra, in float32.
        encoder: Spectra → vectors, in any dtype.
        segments: Waves (samples,) of 1 sample to one segment.
        finish: What is done with vectors (N, Q), float32, each on its own; gives (N, …).

    Returns:
        What `finish` made of each wave's vectors, (T, …).
    """
    token_samples = features.token_samples
    counts = [-(-len(wave) // token_samples) for wave in segments]
    parts: dict[int, Tensor] = {}
    several = list(batches(counts, _SEGMENTS * encoder.config.segment_samples // token_samples))
    for batch in counted(several, len(several)):
        waves = [segments[number] for number in batch]
        hidden, mask = _vectors(features, encoder, waves, [counts[number] for number in batch])
        # The padding is dropped before it is quantized.
        made = finish(hidden[mask].float())
        parts |= zip(batch, torch.split(made, [counts[number] for number in batch]), strict=True)
    return [parts[number] for number in range(len(segments))]


def batches(counts: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield which items are encoded together: each is padded by a fifth of its batch's length at most, or by 1 s.

    Args:
        counts: Tokens of each item.
        budget: Tokens of a batch, padding included.

    Yields:
        Numbers of items, the longest first.
    """
    batch: list[int] = []
    for number in sorted(range(len(counts)), key=lambda number: -counts[number]):
        longest = counts[batch[0]] if batch else 0
        padding = longest - counts[number]
        if batch and (padding > max(_PADDING * longest, _FEW_TOKENS) or (len(batch) + 1) * longest > budget):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _vectors(features: LogMel, encoder: SpeechEncoder, waves: list[Tensor], counts: list[int]) -> tuple[Tensor, Tensor]:
    """Return the vectors of waves (samples,) of so many tokens, (B, T, Q), and which of them are valid, (B, T)."""
    device = waves[0].device
    padded = torch.zeros(len(waves), counts[0] * features.token_samples, dtype=torch.float32, device=device)
    for row, wave in zip(padded, waves, strict=True):
        row[: len(wave)] = wave
    lengths = torch.tensor([len(wave) for wave in waves], device=device)
    with full_precision(padded):  # a small part of the work, and the logarithm would lose most digits
        mel = features.together(padded, torch.tensor(counts, device=device) * features.token_samples)
    with any_attention:
        hidden, mask = encoder(mel.to(encoder.conv1.weight.dtype), features.num_frames(lengths))
    return hidden, mask
