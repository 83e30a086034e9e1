"""What clips have beside single frames: how they move."""

from __future__ import annotations

from torch import Tensor

from zoo.errors import InputError

__all__ = ["flicker"]

_LEAST_MOTION = 1 / 255  # of a clip in which nothing moves


def flicker(x: Tensor, target: Tensor) -> Tensor:
    """Return how far the changes from frame to frame are from those of the original, relative to these, (B,).

    The mean of |Δx − Δtarget| over that of |Δtarget|, where Δ is the difference of consecutive frames: 0 if everything
    moves alike, 1 for a clip that stands still, and more where it flickers. Where the original moves by less than a
    grey level of 255 on average, that is what it is compared with.

    Args:
        x: (B, 3, T, H, W) in 0…1, of at least two frames.
        target: The originals, likewise.

    Raises:
        InputError: They are no clips of one shape, or of one frame.
    """
    if x.shape != target.shape or x.ndim != 5 or x.shape[1] != 3 or 0 in x.shape or x.shape[2] < 2:
        raise InputError(
            f"clips and originals must be (B, 3, T, H, W) of one shape, T at least 2, got {list(x.shape)} and "
            f"{list(target.shape)}."
        )
    motion = target.diff(dim=2)
    return (x.diff(dim=2) - motion).abs().mean((1, 2, 3, 4)) / motion.abs().mean((1, 2, 3, 4)).clamp(min=_LEAST_MOTION)
