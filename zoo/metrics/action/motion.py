"""The arithmetic behind `zoo.metrics.action.actions`: batches to sums that can be added up, sums to results.

The functions and the metrics there share it, so that they cannot disagree. Everything is float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo.errors import InputError

__all__ = [
    "error_result",
    "errors",
    "gripper_result",
    "gripper_sums",
    "joins_result",
    "joins_sums",
    "positive",
    "smoothness_result",
    "smoothness_sums",
    "valid_steps",
]

_GRIPPER_SUMS = ("right", "steps", "distance", "pairs", "switches", "decoded_switches")


def positive(dt: float) -> float:
    """Return dt if it is a duration."""
    if not (math.isfinite(dt) and dt > 0):
        raise InputError(f"dt must be a positive number of seconds, got {dt!r}.")
    return dt


def valid_steps(actions: Tensor, lengths: Tensor | None) -> Tensor:
    """Return which steps of actions [B, T, ...] are data, [B, T]."""
    batch, steps = actions.shape[:2]
    if lengths is None:
        return torch.ones(batch, steps, dtype=torch.bool, device=actions.device)
    if lengths.shape != (batch,) or lengths.is_floating_point() or lengths.is_complex():
        raise InputError(f"lengths must be {batch} integers, got {lengths.dtype} {list(lengths.shape)}.")
    if batch and (int(lengths.min()) < 0 or int(lengths.max()) > steps):
        raise InputError(f"lengths must lie in 0..{steps} (the steps), they span {lengths.min()}..{lengths.max()}.")
    return torch.arange(steps, device=actions.device) < lengths.to(actions.device)[:, None]


def errors(prediction: Tensor, target: Tensor, lengths: Tensor | None) -> Tensor:
    """Return |prediction - target| of all steps that count, float32 [N, D]."""
    prediction, target, valid = _pair(prediction, target, lengths)
    return (prediction - target).abs()[valid].float()


def error_result(absolute: Tensor) -> dict[str, Tensor]:
    """Turn absolute errors [N, D] into the numbers of `reconstruction_error`."""
    absolute = absolute.double()
    result: dict[str, Tensor] = {}
    for suffix, values in (("", absolute.reshape(-1, 1)), ("_per_dof", absolute)):
        if not len(values):
            values = values.new_full((1, values.shape[1]), math.nan)
        ordered = values.sort(0).values
        numbers = {"mse": values.square().mean(0), "mae": values.mean(0), "max": ordered[-1]}
        numbers |= {"rmse": numbers["mse"].sqrt(), "q95": _quantile(ordered, 0.95), "q99": _quantile(ordered, 0.99)}
        result |= {name + suffix: number if suffix else number[0] for name, number in numbers.items()}
    return result


def smoothness_sums(prediction: Tensor, target: Tensor, dt: float, lengths: Tensor | None) -> dict[str, Tensor]:
    """Return squared jerk by degree of freedom, log dimensionless jerk, and their counts."""
    positive(dt)
    prediction, target, valid = _pair(prediction, target, lengths)
    sums = {"count": valid[:, 3:].sum().double()}
    for suffix, actions in (("", prediction), ("_target", target)):
        sums["jerk" + suffix] = (_difference(actions, 3) / dt**3).square()[valid[:, 3:]].sum(0)
        log = log_dimensionless_jerk(actions, valid)
        finite = log.isfinite()
        sums["log" + suffix] = log[finite].sum()
        sums[f"log{suffix}_count"] = finite.sum().double()
    return sums


def smoothness_result(sums: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn sums into the numbers of `smoothness`."""
    result: dict[str, Tensor] = {}
    for suffix, reduce in (("", torch.mean), ("_per_dof", torch.clone)):
        decoded, data = (reduce(sums[name] / sums["count"]).sqrt() for name in ("jerk", "jerk_target"))
        result |= {
            "jerk_rms" + suffix: decoded,
            "jerk_rms_target" + suffix: data,
            "jerk_ratio" + suffix: decoded / data,
        }
    for suffix in ("", "_target"):
        result["log_dimensionless_jerk" + suffix] = sums["log" + suffix] / sums[f"log{suffix}_count"]
    return result


def log_dimensionless_jerk(actions: Tensor, valid: Tensor) -> Tensor:
    """Return -ln(M^3 / max(v)^2 * sum |j|^2 dt), [B], from float64 actions [B, T, D]; dt cancels, so it is 1 here."""
    steps = valid.sum(1)
    speed = _difference(actions, 1).square().sum(2).where(valid[:, 1:], 0.0)
    squared = _difference(actions, 3).square().sum(2).where(valid[:, 3:], 0.0).sum(1)
    peak = torch.cat([speed, speed.new_zeros(len(speed), 1)], dim=1).amax(1)
    value = -((steps - 1) ** 3 / peak * squared).log()
    return value.where((steps >= 4) & (peak > 0), math.nan)


def joins_sums(
    prediction: Tensor,
    target: Tensor,
    dt: float,
    lengths: Tensor | None,
    episode: Tensor | None,
    tolerance: float,
) -> dict[str, Tensor]:
    """Return jumps at joins beyond those of the data, by degree of freedom, and their counts."""
    positive(dt)
    prediction, target, valid = _pair(prediction, target, lengths)
    chunks, steps, _ = target.shape
    if episode is not None and (episode.shape != (chunks,) or episode.is_floating_point()):
        raise InputError(f"episode must be {chunks} integers, got {episode.dtype} {list(episode.shape)}.")
    held = valid.sum(1)
    joined = held[1:] > 0
    if episode is not None:
        joined = joined & (episode[1:] == episode[:-1]).to(joined.device)
    if (broken := (joined & (held[:-1] < steps)).nonzero()).numel():
        number = int(broken[0])
        raise InputError(
            f"Chunk {number} has {int(held[number])} of {steps} steps and the next one belongs to the same episode: "
            "only the last chunk of an episode may be short. Pass episode= where there is more than one."
        )
    sums = {}
    for order, name in enumerate(("value", "velocity", "acceleration")):
        counted = joined & (held[1:] > order) & (steps > order)
        decoded, data = (_jump(actions, order)[counted] / dt**order for actions in (prediction, target))
        sums[name] = (decoded - data).abs().sum(0)
        sums["num_joins" if order == 0 else f"num_{name}"] = counted.sum().double()
    over = {"repeated": _jump(prediction, 0)[joined].abs(), "repeated_target": _jump(target, 0)[joined].abs()}
    sums |= {name: (change <= tolerance).sum(0).double() for name, change in over.items()}
    inside = valid[:, 1:]
    sums["step"] = _difference(target, 1)[inside].abs().sum(0) + over["repeated_target"].sum(0)
    sums["num_steps"] = (inside.sum() + joined.sum()).double()
    return sums


def joins_result(sums: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn sums into the numbers of `joins`."""
    counts = {"value": "num_joins", "repeated": "num_joins", "repeated_target": "num_joins", "step": "num_steps"}
    counts |= {"velocity": "num_velocity", "acceleration": "num_acceleration"}
    means = {name: sums[name] / sums[count] for name, count in counts.items()}
    result = {"num_joins": sums["num_joins"]}
    for suffix, reduce in (("", torch.mean), ("_per_dof", torch.clone)):
        result |= {f"{name}_jump{suffix}": reduce(means[name]) for name in ("value", "velocity", "acceleration")}
        result["value_jump_ratio" + suffix] = reduce(means["value"]) / reduce(means["step"])
        result |= {name + suffix: reduce(means[name]) for name in ("repeated", "repeated_target")}
    return result


def gripper_sums(prediction: Tensor, target: Tensor, threshold: float, lengths: Tensor | None) -> dict[str, Tensor]:
    """Return right steps, paired switches and their distances, all counts, and the largest distance."""
    if target.ndim == 2:
        prediction, target = prediction[..., None], target[..., None]
    prediction, target, valid = _pair(prediction, target, lengths)
    sides = prediction > threshold, target > threshold
    right = ((sides[0] == sides[1]) & valid[..., None]).sum()
    steps = valid.sum() * target.shape[2]
    decoded, data = (((side[:, 1:] != side[:, :-1]) & valid[:, 1:, None]).transpose(1, 2) for side in sides)
    ups = [side[:, 1:].transpose(1, 2) for side in sides]
    distances: list[int] = []
    for item, gripper in (decoded.any(2) & data.any(2)).nonzero().tolist():
        for up in (True, False):
            mine = (decoded[item, gripper] & (ups[0][item, gripper] == up)).nonzero()[:, 0].tolist()
            theirs = (data[item, gripper] & (ups[1][item, gripper] == up)).nonzero()[:, 0].tolist()
            distances += _pair_up(mine, theirs)
    numbers = (right, steps, sum(distances), len(distances), data.sum(), decoded.sum())
    sums = dict(zip(_GRIPPER_SUMS, numbers, strict=True)) | {"worst": max(distances, default=0)}
    return {name: torch.as_tensor(value, dtype=torch.float64, device=target.device) for name, value in sums.items()}


def gripper_result(sums: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn sums into the numbers of `gripper_agreement`."""
    pairs, switches = sums["pairs"], sums["switches"]
    return {
        "sign_accuracy": sums["right"] / sums["steps"],
        "switch_time_error": sums["distance"] / pairs,
        "switch_time_error_max": sums["worst"].where(pairs > 0, math.nan),
        "num_switches": switches,
        "missed_switches": (switches - pairs) / switches,
        "spurious_switches": (sums["decoded_switches"] - pairs) / switches,
    }


def _pair(prediction: Tensor, target: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return both as float64 with zeros where there is no data, and which steps are data."""
    if target.ndim != 3 or prediction.shape != target.shape:
        raise InputError(
            "Decoded actions and data must be of one shape [chunks, steps, DoFs], got "
            f"{list(prediction.shape)} and {list(target.shape)}."
        )
    valid = valid_steps(target, lengths)
    ready = []
    for name, actions in (("decoded actions", prediction), ("data", target)):
        actions = actions.detach().double().where(valid[..., None], 0.0)
        if not bool(actions.isfinite().all()):
            chunk, step, dof = (~actions.isfinite()).nonzero()[0].tolist()
            raise InputError(f"The {name} hold {actions[chunk, step, dof]} at chunk {chunk}, step {step}, DoF {dof}.")
        ready.append(actions)
    return ready[0], ready[1], valid


def _difference(actions: Tensor, order: int) -> Tensor:
    """Return the difference of some order along the steps, [B, max(T - order, 0), D]."""
    return actions.diff(n=order, dim=1) if actions.shape[1] > order else actions[:, :0]


def _jump(actions: Tensor, order: int) -> Tensor:
    """Return the change of the one-sided difference of some order over each join, [B - 1, D]."""
    if actions.shape[1] <= order:
        return actions.new_zeros(len(actions) - 1, actions.shape[2])
    sides = _difference(actions, order) if order else actions
    return sides[1:, 0] - sides[:-1, -1]


def _quantile(ordered: Tensor, q: float) -> Tensor:
    # torch.quantile refuses more than 16 M values at once.
    position = q * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return torch.lerp(ordered[low], ordered[high], position - low)


def _pair_up(mine: list[int], theirs: list[int]) -> list[int]:
    """Return the distances of times paired nearest first, each used once."""
    pairs = sorted((abs(a - b), i, k) for i, a in enumerate(mine) for k, b in enumerate(theirs))
    used_mine: set[int] = set()
    used_theirs: set[int] = set()
    distances = []
    for distance, i, k in pairs:
        if i not in used_mine and k not in used_theirs:
            used_mine.add(i)
            used_theirs.add(k)
            distances.append(distance)
    return distances
