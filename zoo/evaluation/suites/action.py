"""Measures action tokenizers on whole episodes of expert actions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import zoo
from zoo import config, registry
from zoo.components.layers.normalization import RangeNormalizer
from zoo.components.statistics import RunningRange
from zoo.data.actions import ActionEpisodes, hold_out, read_actions
from zoo.data.ragged import Ragged
from zoo.errors import InputError, TokenError
from zoo.evaluation.figures import interval, row_interval
from zoo.evaluation.items import Bootstrap
from zoo.evaluation.kinds import Progress, SuiteKind
from zoo.evaluation.report import Column, Figure, Report
from zoo.evaluation.suite import DataFile, environment
from zoo.metrics.action import motion
from zoo.metrics.rows import Columns, Row, Statistic, ratio
from zoo.modalities.action import ActionTokenizer
from zoo.modalities.chunks import split

__all__ = ["ACTION", "ActionData", "ActionSuite", "Variant", "measure"]

_COLUMNS = (
    Column("tokens_per_chunk", "tokens a chunk", "{:.1f}"),
    Column("bits_per_second", "bit/s", "{:.0f}"),
    Column("compression", "values a token", "{:.2f}"),
    Column("mse", "MSE", "{:.2e}"),
    Column("q99", "99 % of errors below", "{:.3f}"),
    Column("jerk_ratio", "jerk, decoded / data", "{:.2f}"),
    Column("join_jump", "jump at joins / step", "{:.2f}"),
    Column("repeated", "repeated commands at joins", "{:.3f}"),
    Column("repeated_data", "the same in the data", "{:.3f}"),
    Column("gripper_accuracy", "gripper side right", "{:.3f}"),
    Column("decodes", "decodes with a token changed", "{:.2f}"),
    Column("damage", "mean change by that token", "{:.3f}"),
    Column("encode_us", "encode µs", "{:.0f}", False),
    Column("decode_us", "decode µs", "{:.0f}", False),
    Column("encode_batch_us", "encode µs a chunk, batch 1024", "{:.2f}", False),
    Column("decode_batch_us", "decode µs a chunk, batch 1024", "{:.2f}", False),
)

_HELD_OUT = 0.1
_LEAST_EPISODES = 2
_NO_STEPS = "there is nothing to measure on"


@dataclass(frozen=True)
class ActionData(DataFile):
    """Which episodes a suite measures on.

    Args:
        file: Name of the file in the library's data cache.
        sha256: Of the file that the published figures are of.
        made_by: The command that makes it.
        fit_split: Episodes that variants are fitted on; "" if the data has no splits, and a tenth is held out here.
        test_split: Episodes that everything is measured on; "" likewise.
    """

    fit_split: str = ""
    test_split: str = ""


@dataclass(frozen=True)
class Variant:
    """A tokenizer that is fitted for the comparison: a family with settings."""

    name: str
    family: str
    config: dict


@dataclass(frozen=True)
class ActionSuite:
    """A suite for action tokenizers.

    Args:
        kind: Which suite this is.
        title: For people.
        data: What to measure on.
        gripper: Degrees of freedom that switch, halfway between the ends of the data being their threshold.
        models: Registered names or folders, loaded as they are.
        variants: What is fitted here.
        bootstrap: How intervals are made.
        latency_seconds: Seconds spent on each latency figure.
    """

    kind: Literal["action"]
    title: str
    data: ActionData
    gripper: tuple[int, ...] = ()
    models: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    latency_seconds: float = 1.0

    def for_own(self, path: Path, gripper: Sequence[int] | None) -> ActionSuite:
        """Return the suite for data that somebody points at, called by its name; itself if that is the suite's data.

        Args:
            path: Where it is.
            gripper: Degrees of freedom of it that switch, from 0 or from the end; None if nobody says.
        """
        if self.data.describe(path)["is_reference"] or self._is_alike(path):
            return self if gripper is None else replace(self, gripper=tuple(gripper))
        title = f"Robot actions of {path.resolve().name}, a tenth of the episodes held out"
        data = replace(self.data, fit_split="", test_split="")
        return replace(self, title=title, gripper=tuple(gripper or ()), data=data)

    def _is_alike(self, path: Path) -> bool:
        """Whether data has the suite's splits, and says of its grippers that they are such: made as the suite's was."""
        try:
            parts = [read_actions(path, split=name) for name in (self.data.fit_split, self.data.test_split)]
        except InputError:
            return False
        names = parts[0].dof_names or ()
        return all(dof < len(names) and "grip" in names[dof].lower() for dof in self.gripper)


def measure(suite: ActionSuite, models: Sequence[str] | None, path: Path, progress: Progress) -> Report:
    """Run an action suite. See `zoo.evaluation.run`."""
    described = suite.data.describe(path)
    fit_data, test_data = _read(suite.data, path)
    width = fit_data.num_dofs
    if wrong := [dof for dof in suite.gripper if not -width <= dof < width]:
        raise InputError(f"gripper names degree of freedom {wrong[0]}, and the data has 0 to {width - 1}.")
    suite = replace(suite, gripper=tuple(dof % width for dof in suite.gripper))
    seen = RunningRange()
    for episode in fit_data.episodes:
        seen.update(torch.from_numpy(episode))
    normalizer = RangeNormalizer(fit_data.episodes[0].shape[1])
    normalizer.set_range(seen.quantile(0.01), seen.quantile(0.99))
    report = Report(
        suite=suite.kind,
        title=suite.title,
        protocol=(
            "Errors in normalised units (1 % and 99 % quantiles of the training data at ±1), whole episodes; intervals "
            f"of {suite.bootstrap.confidence:.0%} from resampling episodes; latency is the median of single calls."
        ),
        data={**described, "episodes": len(test_data.episodes)},
        environment=environment(),
    )
    tokenizers = list(_tokenizers(suite, models, fit_data))  # so that one that cannot be measured is told at once
    total = len(tokenizers)
    for name, tokenizer in tokenizers:
        progress(f"measuring {name}", len(report.models), total)
        report.models[name] = {
            **_quality(tokenizer, test_data, normalizer, suite),
            **_robustness(tokenizer, test_data, normalizer, suite),
            **_latency(tokenizer, test_data, suite.latency_seconds),
        }
        report.settings[name] = config.to_dict(tokenizer.config)
    progress("measured", total, total)
    return report


def _read(data: ActionData, path: Path) -> tuple[ActionEpisodes, ActionEpisodes]:
    """Return the episodes to fit on and those to measure on."""
    if data.fit_split or data.test_split:
        fit_data, test_data = (read_actions(path, split=name) for name in (data.fit_split, data.test_split))
        return fit_data, test_data
    episodes = read_actions(path)
    if len(episodes.episodes) < _LEAST_EPISODES:
        raise InputError(
            f"{path} has {len(episodes.episodes)} episodes, and some have to be held out: at least {_LEAST_EPISODES} "
            "are needed."
        )
    test_data, fit_data = hold_out(episodes, _HELD_OUT)
    return fit_data, test_data


def _tokenizers(suite: ActionSuite, models: Sequence[str] | None, fit_data: ActionEpisodes) -> Any:
    for name in suite.models if models is None else models:
        tokenizer = zoo.load(name)
        if not isinstance(tokenizer, ActionTokenizer):
            raise InputError(f"{name} tokenizes {tokenizer.spec.modality}, this suite is for actions.")
        if models is None and tokenizer.num_dofs != fit_data.num_dofs:
            # Of another robot: what its settings give when they are fitted here.
            values = _reshaped(config.to_dict(tokenizer.config), suite, fit_data)
            yield f"{name}, fitted here", type(tokenizer).from_config(values).fit(fit_data)
            continue
        if tokenizer.num_dofs != fit_data.num_dofs:
            raise InputError(
                f"{name} takes {tokenizer.num_dofs} degrees of freedom, the suite's data has {fit_data.num_dofs}."
            )
        yield name, tokenizer
    for variant in suite.variants if models is None else ():
        values = variant.config
        if values.get("num_dofs", fit_data.num_dofs) != fit_data.num_dofs:
            values = _reshaped(values, suite, fit_data)
        tokenizer = registry.family(variant.family).from_config(values)
        if not isinstance(tokenizer, ActionTokenizer):
            raise InputError(f"{variant.name}: {variant.family} does not tokenize actions.")
        yield variant.name, tokenizer.fit(fit_data)


def _reshaped(values: dict[str, Any], suite: ActionSuite, data: ActionEpisodes) -> dict[str, Any]:
    """Return the settings of a tokenizer of another robot for this one's data."""
    gripper = {"gripper": list(suite.gripper)} if "gripper" in values else {}
    return {**values, "num_dofs": data.num_dofs, "control_rate": data.control_rate, **gripper}


def _quality(
    tokenizer: ActionTokenizer, data: ActionEpisodes, normalizer: RangeNormalizer, suite: ActionSuite
) -> dict[str, Figure]:
    rows: list[Row] = []
    errors: list[NDArray[np.float64]] = []
    middle = normalizer.centre[list(suite.gripper)].float()
    for episode in data.episodes:
        x = torch.from_numpy(episode)[None]
        num_tokens, decoded = _round_trip(tokenizer, x)
        target, result = normalizer(x), normalizer(decoded)
        difference = (result - target).abs()
        errors.append(np.sort(difference.flatten().numpy()))
        row = {
            "tokens": num_tokens,
            "chunks": tokenizer.num_chunks(x.shape[1]),
            "bits": num_tokens * math.log2(tokenizer.spec.require_codebook()),
            "seconds": x.shape[1] / (data.control_rate or 1.0),
            "values": x.numel(),
            "squared_error": float(difference.square().sum()),
            "squared_jerk": float(result.diff(n=3, dim=1).square().sum()),
            "squared_jerk_data": float(target.diff(n=3, dim=1).square().sum()),
            **_joins(tokenizer, result, target),
        }
        if suite.gripper:
            grippers = list(suite.gripper)
            agree = (decoded[..., grippers] > middle) == (x[..., grippers] > middle)
            row |= {"gripper_agreed": float(agree.sum()), "gripper_values": agree.numel()}
        rows.append(row)

    def of_rows(statistic: Statistic, reason: str) -> Figure:
        return row_interval(rows, statistic, suite.bootstrap, reason)

    no_joins = "no episode has more than one chunk"
    figures = {
        "tokens_per_chunk": of_rows(ratio("tokens", "chunks"), _NO_STEPS),
        "bits_per_second": of_rows(ratio("bits", "seconds"), _NO_STEPS),
        "compression": of_rows(ratio("values", "tokens"), _NO_STEPS),
        "mse": of_rows(ratio("squared_error", "values"), _NO_STEPS),
        "q99": _quantile(errors, 0.99, suite),
        "jerk_ratio": of_rows(_jerk_ratio, "the data does not jerk"),
        "join_jump": of_rows(_join_jump, no_joins),
        "repeated": of_rows(ratio("repeated", "joins"), no_joins),
        "repeated_data": of_rows(ratio("repeated_data", "joins"), no_joins),
    }
    if suite.gripper:
        figures["gripper_accuracy"] = of_rows(ratio("gripper_agreed", "gripper_values"), _NO_STEPS)
    return figures


def _jerk_ratio(columns: Columns) -> float:
    """Return how many times as much decoded motion jerks as the data, in the root mean square."""
    return math.sqrt(ratio("squared_jerk", "squared_jerk_data")(columns))


def _join_jump(columns: Columns) -> float:
    """Return the mean jump at a join that the data does not have, in steps of the data."""
    step = ratio("step", "steps")(columns)
    return ratio("jump", "joins")(columns) / step if step else math.nan


def _round_trip(tokenizer: ActionTokenizer, x: Tensor) -> tuple[int, Tensor]:
    """Return the number of tokens of an episode (1, L, D) and what they decode to."""
    options = tokenizer.at_rest(x[:, 0])
    tokens = tokenizer.encode(x, **options)
    return int(tokens.lengths.sum()), tokenizer.decode(tokens, **options)


def _joins(tokenizer: ActionTokenizer, result: Tensor, target: Tensor) -> dict[str, float]:
    """Return jumps at joins, steps of the data, and commands that are repeated at joins, all with their counts."""
    chunks = split(Ragged.of(target), tokenizer.horizon)
    decoded = split(Ragged.of(result), tokenizer.horizon)
    sums = motion.joins_sums(decoded.values, chunks.values, 1.0, chunks.valid, None, 1e-6)
    dofs = target.shape[2]
    return {
        "jump": float(sums["value"].sum()),
        "joins": float(sums["num_joins"]) * dofs,
        "step": float(sums["step"].sum()),
        "steps": float(sums["num_steps"]) * dofs,
        "repeated": float(sums["repeated"].sum()),
        "repeated_data": float(sums["repeated_target"].sum()),
    }


def _quantile(errors: list[NDArray[np.float64]], q: float, suite: ActionSuite) -> Figure:
    """Return a quantile of all errors, resampling episodes (fewer resamples: each sorts everything)."""
    estimate = float(np.quantile(np.concatenate(errors), q))
    generator = np.random.default_rng(suite.bootstrap.seed)
    drawn = [
        float(np.quantile(np.concatenate([errors[i] for i in generator.integers(0, len(errors), len(errors))]), q))
        for _ in range(min(200, suite.bootstrap.num_resamples))
    ]
    tail = (1 - suite.bootstrap.confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Figure(estimate, float(low), float(high))


def _robustness(
    tokenizer: ActionTokenizer, data: ActionEpisodes, normalizer: RangeNormalizer, suite: ActionSuite
) -> dict[str, Figure]:
    """Change one token of each episode's first chunk at random: does it still decode, and how far does motion move?"""
    generator = torch.Generator().manual_seed(suite.bootstrap.seed)
    valid, damage = [], []
    for episode in data.episodes:
        options = tokenizer.at_rest(torch.from_numpy(episode)[:1])
        tokens = tokenizer.encode(torch.from_numpy(episode[: tokenizer.horizon])[None], **options)
        intact = normalizer(tokenizer.decode(tokens, **options))
        place = int(torch.randint(int(tokens.lengths[0]), (), generator=generator))
        ids = tokens.ids.clone()
        shift = torch.randint(1, tokens.codebook_size, (), generator=generator)
        ids[0, place] = (ids[0, place] + shift) % tokens.codebook_size
        try:
            decoded = normalizer(tokenizer.decode(replace(tokens, ids=ids), **options))
        except TokenError:
            valid.append(0.0)
            continue
        valid.append(1.0)
        damage.append(float((decoded - intact).abs().mean()))
    figures = {"decodes": interval(valid, suite.bootstrap, _NO_STEPS)}
    if damage:
        figures["damage"] = interval(damage, suite.bootstrap, _NO_STEPS)
    return figures


def _latency(tokenizer: ActionTokenizer, data: ActionEpisodes, seconds: float) -> dict[str, Figure]:
    """Return median and 99th percentile of one call on one chunk, and the time a chunk takes in batches of 1024."""
    windows = np.concatenate(
        [
            np.lib.stride_tricks.sliding_window_view(e, tokenizer.horizon, 0)
            for e in data.episodes
            if len(e) >= tokenizer.horizon
        ]
    )
    chosen = np.random.default_rng(0).choice(len(windows), 1024, replace=len(windows) < 1024)
    x = torch.from_numpy(np.ascontiguousarray(windows[chosen].swapaxes(1, 2)))
    figures = {}
    for size, name in ((1, ""), (1024, "_batch")):
        part = x[:size]
        options = tokenizer.at_rest(part[:, 0])
        tokens = tokenizer.encode(part, **options)
        for verb, call in (
            ("encode", lambda part=part, options=options: tokenizer.encode(part, **options)),
            ("decode", lambda tokens=tokens, options=options: tokenizer.decode(tokens, **options)),
        ):
            times = _times(call, seconds) * 1e6 / size
            figures[f"{verb}{name}_us"] = Figure(float(np.median(times)))
            if size == 1:
                figures[f"{verb}_p99_us"] = Figure(float(np.quantile(times, 0.99)))
    return figures


def _times(call: Callable[[], Any], seconds: float) -> NDArray[np.float64]:
    call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return np.array(times)


ACTION = SuiteKind(ActionSuite, measure, _COLUMNS)
