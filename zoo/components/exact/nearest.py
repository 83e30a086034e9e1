"""Decisions about matrix products that do not depend on how the product is computed.

Which order a float product is summed in depends on the batch size, the number of threads and the device, and so do its
last bits: of two codes at nearly the same distance one wins in a batch of 3 and the other in a batch of 300. Here the
fast product decides only where the error that any order of summation can make, |fl(a·b) - a·b| ≤ n·u·|a||b| (Higham,
Accuracy and Stability of Numerical Algorithms, section 3.1), is too small to change the answer. The rest, usually fewer
than one vector in a hundred, is decided anew in float64 by elementwise operations in a fixed order. So every answer is
that of the float64 formula, at the price of the float32 product.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["nearest", "ordered_sum", "positive", "unit"]

_GROUP = 64
_TINY = 2.0**-100  # above what products lose to underflow


def ordered_sum(x: Tensor) -> Tensor:
    """Sum x (..., D) over the last axis pairwise, in an order that depends on D alone."""
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        pairs = x[..., :half] + x[..., half : 2 * half]
        x = torch.cat([pairs, x[..., 2 * half :]], -1) if x.shape[-1] % 2 else pairs
    return x[..., 0]


def unit(x: Tensor) -> Tensor:
    """Scale x (..., D) to length 1 over the last axis, each vector on its own to the last bit."""
    return x / ordered_sum(x * x).sqrt().clamp(min=1e-12)[..., None]


def nearest(z: Tensor, codes: Tensor, *, by_angle: bool = False) -> Tensor:
    """Return which code each vector is nearest to; of equally near ones the first.

    The answer is argmin_k Σ_j (z_j - c_kj)², or argmax_k Σ_j z_j·c_kj for codes of length 1 (`by_angle`), as float64
    with pairwise sums gives it.

    Args:
        z: (N, D) float32.
        codes: (K, D) float32.
        by_angle: Compare by the inner product instead of the distance.

    Returns:
        int64 (N,).
    """
    z, codes = z.detach(), codes.detach()
    size = len(codes)
    norms = torch.linalg.vector_norm(codes, dim=1)
    bias = torch.zeros_like(norms) if by_angle else -norms.square() / 2
    group = min(_GROUP, size)
    table, padding = codes, -size % group
    if padding:
        table = torch.nn.functional.pad(codes, (0, 0, 0, padding))
        bias = torch.nn.functional.pad(bias, (0, padding), value=-math.inf)
    longest = norms.max()
    lengths = torch.linalg.vector_norm(z, dim=1)
    # Of z·c - |c|²/2, the score that the product gives; twice, because both of two scores may be off.
    scale = lengths * longest if by_angle else lengths * longest + longest.square() / 2
    slack = 2 * _product_error(z) * scale + 2.0**-46 * (lengths + longest).square() + _TINY
    ids = torch.empty(len(z), dtype=torch.int64, device=z.device)
    # Blocks of scores that stay in the cache, or that do not fill an accelerator's memory.
    rows = max(512, 2 ** (26 if z.is_cuda else 19) // size)
    for start in range(0, len(z), rows):
        block = slice(start, start + rows)
        scores = torch.addmm(bias, z[block], table.T)
        best, ids[block], second = _two_best(scores, group)
        floor = best - slack[block]
        # Written so that NaN is unsure.
        unsure = (~(second < floor)).nonzero()[:, 0]
        if len(unsure):
            possible = ~(scores[unsure, :size] < floor[unsure, None])
            ids[start + unsure] = _decide(z[start + unsure], codes, possible, by_angle)
    return ids


def positive(
    z: Tensor, weight: Tensor, bias: Tensor | None, matters: Callable[[Tensor, Tensor], Tensor] | None = None
) -> Tensor:
    """Return whether Σ_j weight[m, j] · z[n, j] + bias[m] is above 0, as float64 with pairwise sums gives it.

    Args:
        z: (N, D) float32.
        weight: (M, D) float32.
        bias: (M,) float32.
        matters: Given the answers and which of them are unsure, bool (N, M), says which of the unsure ones are worth
            deciding; the others stay as the float32 product has them. All, if it is None.

    Returns:
        bool (N, M).
    """
    values = torch.nn.functional.linear(z, weight, bias)
    lengths = torch.linalg.vector_norm(z, dim=1)[:, None]
    scale = lengths * torch.linalg.vector_norm(weight, dim=1)
    slack = _product_error(z) * (scale if bias is None else scale + bias.abs()) + _TINY
    above = values > 0
    unsure = ~(values.abs() > slack)
    pairs = (unsure if matters is None else unsure & matters(above, unsure)).nonzero()
    for part in torch.split(pairs, _pairs_at_once(z)):
        row, output = part.T
        exact = ordered_sum(z[row].double() * weight[output].double())
        above[row, output] = (exact if bias is None else exact + bias[output]) > 0
    return above


def _two_best(scores: Tensor, group: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return best score, its place and second-best score of each row of scores (n, groups · group)."""
    # By groups: a maximum is vectorised and an argmax is not, so the argmax had better be of few.
    groups = scores.view(len(scores), -1, group)
    tops = groups.amax(2)
    best, where = tops.max(1)
    rows = torch.arange(len(scores), device=scores.device)
    inner = groups.flatten(0, 1).index_select(0, rows * tops.shape[1] + where)
    place = inner.argmax(1)
    tops.scatter_(1, where[:, None], -math.inf)
    inner.scatter_(1, place[:, None], -math.inf)
    return best, where * group + place, torch.maximum(tops.amax(1), inner.amax(1))


def _decide(z: Tensor, codes: Tensor, possible: Tensor, by_angle: bool) -> Tensor:
    """Return the nearest of the `possible` (n, K) codes of each row, by the float64 formula."""
    pairs = possible.nonzero()
    losses = []
    for part in torch.split(pairs, _pairs_at_once(z)):
        x, code = z[part[:, 0]].double(), codes[part[:, 1]].double()
        losses.append(-ordered_sum(x * code) if by_angle else ordered_sum((x - code).square()))
    row, code = pairs.T
    loss = torch.cat(losses).nan_to_num(nan=math.inf, posinf=math.inf)
    least = loss.new_full((len(z),), math.inf).scatter_reduce_(0, row, loss, "amin")
    first = torch.where(loss == least[row], code, len(codes))
    return first.new_full((len(z),), len(codes)).scatter_reduce_(0, row, first, "amin")


def _pairs_at_once(z: Tensor) -> int:
    return max(1, 2**20 // z.shape[1])


def _product_error(z: Tensor) -> float:
    """Return a bound of the error of a float32 product with rows of z, relative to the product of the lengths.

    n·u with a few roundings more than the D + 1 there are, and one per cent for the rounding of lengths and bounds.
    """
    backend = torch.backends.cuda if z.is_cuda else torch.backends.mkldnn
    # TensorFloat-32 or bfloat16 factors, where a user allows them, only make more vectors unsure.
    setting = backend.matmul.fp32_precision
    factors = {"bf16": 2.0**-7, "tf32": 2.0**-10}.get(setting, 0.0)
    return 1.01 * ((z.shape[1] + 8) * 2.0**-24 + 2 * factors + factors**2)
