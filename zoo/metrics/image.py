"""How close pictures are to their originals, pixel by pixel; in a network's features, see `feature_distance`."""

from __future__ import annotations

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from zoo.errors import InputError

__all__ = ["MAX_PSNR", "decibels", "exact", "psnr", "ssim"]

MAX_PSNR = 100.0
"""dB of what equals its original, and the most that there is: otherwise one picture of many would make their mean
infinite. The bound is that of libvpx and libaom, and far beyond what 8 bits tell apart: one grey level off in one of a
million values is 108 dB, everywhere is 48 dB."""

_WINDOW = 11  # of SSIM's Gaussian, pixels


def decibels(error: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio in dB of mean square errors of values in 0…1, at most `MAX_PSNR`."""
    return (-10 * error.log10()).clamp(max=MAX_PSNR)


def psnr(x: Tensor, target: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each picture in dB, (B,): -10 log10 of the mean square error.

    It is at most `MAX_PSNR`, which is what a picture has that equals its original.

    Args:
        x: (B, 3, H, W) in 0…1.
        target: The originals, likewise.

    Raises:
        InputError: They are no pictures of one shape.
    """
    _check(x, target)
    return decibels((x - target).square().mean((1, 2, 3)))


def exact(x: Tensor, target: Tensor) -> Tensor:
    """Return 1 for each picture that has `MAX_PSNR`, since it is its original as nearly as that tells, else 0, (B,).

    Arguments and errors are those of `psnr`.
    """
    return (psnr(x, target) >= MAX_PSNR).float()


def ssim(x: Tensor, target: Tensor) -> Tensor:
    """Return the structural similarity of each picture, (B,): at most 1 (Wang et al., 2004, Gaussian of 11 × 11).

    The mean over the three channels, each compared by itself.

    Args:
        x: (B, 3, H, W) in 0…1, of at least 11 pixels a side.
        target: The originals, likewise.

    Raises:
        InputError: They are no pictures of one shape, or too small.
    """
    _check(x, target)
    if min(x.shape[2:]) < _WINDOW:
        raise InputError(f"SSIM needs pictures of at least {_WINDOW} × {_WINDOW}, got {x.shape[2]} × {x.shape[3]}.")
    found = structural_similarity_index_measure(x, target, data_range=1.0, reduction="none")
    assert isinstance(found, Tensor)  # for the type checker: it is a pair only if more is asked for
    return found


def _check(x: Tensor, target: Tensor) -> None:
    if x.shape != target.shape or x.ndim != 4 or x.shape[1] != 3 or 0 in x.shape:
        raise InputError(
            f"pictures and originals must be (B, 3, H, W) of one shape, got {list(x.shape)} and {list(target.shape)}."
        )
