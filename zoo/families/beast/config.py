"""The settings of a BEAST tokenizer."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

from zoo import config as configs
from zoo.components.layers.reach import LIMIT
from zoo.errors import ConfigError
from zoo.modalities.action_settings import check_chunk, check_grippers, check_quantiles, require_between

__all__ = ["BeastConfig"]

# Of the matrix from steps to control points, which is computed when a tokenizer is built: some seconds.
_MAX_MATRIX = 2**19


@dataclass(frozen=True)
class BeastConfig:
    """Settings of a BEAST tokenizer. The defaults are those of the public configurations where these agree.

    Args:
        num_dofs: Degrees of freedom, D.
        horizon: Steps in a chunk, T.
        num_basis: Control points (basis functions) per degree of freedom, N; at least degree + 1, at most T.
        degree: Degree of the splines, p.
        codebook_size: Levels of each control point, V.
        ridge: λ of the least-squares fit, in normalised units.
        grid: Where in [0, 1] the steps lie. `closed`: u = t / (T - 1), t = 0 … T - 1. `anchored`: u = t / T,
            t = 1 … T, so that u = 0 is the last command before the chunk.
        boundary: What a chunk takes over from the commands before it: nothing (`free`), the last value (`value`, C0),
            or also its rate of change (`value+velocity`, C1). Each takes one control point, which is then not a token.
            Meant for `anchored`: on the closed grid the first command would repeat the last one before it. Needs a
            degree of 1 or more.
        gripper: Indices of degrees of freedom that switch rather than move.
        gripper_mode: `zero_order`: N intervals of constant value. `spline`: like the others, decoded values clipped
            to the range of the data; times a switch more exactly.
        gripper_threshold: Whether decoded grippers snap to the lower or upper end of the data's range.
        bounds: Bounds of the control points: `minmax` over the data, or its `quantile`s.
        bounds_quantiles: Which, if `quantile`.
        margin: How far bounds are widened at each end, as a fraction of their width.
        per: Bounds for each control point of each degree of freedom (`slot`), or one pair a degree of freedom (`dof`).
        action_quantiles: Quantiles of the actions that normalised units put at -1 and +1.
        control_rate: Commands per second, Hz, if known.
        limit: How many half ranges from the middle of the fitted data's range a value may lie; beyond, its unit must be
            wrong.
    """

    num_dofs: int
    horizon: int
    num_basis: int
    degree: int = 4
    codebook_size: int = 256
    ridge: float = 1e-4
    grid: Literal["closed", "anchored"] = "closed"
    boundary: Literal["free", "value", "value+velocity"] = "free"
    gripper: tuple[int, ...] = ()
    gripper_mode: Literal["zero_order", "spline"] = "zero_order"
    gripper_threshold: bool = False
    bounds: Literal["minmax", "quantile"] = "minmax"
    bounds_quantiles: tuple[float, float] = (0.01, 0.99)
    margin: float = 0.125
    per: Literal["slot", "dof"] = "slot"
    action_quantiles: tuple[float, float] = (0.01, 0.99)
    control_rate: float | None = None
    limit: float = LIMIT

    def __post_init__(self) -> None:
        configs.check_fields(self, "BEAST")
        check_chunk("BEAST", self.num_dofs, self.horizon, self.control_rate, self.limit, least_horizon=2)
        require_between("BEAST", "degree", self.degree, 0, 10)
        self._require(
            self.num_basis >= self.degree + 1,
            f"a spline of degree {self.degree} needs num_basis ≥ {self.degree + 1}, got {self.num_basis}",
        )
        self._require(
            self.num_basis <= self.horizon,
            f"num_basis = {self.num_basis} control points cannot be determined from horizon = {self.horizon} steps: "
            f"choose at most {self.horizon * 3 // 4}",
        )
        self._require(
            self.num_basis * self.horizon <= _MAX_MATRIX,
            f"horizon × num_basis may be {_MAX_MATRIX}, got {self.horizon} × {self.num_basis}",
        )
        self._require(
            self.num_basis > self.num_fixed,
            f"boundary {self.boundary!r} fixes {self.num_fixed} control points, which leaves none of {self.num_basis}",
        )
        self._require(
            self.boundary == "free" or self.degree >= 1,
            f"boundary {self.boundary!r} needs splines of degree 1 or more: those of degree 0 jump anyway",
        )
        require_between("BEAST", "codebook_size", self.codebook_size, 2, 2**20)
        self._require(0 < self.ridge <= 1e6, f"ridge must be above 0 and at most 1e6, got {self.ridge}")
        require_between("BEAST", "margin", self.margin, 0, 1000)
        check_grippers("BEAST", self.gripper, self.num_dofs)
        for name in ("bounds_quantiles", "action_quantiles"):
            check_quantiles("BEAST", name, getattr(self, name))
        if self.num_basis > 0.75 * self.horizon:
            warnings.warn(
                f"num_basis = {self.num_basis} is more than three quarters of horizon = {self.horizon}: the fit is "
                "badly conditioned, control points leave the data's range and their bounds get wide.",
                stacklevel=3,
            )

    @property
    def num_fixed(self) -> int:
        """Control points that the boundary fixes, k."""
        return ("free", "value", "value+velocity").index(self.boundary)

    @property
    def num_free(self) -> int:
        """Control points that become tokens, F = N - k."""
        return self.num_basis - self.num_fixed

    @staticmethod
    def _require(condition: bool, message: str) -> None:
        if not condition:
            raise ConfigError(f"BEAST: {message}.")
