"""The measures of a clip beside its original: those of pictures, of its frames, and how it moves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zoo.evaluation.suites.image.judges import Judge, Judges
from zoo.metrics.video import flicker

__all__ = ["ClipJudges"]

_OF_CLIPS = ("flicker",)


class ClipJudges(Judges):
    """Measures clips (B, 3, T, H, W); all but `flicker` are means over frames."""

    def _ready(self, name: str, suite: Any) -> Judge:
        return flicker if name in _OF_CLIPS else super()._ready(name, suite)

    def grey(self, size: tuple[int, int]) -> Tensor:
        """Return a clip of two frames."""
        return super().grey(size)[:, :, None].expand(-1, -1, 2, -1, -1)

    def judged(self, name: str, made: Tensor, originals: Tensor) -> Tensor:
        """Return one of `names` for each clip, (B,)."""
        if name in _OF_CLIPS:
            return super().judged(name, made, originals)
        # Clip by clip, as features of all frames of a batch need much memory.
        pairs = zip(made, originals, strict=True)
        return torch.stack([super(ClipJudges, self).judged(name, *map(_frames, pair)).mean() for pair in pairs])

    def features(self, pictures: Tensor) -> Tensor | None:
        """Return the features (B, D) of clips, those of the frames averaged; None without a network."""
        rows = [super(ClipJudges, self).features(_frames(clip)) for clip in pictures]
        found = [row.mean(0) for row in rows if row is not None]
        return torch.stack(found) if found else None


def _frames(clip: Tensor) -> Tensor:
    return clip.transpose(0, 1)
