"""The two linear maps of BEAST: from actions to control points, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from zoo.components.layers.bspline import derivative_basis, ridge_projection
from zoo.components.layers.exact import ExactTimeMap, KeepsPrecision
from zoo.families.beast.config import BeastConfig

__all__ = ["SplineDecoder", "SplineEncoder", "evaluation_points"]


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
    if u is None:
        step = torch.arange(horizon)
        interval = step * num // (horizon - 1) if config.grid == "closed" else ((step + 1) * num - 1) // horizon
    else:
        interval = (u * num).floor().long() if config.grid == "closed" else (u * num).ceil().long() - 1
    interval = interval.clamp(0, num - 1)
    return (interval[:, None] == torch.arange(num, device=interval.device)).double()


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


class SplineEncoder(KeepsPrecision):
    """Control points of the ridge fit to a chunk: c = R (a - Φ_fixed E a_before).

    One precomputed matrix for the smooth degrees of freedom and one for the grippers; they depend on the settings
    alone. The products are exact sums (`ExactTimeMap`), so that a control point, and its token, never depends on the
    batch.
    """

    def __init__(self, config: BeastConfig) -> None:
        super().__init__()
        self.config = config
        self.grippers = list(config.gripper) if config.gripper_mode == "zero_order" else []
        self.smooth = ExactTimeMap(self._smooth_weight(config.horizon), config.num_dofs)
        self.switching = (
            ExactTimeMap(self._switching_weight(config.horizon), len(self.grippers)) if self.grippers else None
        )
        self._scale: tuple[Tensor, Tensor, Tensor] | None = None
        self._partial: dict[int, SplineEncoder] = {}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._partial.clear()  # these are rebuilt where the weights are now
        moved: Self = super()._apply(fn, recurse)
        return moved

    def set_scale(self, largest: Tensor, centre: Tensor, scale: Tensor) -> None:
        """State what actions look like, (D,) each: their largest magnitude, and what maps to 0 and ±1."""
        self._scale = (largest, centre, scale)
        self._partial.clear()
        self.smooth.set_scale(largest, centre, scale)
        if self.switching is not None:
            self.switching.set_scale(largest[self.grippers], centre[self.grippers], scale[self.grippers])

    def forward(self, x: Tensor) -> Tensor:
        """Fit chunks x (B, k + T, D) float32 in physical units: the k commands before each, then the chunk.

        Returns:
            (B, F, D) float64 control points in normalised units.
        """
        points: Tensor = self.smooth(x)
        if self.switching is not None:
            points[:, :, self.grippers] = self.switching(x[:, :, self.grippers])
        return points

    def linear(self, x: Tensor) -> Tensor:
        """Fit chunks x (B, k + T, D) float64 by plain differentiable products, without centring: (B, F, D) float64."""
        points = self.smooth.exact_weight @ x
        if self.switching is not None:
            index = torch.tensor(self.grippers, device=x.device)
            points = points.index_copy(2, index, self.switching.exact_weight @ x[:, :, self.grippers])
        return points

    def partial(self, valid: int) -> SplineEncoder:
        """Return the encoder for chunks of which only the first `valid` steps are data: a weighted fit of its own."""
        if valid not in self._partial:
            shorter = SplineEncoder.__new__(SplineEncoder)
            KeepsPrecision.__init__(shorter)
            device = self.smooth.weight.device
            shorter.config, shorter.grippers = self.config, self.grippers
            shorter.smooth = ExactTimeMap(self._smooth_weight(valid), self.config.num_dofs).to(device)
            shorter.switching = (
                ExactTimeMap(self._switching_weight(valid), len(self.grippers)).to(device) if self.grippers else None
            )
            shorter._partial = {}
            if self._scale is not None:
                shorter.set_scale(*self._scale)
            self._partial[valid] = shorter
        return self._partial[valid]

    def _smooth_weight(self, valid: int) -> Tensor:
        config, fixed = self.config, self.config.num_fixed
        phi = derivative_basis(evaluation_points(config)[:valid], config.num_basis, config.degree, 0)
        project = ridge_projection(phi[:, fixed:], config.ridge)
        return torch.cat([-project @ phi[:, :fixed] @ fixed_points(config), project], 1)

    def _switching_weight(self, valid: int) -> Tensor:
        project = ridge_projection(zero_order_basis(self.config)[:valid], self.config.ridge)
        return torch.cat([project.new_zeros(len(project), self.config.num_fixed), project], 1)


class SplineDecoder(KeepsPrecision):
    """The curve of control points, a = Φ c, at the chunk's own steps or anywhere else in [0, 1]."""

    smooth: Tensor
    switching: Tensor
    fixed: Tensor

    def __init__(self, config: BeastConfig) -> None:
        super().__init__()
        self.config = config
        self.grippers = list(config.gripper) if config.gripper_mode == "zero_order" else []
        smooth, switching = self.bases(None, 0)
        self.register_buffer("smooth", smooth, persistent=False)
        self.register_buffer("switching", switching, persistent=False)
        self.register_buffer("fixed", fixed_points(config).float(), persistent=False)

    def bases(self, times: Tensor | None, derivative: int) -> tuple[Tensor, Tensor]:
        """Return Φ (M, N) of the smooth and (M, F) of the switching degrees of freedom at `times`, float32."""
        config = self.config
        u = evaluation_points(config) if times is None else times.double()
        smooth = derivative_basis(u, config.num_basis, config.degree, derivative)
        switching = zero_order_basis(config, times)
        return smooth.float(), (switching if derivative == 0 else torch.zeros_like(switching)).float()

    def forward(
        self, points: Tensor, before: Tensor | None = None, bases: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Evaluate curves.

        Args:
            points: (B, F, D) free control points, physical units.
            before: (B, k, D) commands before each chunk, if the boundary fixes k > 0 control points.
            bases: What `bases` returned, to evaluate elsewhere than at the chunk's own steps.

        Returns:
            (B, M, D).
        """
        smooth, switching = (self.smooth, self.switching) if bases is None else bases
        curve = smooth @ (points if before is None else torch.cat([self.fixed @ before, points], 1))
        if self.grippers:
            curve[:, :, self.grippers] = switching @ points[:, :, self.grippers]
        return curve
