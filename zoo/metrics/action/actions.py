"""How well robot actions survive a tokenizer: error, smoothness, joins between chunks, grippers.

Every measure returns a dictionary of float64 tensors; keys that end in `_per_dof` hold [D] values, the others one. What
nothing was seen for is NaN.

Shapes: B chunks or trajectories, T steps, D degrees of freedom; `lengths` [B] counts the steps that are data, all of
them by default. Give normalised actions to weigh degrees of freedom alike, physical ones for physical units. To split
an error into fit and rounding, measure (continuous, target) for the fit and (decoded, continuous) for the rounding.

"""

from __future__ import annotations

from torch import Tensor

from zoo.errors import InputError
from zoo.metrics.action import motion as _motion

__all__ = [
    "gripper_agreement",
    "jerk",
    "joins",
    "log_dimensionless_jerk",
    "reconstruction_error",
    "smoothness",
]


def reconstruction_error(prediction: Tensor, target: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
    """Compare decoded actions with the data.

    Args:
        prediction: [B, T, D] decoded actions.
        target: [B, T, D] the data.
        lengths: [B] steps that count.

    Returns:
        `mse`, `rmse`, `mae`, `max` and the quantiles `q95`, `q99` of |prediction - target| (linearly interpolated),
        over all values and, with the suffix `_per_dof`, of each degree of freedom.

    Raises:
        InputError: Shapes differ, or a value that counts is not finite.
    """
    return _motion.error_result(_motion.errors(prediction, target, lengths))


def jerk(actions: Tensor, dt: float) -> Tensor:
    """Return the third difference of actions [B, T, D] divided by dt^3, [B, T - 3, D]."""
    return actions.double().diff(n=3, dim=1) / dt**3


def log_dimensionless_jerk(actions: Tensor, dt: float, lengths: Tensor | None = None) -> Tensor:
    """Return minus the logarithm of the dimensionless jerk of each trajectory: higher is smoother.

    With the duration M, the speed v (the norm over degrees of freedom) and the jerk j it is -ln(M^3 / max(v)^2 * sum
    |j|^2 dt); it depends neither on the amplitude nor on dt. The smoothest reach possible has about -5.3. Source:
    Balasubramanian, Melendez-Calderon and Burdet 2012, with finite differences.

    Args:
        actions: [B, T, D]
        dt: Seconds a step.
        lengths: [B] steps that count.

    Returns:
        [B]. NaN for a trajectory of fewer than four steps or one that stands still, infinity for one without jerk.
    """
    _motion.positive(dt)
    if actions.ndim != 3:
        raise InputError(f"actions must be [trajectories, steps, DoFs], got shape {list(actions.shape)}.")
    return _motion.log_dimensionless_jerk(actions.double(), _motion.valid_steps(actions, lengths))


def smoothness(prediction: Tensor, target: Tensor, dt: float, lengths: Tensor | None = None) -> dict[str, Tensor]:
    """Compare the smoothness of decoded actions with that of the data.

    Args:
        prediction: [B, T, D] decoded actions.
        target: [B, T, D] the data.
        dt: Seconds a step.
        lengths: [B] steps that count.

    Returns:
        `jerk_rms` and `jerk_rms_target` in units per second cubed, their quotient `jerk_ratio`, each also `_per_dof`;
        `log_dimensionless_jerk` and `log_dimensionless_jerk_target`, means over the trajectories for which it is
        finite.
    """
    return _motion.smoothness_result(_motion.smoothness_sums(prediction, target, dt, lengths))


def joins(
    prediction: Tensor,
    target: Tensor,
    dt: float,
    lengths: Tensor | None = None,
    episode: Tensor | None = None,
    tolerance: float = 1e-6,
) -> dict[str, Tensor]:
    """Measure what happens where one decoded chunk ends and the next begins, against what the data does there.

    Args:
        prediction: [B, T, D] decoded chunks in the order of time, cut without overlap.
        target: [B, T, D] the data, cut alike.
        dt: Seconds a step.
        lengths: [B] steps that count. A chunk that is not full is the last of its episode.
        episode: [B] the episode of each chunk, where there is more than one; joins are inside episodes only.
        tolerance: The largest change that counts as no change.

    Returns:
        `num_joins`; `value_jump`, the mean absolute difference between the decoded step over the join and the data's
        own, and `value_jump_ratio`, the same divided by the data's mean step; `velocity_jump` and `acceleration_jump`,
        where the quantity is the change of the one-sided first and second difference over the join; `repeated` and
        `repeated_target`, the share of joins at which the command stays as it was (a degree of freedom at a time). All
        but the first also `_per_dof`.
    """
    return _motion.joins_result(_motion.joins_sums(prediction, target, dt, lengths, episode, tolerance))


def gripper_agreement(
    prediction: Tensor, target: Tensor, threshold: float = 0.0, lengths: Tensor | None = None
) -> dict[str, Tensor]:
    """Compare when a gripper opens and closes.

    A gripper is on one side where its command is above the threshold. Switches of the two signals are paired within a
    trajectory, same direction, nearest first, each once.

    Args:
        prediction: [B, T] decoded commands, or [B, T, G] of several grippers.
        target: The data, same shape.
        threshold: Between open and closed.
        lengths: [B] steps that count.

    Returns:
        `sign_accuracy`, the share of steps on the right side; `switch_time_error` and `switch_time_error_max` in steps
        over the pairs; `num_switches` of the data; `missed_switches`, the share of those without a partner;
        `spurious_switches`, decoded switches without a partner, per switch of the data.
    """
    return _motion.gripper_result(_motion.gripper_sums(prediction, target, threshold, lengths))
