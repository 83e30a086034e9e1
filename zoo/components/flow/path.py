"""The straight path between noise and data, in whichever direction time runs and velocities point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from zoo.config import check_fields
from zoo.errors import ConfigError

__all__ = ["Path"]


@dataclass(frozen=True)
class Path:
    """x_t = (1 - (1 - σ)s)·noise + s·data, where s goes from 0 at the noise to 1 at the data.

    Papers agree on this line and on nothing else, hence two conventions to choose, both of which a trained network
    depends on:

    | time | velocities | |
    |---|---|---|
    | `noise_time=0` | `points_to="data"` | t = s, v = dx/dt = data - (1 - σ)·noise |
    | `noise_time=1` | `points_to="noise"` | t = 1 - s, v = dx/dt = (1 - σ)·noise - data |
    | `noise_time=1` | `points_to="data"` | t = 1 - s, v = -dx/dt = data - (1 - σ)·noise |
    | `noise_time=0` | `points_to="noise"` | t = s, v = -dx/dt = (1 - σ)·noise - data |

    Attributes:
        noise_time: The time t at which x is noise; it is data at the other end of [0, 1].
        points_to: Whether the network predicts the way to the data or the way to the noise.
        sigma: σ, the standard deviation of the noise that is left around the data.

    Raises:
        ConfigError: σ is not in [0, 1), or another field holds none of its values.
    """

    noise_time: Literal[0, 1] = 1
    points_to: Literal["data", "noise"] = "noise"
    sigma: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "path")
        if not 0 <= self.sigma < 1:
            raise ConfigError(f"path: sigma must be at least 0 and below 1, got {self.sigma}.")

    def at(self, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return x_t (B, ...) of data and noise (B, ...) at times t (B,)."""
        to_data, to_noise = self._places(t, data)
        # Not 1 - (1 - σ)s, which float32 rounds to 1.3 % of a small σ at the data.
        return (to_noise + self.sigma * to_data) * noise + to_data * data

    def velocity(self, data: Tensor, noise: Tensor) -> Tensor:
        """Return what the network should predict, (B, ...); it is the same all along the path."""
        return self._sign * (data - (1 - self.sigma) * noise)

    def data(self, x: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
        """Return the data at the end of the straight line through x (B, ...) at t (B,), the one-step estimate."""
        to_data, to_noise = self._places(t, x)
        return (1 - self.sigma) * x + (to_noise + self.sigma * to_data) * (self._sign * velocity)

    def noise(self, x: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
        """Return the noise at the start of the straight line through x (B, ...) at t (B,)."""
        return x - self._places(t, x)[0] * (self._sign * velocity)

    def slope(self, velocity: Tensor) -> Tensor:
        """Return dx/dt of a predicted velocity."""
        # Time runs the way that velocities point if it ends where they point to.
        return velocity if (self.noise_time == 1) == (self.points_to == "noise") else -velocity

    @property
    def _sign(self) -> int:
        return 1 if self.points_to == "data" else -1

    def _places(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return s and 1 - s, shaped to multiply x."""
        t = t.view(-1, *[1] * (x.ndim - 1))
        return (t, 1 - t) if self.noise_time == 0 else (1 - t, t)
