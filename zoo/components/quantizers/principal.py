"""A start for sign quantizers: directions whose signs say most about the data, and what the signs stand for."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["sign_directions"]

_ROUNDS = 50
_STARTS = 8


def sign_directions(
    rows: Tensor, num_bits: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return two affine maps, so that x ≈ C sign(W x + a) + b.

    W spans the first principal components, rotated so that the signs are as near to the projections as a rotation can
    bring them (iterative quantization, Gong and Lazebnik, CVPR 2011), and scaled so that projections have mean 0 and
    mean square 1. C and b are the least-squares fit.

    Args:
        rows: (N, D), more than `num_bits` of them.
        num_bits: d, at most D.
        generator: Of the rotation to begin with, on the CPU; the default one if None.

    Returns:
        W (d, D), a (d,), C (D, d) and b (D,), float32.
    """
    x = rows.double()
    mean = x.mean(0)
    x = x - mean
    components = torch.linalg.eigh(x.T @ x / len(x))[1][:, -num_bits:]
    projected = x @ components
    # Rounds end in a local optimum, so the best of several is taken.
    rotation = max((_rotation(projected, generator) for _ in range(_STARTS)), key=lambda r: _fit(projected @ r))
    turned = projected @ rotation
    scale = turned.square().mean().clamp(min=1e-12).rsqrt()
    signs = _signs(turned)
    centre = signs.mean(0)
    signs = signs - centre
    # A ridge far below the signs' own size, for bits that the data never sets.
    gram = signs.T @ signs + 1e-6 * len(x) * torch.eye(num_bits, dtype=x.dtype, device=x.device)
    codes = torch.linalg.solve(gram, signs.T @ x).T
    weight = (components @ rotation).T * scale
    return weight.float(), -(weight @ mean).float(), codes.float(), (mean - codes @ centre).float()


def _rotation(projected: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return a rotation (d, d) that brings projections (N, d) near to their signs, from a random one."""
    size = projected.shape[1]
    noise = torch.randn(size, size, generator=generator, dtype=torch.float64)
    rotation: Tensor = torch.linalg.qr(noise)[0].to(projected.device)
    for _ in range(_ROUNDS):
        left, _, right = torch.linalg.svd(_signs(projected @ rotation).T @ projected)
        rotation = (left @ right).T
    return rotation


def _fit(turned: Tensor) -> float:
    """Return how near projections are to a common multiple of their signs, the more the nearer."""
    return float(turned.abs().sum())


def _signs(x: Tensor) -> Tensor:
    return torch.where(x > 0, 1.0, -1.0).to(x.dtype)
