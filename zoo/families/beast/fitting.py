"""How many control points a data set needs: the paper's rule, as a report that can be looked at."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zoo import config as configs
from zoo.errors import ConfigError, InputError
from zoo.families.beast.config import BeastConfig
from zoo.families.beast.spline import episode_windows
from zoo.families.beast.tokenizer import BeastTokenizer

__all__ = ["BasisCandidate", "BasisChoice", "choose_num_basis", "settle"]

_FEW_CHUNKS = 100
_MANY_CHUNKS = 4096


@dataclass(frozen=True)
class BasisCandidate:
    """How well chunks survive one number of control points. Errors are in normalised units.

    Args:
        num_basis: Control points per degree of freedom, N.
        num_tokens: Tokens of a chunk.
        mse: Mean squared error of decoded tokens.
        continuous_mse: That of the spline alone, before control points are clipped and rounded.
        max_error: Largest absolute error of decoded tokens.
        mse_per_dof: `mse` of each degree of freedom.
        max_error_per_dof: `max_error` of each degree of freedom.
        clipped: Share of control points that lie outside their bounds.
    """

    num_basis: int
    num_tokens: int
    mse: float
    continuous_mse: float
    max_error: float
    mse_per_dof: tuple[float, ...]
    max_error_per_dof: tuple[float, ...]
    clipped: float


@dataclass(frozen=True)
class BasisChoice:
    """What `choose_num_basis` found.

    Args:
        config: The settings with the chosen number of control points.
        threshold: The mean squared error that had to be undercut.
        num_chunks: Chunks that were reconstructed.
        is_held_out: Whether these were other data than the bounds were fitted on.
        candidates: Every number that was tried, smallest first.
    """

    config: BeastConfig
    threshold: float
    num_chunks: int
    is_held_out: bool
    candidates: tuple[BasisCandidate, ...]

    @property
    def chosen(self) -> BasisCandidate:
        """The figures of the chosen number."""
        return next(each for each in self.candidates if each.num_basis == self.config.num_basis)


def choose_num_basis(
    episodes: Any,
    config: BeastConfig,
    *,
    threshold: float = 1e-2,
    held_out: Any = None,
    candidates: Sequence[int] | None = None,
) -> BasisChoice:
    """Find the smallest number of control points whose reconstruction is good enough.

    As the paper does it: half as many as steps first, then fewer while the mean squared error of reconstructed chunks
    stays below `threshold` (or more, up to three quarters of the steps, until it does), by bisection. The paper's 1e-2
    is loose, an error of a tenth of the range: look at the figures of single degrees of freedom too.

    Args:
        episodes: What `fit` takes; bounds are fitted on it.
        config: Settings whose `num_basis` is to be replaced.
        threshold: Mean squared error to undercut, in normalised units, tokens included.
        held_out: Other episodes, to measure on; the same if None.
        candidates: Numbers to try, all of them, instead of searching.

    Returns:
        The settings with the chosen number, and the figures of every number tried.

    Raises:
        InputError: Unusable data, or no number undercuts the threshold.
        ConfigError: An unusable threshold or candidate.
    """
    if not (math.isfinite(threshold) and threshold > 0):
        raise ConfigError(f"the threshold must be a finite number above 0, got {threshold}.")
    least = max(config.degree, config.num_fixed) + 1
    reader = BeastTokenizer(config)
    data = reader.as_episodes(episodes)
    chunks = _chunks(data if held_out is None else reader.as_episodes(held_out), config)
    if len(chunks) < _FEW_CHUNKS:
        warnings.warn(
            f"the number of control points is chosen on {len(chunks)} chunks; at least {_FEW_CHUNKS} are advisable.",
            stacklevel=2,
        )
    tried: dict[int, BasisCandidate] = {}

    def passes(num_basis: int) -> bool:
        if num_basis not in tried:
            tried[num_basis] = _measure(data, chunks, replace(config, num_basis=num_basis))
        return tried[num_basis].mse < threshold

    if candidates is not None:
        chosen = min((number for number in candidates if passes(number)), default=None)
    else:
        chosen = _bisect(passes, least, max(least, config.horizon * 3 // 4), config.horizon // 2)
    figures = tuple(tried[number] for number in sorted(tried))
    if not figures:
        raise ConfigError("there are no candidates: give at least one number of control points.")
    if chosen is None:
        best = min(figures, key=lambda each: each.mse)
        worst = max(range(config.num_dofs), key=best.mse_per_dof.__getitem__)
        raise InputError(
            f"no number of control points brings the mean squared error below {threshold:g}: the best of "
            f"{[each.num_basis for each in figures]} is {best.num_basis} with {best.mse:.3g}, and DoF {worst} is the "
            f"worst with {best.mse_per_dof[worst]:.3g}. Raise the threshold, leave out what is no motion, or use "
            "another tokenizer: splines do not describe noise."
        )
    return BasisChoice(replace(config, num_basis=chosen), threshold, len(chunks), held_out is not None, figures)


def settle(values: dict[str, Any], episodes: Any, threshold: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the values of a config with the number of control points that the data needs, and what was tried.

    Args:
        values: Values of `BeastConfig`; `num_basis` missing or "auto" is what is settled.
        episodes: As for `choose_num_basis`.
        threshold: As for `choose_num_basis`.
    """
    if values.get("num_basis", "auto") != "auto":
        return values, []
    # Any number that the settings allow will do; it is replaced.
    least = max(values.get("degree", BeastConfig.degree) + 1, 3)
    config = configs.from_dict(BeastConfig, {**values, "num_basis": least}, "settings")
    choice = choose_num_basis(episodes, config, threshold=threshold)
    return {**values, "num_basis": choice.config.num_basis}, [asdict(candidate) for candidate in choice.candidates]


def _bisect(passes: Callable[[int], bool], least: int, most: int, first: int) -> int | None:
    """Return the smallest number in least … most that passes, where a larger one passes if a smaller does, or None."""
    first = min(max(first, least), most)
    if passes(first):
        fails, good = least - 1, first
    elif first < most and passes(most):
        fails, good = first, most
    else:
        return None
    while good - fails > 1:
        middle = (good + fails) // 2
        fails, good = (fails, middle) if passes(middle) else (middle, good)
    return good


def _chunks(episodes: list[Tensor], config: BeastConfig) -> Tensor:
    """Return consecutive chunks (n, k + T, D) of episodes, or overlapping ones where there are few."""
    whole = [episode_windows(e, config)[: max(1, len(e) - config.horizon + 1)] for e in episodes]
    stride = config.horizon
    while stride > 1 and sum(-(-len(windows) // stride) for windows in whole) < _FEW_CHUNKS:
        stride //= 2
    chunks = torch.cat([windows[::stride] for windows in whole])
    return (
        chunks
        if len(chunks) <= _MANY_CHUNKS
        else chunks[torch.linspace(0, len(chunks) - 1, _MANY_CHUNKS, dtype=torch.float32, device="cpu").long()]
    )


def _measure(data: list[Tensor], chunks: Tensor, config: BeastConfig) -> BasisCandidate:
    tokenizer = BeastTokenizer(config).fit(data)
    before, x = chunks[:, : config.num_fixed], chunks[:, config.num_fixed :]
    start = before if config.num_fixed else None
    decoded = tokenizer.decode(tokenizer.encode(x, start=start), start=start)
    spline = tokenizer.decode_latents(tokenizer.encode_latents(x, start=start, clamp=False), start=start)
    error, spline_error = ((y - x).double() / tokenizer.normalizer.half_range for y in (decoded, spline))
    clipped = tokenizer.clipped_slots(x, start=start)
    return BasisCandidate(
        num_basis=config.num_basis,
        num_tokens=tokenizer.num_tokens(config.horizon),
        mse=float(error.square().mean()),
        continuous_mse=float(spline_error.square().mean()),
        max_error=float(error.abs().max()),
        mse_per_dof=tuple(error.square().mean((0, 1)).tolist()),
        max_error_per_dof=tuple(error.abs().amax((0, 1)).tolist()),
        clipped=float(clipped.sum()) / (len(x) * clipped.numel()),
    )
