"""Whether tokens of a segment stay the same when the sound around it changes.

STAB-style context invariance: specification of STAB (arXiv 2409.02384), section 3.2. The paper masks parts of the
signal; how, and how much, is unknown. Chosen here: segments of half a second around 25 %, 50 % and 75 % of a clip; all
farther from the segment than some context is silenced, the clip keeps its length so that positions stay aligned, and
the share of the segment's tokens that stay is measured for several contexts. The one to quote is that at 0.25 s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from zoo.errors import InputError
from zoo.metrics.tokens.similarity import chance_corrected
from zoo.metrics.tokens.streams import key

__all__ = [
    "CONTEXTS",
    "ContextInvariance",
    "Probe",
    "crop_context",
    "mask_context",
    "probe_context",
    "segment_agreement",
    "segments",
]

CONTEXTS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Seconds kept on each side of a segment."""

Side = Literal["both", "past", "future"]

_PLACES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Probe:
    """What became of a clip's segments.

    Args:
        agreements: [S, C] shares of each segment's tokens that stay with each context.
        tokens: [S, L] the tokens of each segment in the whole clip.
    """

    agreements: Tensor
    tokens: Tensor


def segments(num_samples: int, hop: int, size: int) -> list[tuple[int, int]]:
    """Return segments around 25 %, 50 % and 75 % of a clip as (start, stop) in samples, on multiples of the hop.

    Args:
        num_samples: Of the clip.
        hop: Samples a token.
        size: Tokens a segment.

    Returns:
        Those that lie in the clip's whole tokens and are not the same; none if the clip is shorter than one.

    Raises:
        InputError: hop or size is below 1.
    """
    if hop < 1 or size < 1:
        raise InputError(f"hop and size must be at least 1, got {hop!r} and {size!r}.")
    tokens = num_samples // hop
    starts = dict.fromkeys(round(place * tokens - size / 2) for place in _PLACES)
    return [(start * hop, (start + size) * hop) for start in starts if 0 <= start <= tokens - size]


def mask_context(
    wave: Tensor,
    start: int,
    stop: int,
    *,
    hop: int,
    context: int,
    side: Side = "both",
    noise: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return a wave with everything silenced but a segment and its context.

    Args:
        wave: (samples,), floating point.
        start: The segment's first sample, a multiple of the hop.
        stop: The sample after its last, a multiple of the hop.
        hop: Samples a token.
        context: Samples kept on each side.
        side: Which side is silenced beyond the context.
        noise: Level in dB of full scale (RMS) of Gaussian noise in place of zeros, for models that have never heard
            digital silence; -60 is a good value.
        generator: For the noise; torch's default one if None.

    Returns:
        (samples,), a new tensor.

    Raises:
        InputError: The segment is off the hop's grid, empty or outside the wave, or an argument is out of range.
    """
    first, last = _kept(wave, start, stop, hop, context, side)
    masked = torch.zeros_like(wave)
    if noise is not None:
        if not math.isfinite(noise):
            raise InputError(f"noise must be a finite level in dB, got {noise!r}.")
        masked = torch.randn(len(wave), generator=generator).to(wave) * 10 ** (noise / 20)
    masked[first:last] = wave[first:last]
    return masked


def crop_context(
    wave: Tensor, start: int, stop: int, *, hop: int, context: int, side: Side = "both"
) -> tuple[Tensor, int]:
    """Return a segment and its context cut out, and where the segment starts in it, in tokens.

    Unlike masking this moves the segment, and so tells also whether tokens depend on their position. The cut is on a
    multiple of the hop and leaves at least the context; arguments are as in `mask_context`.
    """
    first, last = _kept(wave, start, stop, hop, context, side)
    first -= first % hop
    return wave[first:last].clone(), (start - first) // hop


def segment_agreement(whole: Sequence[int] | Tensor, other: Sequence[int] | Tensor) -> float:
    """Return the share of a segment's tokens that are the same.

    Raises:
        InputError: The numbers of tokens differ or are 0, as with a tokenizer whose tokens follow no hop.
    """
    a, b = torch.as_tensor(whole), torch.as_tensor(other)
    if a.shape != b.shape or a.numel() == 0:
        raise InputError(f"a segment must have as many tokens in both, at least one, got {len(a)} and {len(b)}.")
    return float((a == b).double().mean())


def probe_context(
    tokenize: Callable[[Tensor], Tensor],
    wave: Tensor,
    *,
    sample_rate: int,
    hop: int,
    contexts: Sequence[float] = CONTEXTS,
    seconds: float = 0.5,
    side: Side = "both",
    crop: bool = False,
    noise: float | None = None,
    seed: int = 0,
) -> Probe:
    """Tokenize a clip whole and with the surroundings of its segments masked.

    Args:
        tokenize: Gives the ids [T] of a wave (samples,).
        wave: (samples,).
        sample_rate: Hz.
        hop: Samples a token.
        contexts: Seconds kept on each side, C.
        seconds: Of a segment, rounded to whole tokens, at least one.
        side: As in `mask_context`.
        crop: Cut instead of masking.
        noise: As in `mask_context`.
        seed: Of the noise, which is the same for all contexts.

    Returns:
        Of S segments; S is 0 for a clip too short for any.

    Raises:
        InputError: The tokenizer does not give a token for each hop, or an argument is out of range.
    """
    size = max(1, round(seconds * sample_rate / hop)) if hop > 0 else 1
    places = segments(len(wave), hop, size)
    whole = tokenize(wave)
    rows, tokens = [], []
    for start, stop in places:
        ours = whole[start // hop : stop // hop]
        row = []
        for context in contexts:
            kept = round(context * sample_rate)
            if crop:
                part, offset = crop_context(wave, start, stop, hop=hop, context=kept, side=side)
            else:
                generator = torch.Generator().manual_seed(seed)
                part, offset = (
                    mask_context(wave, start, stop, hop=hop, context=kept, side=side, noise=noise, generator=generator),
                    start // hop,
                )
            row.append(segment_agreement(ours, tokenize(part)[offset : offset + size]))
        rows.append(row)
        tokens.append(ours)
    return Probe(
        torch.tensor(rows, dtype=torch.float64).reshape(-1, len(contexts)),
        torch.stack(tokens).to("cpu", torch.int64) if tokens else torch.zeros(0, size, dtype=torch.int64),
    )


class ContextInvariance(Metric):
    """The mean of `probe_context` over a data set.

    Args:
        contexts: Those of the probes, in seconds, ascending.
        threshold: Share of tokens that must stay for a context to be enough.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    num_segments: Tensor
    tokens: list[Tensor]
    clips: list[Tensor]

    def __init__(self, contexts: Sequence[float] = CONTEXTS, threshold: float = 0.9, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if list(contexts) != sorted(set(contexts)) or not contexts:
            raise InputError(f"contexts must ascend, at least one, got {contexts!r}.")
        self.contexts, self.threshold = tuple(contexts), threshold
        self.add_state("total", torch.zeros(len(self.contexts), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_segments", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("tokens", [], dist_reduce_fx="cat")
        self.add_state("clips", [], dist_reduce_fx="cat")

    def update(self, probe: Probe, clip: str) -> None:
        """Add a clip's probe, and its name, by which segments of one clip are known.

        Raises:
            InputError: The probe is of other contexts or lengths of segments.
        """
        if probe.agreements.shape[1] != len(self.contexts):
            raise InputError(
                f"the metric is of {len(self.contexts)} contexts, the probe of {probe.agreements.shape[1]}."
            )
        if len(self.tokens) and self.tokens[0].shape[1] != probe.tokens.shape[1]:
            raise InputError(
                f"segments must be of one length, got {probe.tokens.shape[1]} tokens after {self.tokens[0].shape[1]}."
            )
        if len(probe.tokens):
            self.total += probe.agreements.sum(0).to(self.total.device)
            self.num_segments += len(probe.tokens)
            self.tokens.append(probe.tokens.to(self.total.device))
            self.clips.append(torch.full((len(probe.tokens),), key(clip), device=self.total.device))

    def compute(self) -> dict[str, Tensor]:
        """Return the shares of tokens that stay.

        Returns:
            `agreement` [C] by context; `floor`, that of segments of different clips, and `index` [C], the former
            corrected for chance by the latter; `effective_context`, the least of the contexts with which the threshold
            is reached, infinite if with none; `num_segments`. NaN without segments, and floor and index without those
            of two clips.
        """
        agreement = self.total / self.num_segments
        floor = _floor(dim_zero_cat(self.tokens), dim_zero_cat(self.clips)) if self.num_segments else math.nan
        enough = [seconds for seconds, share in zip(self.contexts, agreement, strict=True) if share >= self.threshold]
        effective = min(enough, default=math.inf) if self.num_segments else math.nan
        return {
            "agreement": agreement,
            "floor": agreement.new_tensor(floor),
            "index": agreement.new_tensor([chance_corrected(float(share), floor) for share in agreement]),
            "effective_context": agreement.new_tensor(effective),
            "num_segments": self.num_segments.double(),
        }

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        # A process that has seen nothing must send nothing of the right kind. The length of segments is unknown to it,
        # so that all send them flat.
        tokens = dim_zero_cat(self.tokens) if len(self.tokens) else torch.zeros(0, 1, dtype=torch.int64)
        clips = dim_zero_cat(self.clips) if len(self.clips) else torch.zeros(0, dtype=torch.int64)
        self.tokens, self.clips = [tokens.flatten().to(self.device)], [clips.to(self.device)]
        super()._sync_dist(*args, **kwargs)
        tokens, clips = dim_zero_cat(self.tokens), dim_zero_cat(self.clips)
        self.tokens = [tokens.reshape(len(clips), -1)] if len(clips) else []
        self.clips = [clips] if len(clips) else []


def _kept(wave: Tensor, start: int, stop: int, hop: int, context: int, side: Side) -> tuple[int, int]:
    if wave.ndim != 1 or not wave.is_floating_point():
        raise InputError(f"a wave is (samples,), floating point; got {wave.dtype} {tuple(wave.shape)}.")
    if hop < 1 or context < 0 or side not in ("both", "past", "future"):
        raise InputError(
            f"hop must be at least 1, context at least 0, and side 'both', 'past' or 'future'; got {hop!r}, "
            f"{context!r} and {side!r}."
        )
    if start % hop or stop % hop or not 0 <= start < stop <= len(wave):
        raise InputError(
            f"a segment must lie in 0..{len(wave)} and start and stop on multiples of the hop, {hop} samples, got "
            f"{start}..{stop}: its tokens would hear both sides of its ends."
        )
    first = 0 if side == "future" else max(0, start - context)
    last = len(wave) if side == "past" else min(len(wave), stop + context)
    return first, last


def _floor(tokens: Tensor, clips: Tensor) -> float:
    """Return the mean share of equal tokens of all pairs of segments [S, L] of different clips [S]."""
    same, count = 0, 0
    for row, clip in zip(tokens, clips, strict=True):
        others = tokens[clips != clip]
        same += int((others == row).sum())
        count += others.numel()
    return same / count if count else math.nan
