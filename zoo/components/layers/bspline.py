"""Clamped uniform B-splines on [0, 1]: basis, derivatives, ridge projection. All in float64.

Everything is computed by elementwise operations in a fixed order, without a library's matrix product or solver, whose
last bits depend on the processor and the number of threads. So every machine gets the same numbers from the same
settings, and tokens that are made with them do not depend on the machine either.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["basis", "derivative_basis", "knots", "ordered_product", "ridge_projection"]

# Positions this close to a knot, in spans, lie on it: steps of a chunk must not change sides by rounding.
_ON_KNOT = 1e-9


def knots(num_basis: int, degree: int) -> Tensor:
    """Return the num_basis + degree + 1 knots: `degree` zeros, num_basis - degree equal spans, `degree` ones."""
    return _knots(num_basis, degree) / (num_basis - degree)


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
    # In units of spans knots are integers, and so exact.
    spans = num_basis - degree
    t = _knots(num_basis, degree, u.device)
    place = u.double()[:, None] * spans
    nearest = place.round()
    place = torch.where((place - nearest).abs() < _ON_KNOT, nearest, place)
    # Which of the N + p intervals between knots holds u; only the `spans` inner ones are not empty.
    active = place.floor().clamp(0, spans - 1) + degree
    values = (torch.arange(num_basis + degree, device=u.device) == active).double()
    for k in range(1, degree + 1):
        left, right = t[k:-1] - t[: -k - 1], t[k + 1 :] - t[1:-k]
        rising = torch.where(left > 0, (place - t[: -k - 1]) / left.clamp(min=1), 0.0)
        falling = torch.where(right > 0, (t[k + 1 :] - place) / right.clamp(min=1), 0.0)
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
    t = _knots(num_basis, degree, u.device)
    slope = degree * (num_basis - degree) / (t[degree + 1 : -1] - t[1 : -degree - 1])
    inner = derivative_basis(u, num_basis - 1, degree - 1, order - 1) * slope
    zero = inner.new_zeros(len(u), 1)
    return torch.cat([zero, inner], 1) - torch.cat([inner, zero], 1)


def ridge_projection(phi: Tensor, ridge: float, weight: Tensor | None = None, bandwidth: int | None = None) -> Tensor:
    """Return R (N, M) = (ΦᵀWΦ + λI)⁻¹ΦᵀW, which maps M samples to the N coefficients of their regularised fit.

    Args:
        phi: Φ (M, N), float64.
        ridge: λ.
        weight: (M,) the diagonal of W; ones if None.
        bandwidth: How far apart columns of Φ may be whose supports overlap: p for splines of degree p, N - 1 if None.
    """
    size = phi.shape[1]
    band = size - 1 if bandwidth is None else min(bandwidth, size - 1)
    weighted = phi if weight is None else phi * weight[:, None]
    gram = torch.diag_embed(_sum(weighted * phi) + ridge)
    for k in range(1, band + 1):
        overlap = torch.diag_embed(_sum(weighted[:, :-k] * phi[:, k:]), k)
        gram += overlap + overlap.T
    solution = weighted.T.clone(memory_format=torch.contiguous_format)
    # Elimination without pivots, which positive definite matrices do not need.
    for i in range(size):
        below = slice(i + 1, i + band + 1)
        factor = gram[below, i, None] / gram[i, i]
        gram[below, i : i + band + 1] -= factor * gram[i, i : i + band + 1]
        solution[below] -= factor * solution[i]
    for i in reversed(range(size)):
        above = slice(max(0, i - band), i)
        solution[i] /= gram[i, i]
        solution[above] -= gram[above, i, None] * solution[i]
    return solution


def ordered_product(a: Tensor, b: Tensor) -> Tensor:
    """Return the product of matrices a (N, M) and b (M, K) of few columns, summed in a fixed order."""
    return torch.stack([_sum((a * column).T) for column in b.T], 1) if b.shape[1] else a.new_zeros(len(a), 0)


def _knots(num_basis: int, degree: int, device: torch.device | None = None) -> Tensor:
    """Return the knots in units of inner spans."""
    spans = num_basis - degree
    return torch.arange(-degree, num_basis + 1, dtype=torch.float64, device=device).clamp(0, spans)


def _sum(x: Tensor) -> Tensor:
    """Sum over the first axis, pairwise."""
    while len(x) > 1:
        half = len(x) // 2
        x = torch.cat([x[:half] + x[half : 2 * half], x[2 * half :]])
    return x[0]
