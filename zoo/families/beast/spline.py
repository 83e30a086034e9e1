"""The two linear maps of BEAST: from actions to control points, and back."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.components.exact.precision import ExactTimeMap, KeepsPrecision
from zoo.components.layers.bspline import derivative_basis, ordered_product, ridge_projection
from zoo.families.beast.config import BeastConfig
from zoo.process.fresh import fresh

__all__ = ["Bases", "SplineDecoder", "SplineEncoder", "episode_windows", "evaluation_points", "fit_weights"]

# Weight of the steps past the end of the data, at which the last action is held. With 0, control points that hardly any
# step determines leave their bounds and are clipped: on MetaWorld's actions errors then reach 4 where whole chunks have
# 1.5. With 1, the fit bends where the motion stops. From 0.03 to 0.3 it makes little difference.
_HELD = 0.1

_UNLIMITED = torch.finfo(torch.float32).max

# Positions this close to the border of an interval, in intervals, lie on it, although they may be rounded to float32.
_ON_BORDER = 1e-5


def evaluation_points(config: BeastConfig) -> Tensor:
    """Return where the T steps of a chunk lie in [0, 1], (T,) float64."""
    steps = torch.arange(config.horizon, dtype=torch.float64)
    return steps / (config.horizon - 1) if config.grid == "closed" else (steps + 1) / config.horizon


def zero_order_basis(config: BeastConfig, u: Tensor | None = None) -> Tensor:
    """Return (M, F): F intervals of constant value at positions u, or at the chunk's own steps if `u` is None.

    On the chunk's own grid the interval is found in integers, because steps on an interval's border must not depend on
    float rounding. Intervals contain their left end on the closed grid and their right end on the anchored one, whose
    steps each stand for the time up to them.
    """
    num, horizon = config.num_free, config.horizon
    is_closed = config.grid == "closed"
    if u is None:
        step = torch.arange(horizon)
        interval = step * num // (horizon - 1) if is_closed else ((step + 1) * num - 1) // horizon
    else:
        place = u.double() * num
        interval = ((place + _ON_BORDER).floor() if is_closed else (place - _ON_BORDER).ceil() - 1).long()
    interval = interval.clamp(0, num - 1)
    return (interval[:, None] == torch.arange(num, device=interval.device)).double()


def smooth_basis(config: BeastConfig, u: Tensor | None = None, derivative: int = 0) -> Tensor:
    """Return (M, N): the splines, or a derivative of theirs, at positions u, or at the chunk's own steps."""
    if config.degree == 0:
        values = zero_order_basis(config, u)
        return torch.zeros_like(values) if derivative else values
    points = evaluation_points(config) if u is None else u.double()
    return derivative_basis(points, config.num_basis, config.degree, derivative)


def fixed_points(config: BeastConfig) -> Tensor:
    """Return E (k, k): the fixed control points as combinations of the k commands before the chunk, oldest first.

    c_0 is the last command. c_1 = c_0 + v / (p (N - p)), v being the previous velocity per unit of u, the last
    difference of commands over the grid's spacing.
    """
    if config.num_fixed < 2:
        return torch.ones(config.num_fixed, config.num_fixed, dtype=torch.float64)
    intervals = config.horizon - (config.grid == "closed")
    lead = intervals / (config.degree * (config.num_basis - config.degree))
    return torch.tensor([[0.0, 1.0], [-lead, 1.0 + lead]], dtype=torch.float64)


def episode_windows(episode: Tensor, config: BeastConfig) -> Tensor:
    """Return the windows that start at every step of an episode (L, D), as a view (L, k + T, D).

    A window holds the k commands before its start and then T steps. Before the first step the first action is held,
    past the end the last.
    """
    fixed, horizon = config.num_fixed, config.horizon
    held = torch.cat([episode[:1].expand(fixed, -1), episode, episode[-1:].expand(horizon - 1, -1)])
    return held.unfold(0, fixed + horizon, 1).transpose(1, 2)


def fit_weights(config: BeastConfig, valid: int) -> tuple[Tensor, Tensor]:
    """Return the maps from commands to free control points, of smooth and of switching degrees of freedom.

    They take the k commands before a chunk and then its first `valid` steps. Where these are not all, the last action
    is taken to be held to the chunk's end, but with less weight than the data.

    Returns:
        Two matrices (F, k + valid), float64.
    """
    fixed = config.num_fixed
    trust = torch.ones(config.horizon, dtype=torch.float64)
    trust[valid:] = _HELD
    last = torch.ones(config.horizon - valid + 1, 1, dtype=torch.float64)

    def held(project: Tensor) -> Tensor:
        return torch.cat([project[:, : valid - 1], ordered_product(project[:, valid - 1 :], last)], 1)

    phi = smooth_basis(config)
    smooth = ridge_projection(phi[:, fixed:], config.ridge, trust, config.degree)
    before = ordered_product(smooth, ordered_product(phi[:, :fixed], fixed_points(config)))
    switching = ridge_projection(zero_order_basis(config), config.ridge, trust, 0)
    return torch.cat([-before, held(smooth)], 1), torch.cat([torch.zeros_like(before), held(switching)], 1)


@lru_cache(maxsize=128)
def _tail_weights(config: BeastConfig, valid: int) -> tuple[Tensor, Tensor]:
    return fit_weights(config, valid)


class SplineEncoder(KeepsPrecision):
    """Control points of the ridge fit to a chunk: c = R (a - Φ_fixed E a_before).

    One precomputed matrix for the smooth degrees of freedom and one for the grippers; they depend on the settings
    alone. The products are exact sums (`ExactTimeMap`), so that a control point, and its token, never depends on the
    batch.

    Args:
        config: The tokenizer's settings.
        weights: What `fit_weights` returns; for whole chunks if None.
    """

    gripper_index: Tensor

    def __init__(self, config: BeastConfig, weights: tuple[Tensor, Tensor] | None = None) -> None:
        super().__init__()
        self.config = config
        grippers = list(config.gripper) if config.gripper_mode == "zero_order" else []
        smooth, switching = fit_weights(config, config.horizon) if weights is None else weights
        self.smooth = ExactTimeMap(smooth, config.num_dofs)
        self.switching = ExactTimeMap(switching, len(grippers)) if grippers else None
        self.register_buffer("gripper_index", torch.tensor(grippers, dtype=torch.int64), persistent=False)
        one = torch.ones(config.num_dofs, dtype=torch.float32)
        self._scale = (one, torch.zeros_like(one), one)

    def set_scale(self, largest: Tensor, centre: Tensor, scale: Tensor) -> None:
        """State what actions look like, (D,) each: their largest magnitude, and what maps to 0 and ±1."""
        self._scale = (largest, centre, scale)
        self.smooth.set_scale(largest, centre, scale)
        if self.switching is not None:
            self.switching.set_scale(*(values[self.gripper_index.to(values.device)] for values in self._scale))

    def covers(self, low: Tensor, high: Tensor) -> bool:
        """Whether products are exact for all commands from low to high, (D,) each; see `ExactTimeMap.covers`."""
        return self.smooth.covers(low, high)

    def forward(self, x: Tensor, *, is_covered: bool = False) -> Tensor:
        """Fit chunks x (B, k + T, D) float32 in physical units: the k commands before each, then the chunk.

        Args:
            x: The commands.
            is_covered: Whether they are known to lie in a range that `covers` was asked about.

        Returns:
            (B, F, D) float64 control points in normalised units.
        """
        points: Tensor = self.smooth(x, is_covered=is_covered)
        if self.switching is not None:
            own = x.index_select(2, self.gripper_index)
            points.index_copy_(2, self.gripper_index, self.switching(own, is_covered=is_covered))
        return points

    def linear(self, x: Tensor) -> Tensor:
        """Fit chunks x (B, k + T, D) float64 by plain differentiable products, without centring: (B, F, D) float64."""
        points = self.smooth.exact_weight @ x
        if self.switching is not None:
            switching = self.switching.exact_weight @ x.index_select(2, self.gripper_index)
            points = points.index_copy(2, self.gripper_index, switching)
        return points

    def for_tail(self, valid: int) -> SplineEncoder:
        """Return the encoder for chunks of which only the first `valid` steps are data."""
        with fresh():  # the weights are cached, whatever the caller's defaults
            shorter = SplineEncoder(self.config, _tail_weights(self.config, valid))
        shorter.to(self.smooth.weight.device).set_scale(*self._scale)
        return shorter


class Bases(NamedTuple):
    """Where and what to evaluate.

    Args:
        smooth: Φ (M, N) of the smooth degrees of freedom.
        switching: Φ (M, F) of those of degree 0.
        is_position: Whether the product is an action, not one of its derivatives.
    """

    smooth: Tensor
    switching: Tensor
    is_position: bool


class SplineDecoder(KeepsPrecision):
    """The curve of control points, a = Φ c, at the chunk's own steps or anywhere else in [0, 1]."""

    smooth: Tensor
    switching: Tensor
    fixed: Tensor
    gripper_index: Tensor
    low: Tensor
    high: Tensor
    is_gripper: Tensor

    def __init__(self, config: BeastConfig) -> None:
        super().__init__()
        self.config = config
        grippers = list(config.gripper) if config.gripper_mode == "zero_order" else []
        self.has_switching = bool(grippers)
        self.is_limited = bool(config.gripper) and (config.gripper_mode == "spline" or config.gripper_threshold)
        is_gripper = torch.zeros(config.num_dofs, dtype=torch.bool)
        is_gripper[list(config.gripper)] = True
        self.register_buffer("is_gripper", is_gripper, persistent=False)
        self.register_buffer("low", torch.full((config.num_dofs,), -_UNLIMITED, dtype=torch.float32), persistent=False)
        self.register_buffer("high", torch.full((config.num_dofs,), _UNLIMITED, dtype=torch.float32), persistent=False)
        self.register_buffer("smooth", smooth_basis(config, None, 0).float(), persistent=False)
        self.register_buffer("switching", zero_order_basis(config, None).float(), persistent=False)
        self.register_buffer("fixed", fixed_points(config).float(), persistent=False)
        self.register_buffer("gripper_index", torch.tensor(grippers, dtype=torch.int64), persistent=False)

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """State the range of the data, (D,) each, which grippers are brought into, or to the ends of."""
        self.low = torch.where(self.is_gripper, low.to(self.low), -_UNLIMITED)
        self.high = torch.where(self.is_gripper, high.to(self.high), _UNLIMITED)

    def bases(self, times: Tensor | None, derivative: int) -> Bases:
        """Return what `forward` needs to evaluate a derivative, 0 for the action itself, at `times` (M,)."""
        smooth = smooth_basis(self.config, times, derivative).to(self.smooth)
        switching = zero_order_basis(self.config, times).to(self.switching)
        return Bases(smooth, torch.zeros_like(switching) if derivative else switching, derivative == 0)

    def forward(self, points: Tensor, before: Tensor | None = None, bases: Bases | None = None) -> Tensor:
        """Evaluate curves.

        Args:
            points: (B, F, D) free control points, physical units, float32 or float64.
            before: (B, k, D) commands before each chunk, if the boundary fixes k > 0 control points.
            bases: What `bases` returned, to evaluate elsewhere than at the chunk's own steps.

        Returns:
            (B, M, D), not contiguous in memory: the steps are outermost.
        """
        smooth, switching, is_position = bases or (self.smooth, self.switching, True)
        everything = points if before is None else torch.cat([_product(self.fixed, before.to(points)), points], 1)
        curve = _product(smooth, everything)
        if self.has_switching:
            own = points.index_select(2, self.gripper_index)
            curve.index_copy_(2, self.gripper_index, _product(switching, own))
        return self._limited(curve) if is_position and self.is_limited else curve

    def _limited(self, curve: Tensor) -> Tensor:
        low, high = self.low.to(curve.dtype), self.high.to(curve.dtype)
        if not self.config.gripper_threshold:
            return curve.clamp(low, high)
        snapped = torch.where(curve > (low + high) / 2, high, low)
        return torch.where(self.is_gripper, snapped, curve)


def _product(weight: Tensor, x: Tensor) -> Tensor:
    """Return weight @ x in x's precision, also where a policy around the tokenizer computes in half precision."""
    weight = weight.to(x.dtype)
    if torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            return weight @ x
    if len(x) == 1:
        return torch.bmm(weight[None], x)
    # One wide product for the batch, (M, N) · (N, B·D), is several times faster than a narrow one an item.
    wide = weight @ x.transpose(0, 1).reshape(x.shape[1], -1)
    return wide.view(len(weight), len(x), -1).transpose(0, 1)
