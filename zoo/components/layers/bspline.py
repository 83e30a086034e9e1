"""Clamped uniform B-splines on [0, 1]: basis, derivatives, ridge projection. All in float64."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["basis", "derivative_basis", "knots", "ridge_projection"]


def knots(num_basis: int, degree: int) -> Tensor:
    """Return the num_basis + degree + 1 knots: `degree` zeros, num_basis - degree equal spans, `degree` ones."""
    inner = torch.linspace(0, 1, num_basis - degree + 1, dtype=torch.float64)
    return torch.cat([inner.new_zeros(degree), inner, inner.new_ones(degree)])


def basis(u: Tensor, num_basis: int, degree: int) -> Tensor:
    """Evaluate every basis function by the Cox–de Boor recursion, all of them at once.

    Args:
        u: (M,) positions in [0, 1].
        num_basis: N, at least degree + 1.
        degree: p.

    Returns:
        (M, N) float64. Rows are non-negative and sum to 1, with at most p + 1 non-zeros; the last span is closed on
        the right, so that the last function is 1 at u = 1.
    """
    t = knots(num_basis, degree).to(u.device)
    spans = num_basis - degree
    u = u.double()[:, None]
    # Which of the N + p intervals between knots holds u; only the `spans` inner ones are not empty.
    active = (u * spans).floor().clamp(0, spans - 1) + degree
    values = (torch.arange(num_basis + degree, device=u.device) == active).double()
    for k in range(1, degree + 1):
        left, right = t[k:-1] - t[: -k - 1], t[k + 1 :] - t[1:-k]
        rising = torch.where(left > 0, (u - t[: -k - 1]) / left.clamp(min=1e-300), 0.0)
        falling = torch.where(right > 0, (t[k + 1 :] - u) / right.clamp(min=1e-300), 0.0)
        values = rising * values[:, :-1] + falling * values[:, 1:]
    return values


def derivative_basis(u: Tensor, num_basis: int, degree: int, order: int) -> Tensor:
    """Return (M, N) such that its product with control points is the curve's derivative of `order` with respect to u.

    A derivative's control points are differences of the curve's, v_i = p (c_{i+1} - c_i) / (t_{i+p+1} - t_{i+1}).
    """
    if order == 0:
        return basis(u, num_basis, degree)
    if degree == 0:
        return torch.zeros(len(u), num_basis, dtype=torch.float64, device=u.device)
    t = knots(num_basis, degree).to(u.device)
    slope = degree / (t[degree + 1 : -1] - t[1 : -degree - 1])
    inner = derivative_basis(u, num_basis - 1, degree - 1, order - 1) * slope
    zero = inner.new_zeros(len(u), 1)
    return torch.cat([zero, inner], 1) - torch.cat([inner, zero], 1)


def ridge_projection(phi: Tensor, ridge: float) -> Tensor:
    """Return R (N, M) = (ΦᵀΦ + λI)⁻¹Φᵀ, which maps M samples to the N coefficients of their regularised fit."""
    gram = phi.T @ phi + ridge * torch.eye(phi.shape[1], dtype=phi.dtype, device=phi.device)
    projection: Tensor = torch.linalg.solve(gram, phi.T)
    return projection
