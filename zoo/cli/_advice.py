"""What a user should look at after `zoo fit-actions`: what decided the settings, what switches, what is clipped."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo import config as configs
from zoo.data.actions import ActionEpisodes
from zoo.modalities.action import ActionTokenizer

__all__ = ["advice"]

_MOST_CLIPPED = 0.05
_LARGE_ERROR = 0.15  # of a degree of freedom's range
_LEAST_RANGE = 1e-8


def advice(
    tokenizer: ActionTokenizer, episodes: ActionEpisodes, report: dict[str, Any], candidates: list[dict[str, Any]]
) -> list[str]:
    """Return lines for people, none if there is nothing to say.

    Args:
        tokenizer: What was fitted.
        episodes: All data.
        report: What `zoo.cli._report.measure` returned.
        candidates: Figures of the numbers of control points that were tried, of which one was taken.
    """
    settings = configs.to_dict(tokenizer.config)
    lines = []
    if report["clipped"] > _MOST_CLIPPED:
        lines.append(
            f"WARNING: {report['clipped']:.0%} of what was measured on is outside what was fitted, and clipped: are "
            "these episodes of another kind?"
        )
    if candidates:
        chosen = settings["num_basis"]
        figures = next(each for each in candidates if each["num_basis"] == chosen)["mse_per_dof"]
        most = max(range(len(figures)), key=figures.__getitem__)
        lines.append(
            f"auto took {chosen} control points, which degree of freedom {_label(episodes, most)} decides, with the "
            f"largest mean squared error ({figures[most]:.3g}). --num-basis N takes another number, --threshold "
            "another error."
        )
    switching = [dof for dof in range(episodes.num_dofs) if _switches(episodes, dof)]
    grippers = settings.get("gripper", switching)
    if unsaid := [dof for dof in switching if dof not in grippers]:
        lines.append(
            f"degree of freedom {', '.join(_label(episodes, dof) for dof in unsaid)} switches rather than moves: try "
            f"--gripper {','.join(map(str, sorted({*switching, *grippers})))}."
        )
    errors = np.array(report["max_error_per_dof"]) / np.maximum(_ranges(episodes), _LEAST_RANGE)
    worst = int(errors.argmax())
    if errors[worst] > _LARGE_ERROR:
        remedies = ["a shorter --horizon"]
        remedies += ["more control points (--num-basis)"] if "num_basis" in settings else []
        remedies += ["a larger --scale"] if "scale" in settings else []
        remedies += ["a larger --codebook-size"] if "codebook_size" in settings else []
        lines.append(
            f"degree of freedom {_label(episodes, worst)} is off by up to {report['max_error_per_dof'][worst]:.3g}, "
            f"{errors[worst]:.0%} of its range: try {' or '.join(remedies)}."
        )
    return lines


def _label(episodes: ActionEpisodes, dof: int) -> str:
    return f"{dof} ({episodes.dof_names[dof]})" if episodes.dof_names else f"{dof}"


def _ranges(episodes: ActionEpisodes) -> Any:
    values = np.concatenate(episodes.episodes).astype(np.float64)
    return values.max(0) - values.min(0)


def _switches(episodes: ActionEpisodes, dof: int) -> bool:
    """Whether a degree of freedom is nearly always near one end of its range or the other, and is at both."""
    values = np.concatenate([episode[:, dof] for episode in episodes.episodes]).astype(np.float64)
    low, high = values.min(), values.max()
    if high - low < _LEAST_RANGE:
        return False
    place = (values - low) / (high - low)
    at_low, at_high = (place < 0.1).mean(), (place > 0.9).mean()
    return bool(at_low + at_high > 0.9 and min(at_low, at_high) > 0.02)
