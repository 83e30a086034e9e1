"""The measures of actions and tokens against independent computations and cases with a known answer."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
import scipy.stats
import torch

from zoo.errors import InputError
from zoo.metrics import bootstrap
from zoo.metrics.action.actions import (
    gripper_agreement,
    jerk,
    joins,
    log_dimensionless_jerk,
    reconstruction_error,
    smoothness,
)
from zoo.metrics.bootstrap import bootstrap_interval

DT = 0.05


def batch(chunks=6, steps=8, dofs=3, seed=0):
    """Decoded actions, data, and lengths, the last of which are short."""
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((chunks, steps, dofs)).cumsum(1).astype(np.float32)
    decoded = data + 0.1 * rng.standard_normal(data.shape).astype(np.float32)
    lengths = rng.integers(1, steps + 1, chunks)
    return torch.from_numpy(decoded), torch.from_numpy(data), torch.from_numpy(lengths)


def close(found, wanted, **tolerance):
    torch.testing.assert_close(
        {name: torch.as_tensor(value, dtype=torch.float64) for name, value in found.items()},
        {name: torch.as_tensor(value, dtype=torch.float64) for name, value in wanted.items()},
        equal_nan=True,
        **tolerance,
    )


# Reconstruction


def test_reconstruction_error_matches_numpy():
    decoded, data, lengths = batch()
    rows = [np.s_[chunk, :length] for chunk, length in enumerate(lengths.tolist())]
    error = np.concatenate([np.abs(decoded.double().numpy()[row] - data.double().numpy()[row]) for row in rows])
    wanted = {}
    for suffix, values in (("", error.ravel()), ("_per_dof", error)):
        wanted |= {
            "mse" + suffix: (values**2).mean(0),
            "rmse" + suffix: np.sqrt((values**2).mean(0)),
            "mae" + suffix: values.mean(0),
            "max" + suffix: values.max(0),
            "q95" + suffix: np.quantile(values, 0.95, axis=0),
            "q99" + suffix: np.quantile(values, 0.99, axis=0),
        }
    found = reconstruction_error(decoded, data, lengths)
    close(found, wanted, rtol=1e-6, atol=1e-9)
    assert {value.dtype for value in found.values()} == {torch.float64}


def test_reconstruction_error_by_hand():
    target = torch.zeros(1, 4, 2)
    decoded = torch.tensor([[[0.0, 1], [0, 1], [0, -1], [2, 1]]])
    found = reconstruction_error(decoded, target)
    assert (found["mse"], found["mae"], found["max"]) == (1.0, 0.75, 2.0)
    assert found["mse_per_dof"].tolist() == [1.0, 1.0]
    assert found["mae_per_dof"].tolist() == [0.5, 1.0]
    # Ranks 0..3 hold 0, 0, 0, 2: the 95 % quantile lies at rank 2.85.
    assert found["q95_per_dof"][0].item() == pytest.approx(0.85 * 2)


def test_padding_may_hold_anything():
    decoded, data, lengths = batch()
    wanted = [reconstruction_error(decoded, data, lengths), smoothness(decoded, data, DT, lengths)]
    padding = torch.arange(data.shape[1]) >= lengths[:, None]
    decoded[padding], data[padding] = math.nan, math.inf
    close(reconstruction_error(decoded, data, lengths), wanted[0], rtol=0, atol=0)
    close(smoothness(decoded, data, DT, lengths), wanted[1], rtol=0, atol=0)


# Smoothness


def test_jerk_of_a_cubic_is_constant():
    time = torch.arange(10, dtype=torch.float64) * DT
    actions = (2 * time**3 - time**2)[None, :, None]
    torch.testing.assert_close(jerk(actions, DT), torch.full((1, 7, 1), 12.0, dtype=torch.float64))
    found = smoothness(2 * actions, actions, DT)
    assert found["jerk_rms"].item() == pytest.approx(24)
    assert found["jerk_rms_target"].item() == pytest.approx(12)
    assert found["jerk_ratio"].item() == pytest.approx(2)


def test_smoothness_matches_numpy():
    decoded, data, lengths = batch(chunks=9)
    sums = {}
    logs = {}
    for name, actions in (("jerk_rms", decoded), ("jerk_rms_target", data)):
        pieces, log = [], []
        for item, length in zip(actions.double().numpy(), lengths.tolist(), strict=True):
            path = item[:length]
            if length < 4:
                continue
            third = np.stack([np.convolve(path[:, d], [1, -3, 3, -1], "valid") for d in range(3)], axis=1) / DT**3
            pieces.append(third)
            speed = np.linalg.norm(np.diff(path, axis=0) / DT, axis=1)
            energy = (np.linalg.norm(third, axis=1) ** 2).sum() * DT
            log.append(-math.log(((length - 1) * DT) ** 3 / speed.max() ** 2 * energy))
        third = np.concatenate(pieces)
        sums[name], sums[name + "_per_dof"] = np.sqrt((third**2).mean()), np.sqrt((third**2).mean(0))
        logs[name.replace("jerk_rms", "log_dimensionless_jerk")] = np.mean(log)
    ratios = {f"jerk_ratio{s}": sums["jerk_rms" + s] / sums["jerk_rms_target" + s] for s in ("", "_per_dof")}
    close(smoothness(decoded, data, DT, lengths), sums | logs | ratios, rtol=1e-9, atol=0)


def test_log_dimensionless_jerk_of_the_smoothest_reach():
    """The minimum-jerk reach has M^3 / v^2 * integral of the squared jerk = 720 / 1.875^2."""
    u = torch.linspace(0, 1, 2001, dtype=torch.float64)
    reach = (10 * u**3 - 15 * u**4 + 6 * u**5)[None, :, None]
    value = log_dimensionless_jerk(reach, 1 / 2000).item()
    assert value == pytest.approx(-math.log(720 / 1.875**2), abs=0.01)
    assert log_dimensionless_jerk(7 * reach, 1 / 30).item() == pytest.approx(value, abs=1e-6)
    wiggly = reach + 0.01 * torch.sin(60 * u)[None, :, None]
    assert log_dimensionless_jerk(wiggly, 1 / 2000).item() < value - 1


def test_log_dimensionless_jerk_without_an_answer():
    ramp = torch.arange(6.0).expand(3, 6)[..., None].clone()
    ramp[1] = 1
    assert log_dimensionless_jerk(ramp, DT, torch.tensor([6, 6, 3]))[0] == math.inf
    assert log_dimensionless_jerk(ramp, DT, torch.tensor([6, 6, 3]))[1:].isnan().all()
    assert log_dimensionless_jerk(torch.zeros(2, 2, 1), DT).isnan().all()
    with pytest.raises(InputError, match=r"must be \[trajectories, steps, DoFs\]"):
        log_dimensionless_jerk(ramp[0], DT)
    # Such trajectories do not spoil the mean of the others.
    moving = torch.randn(1, 6, 1, generator=torch.Generator().manual_seed(0))
    both = smoothness(torch.cat([ramp, moving]), torch.cat([ramp, moving]), DT)
    assert both["log_dimensionless_jerk"].item() == pytest.approx(log_dimensionless_jerk(moving, DT).item())


# Joins


def test_a_repeated_command_at_every_join():
    """Overwriting the first command with the last one sent stands still for a step: the jump is the data's step."""
    data = torch.arange(12.0).reshape(3, 4, 1).repeat(1, 1, 2) * 0.5
    decoded = data.clone()
    decoded[1:, 0, 0] = data[:-1, -1, 0]
    found = joins(decoded, data, DT)
    assert found["num_joins"] == 2
    assert found["value_jump_per_dof"].tolist() == [0.5, 0.0]
    assert found["value_jump_ratio_per_dof"].tolist() == [1.0, 0.0]
    assert found["repeated_per_dof"].tolist() == [1.0, 0.0]
    assert (found["repeated"], found["repeated_target"]) == (0.5, 0.0)
    # Decoded 0.5 a step before the join and 1.0 after it: the velocity jumps by 0.5 / dt.
    assert found["velocity_jump_per_dof"].tolist() == pytest.approx([0.5 / DT, 0])


def test_what_the_data_does_itself_is_no_jump():
    _, data, _ = batch()
    found = joins(data, data, DT)
    for name in ("value_jump", "velocity_jump", "acceleration_jump", "value_jump_ratio"):
        assert found[name] == 0
    shifted = joins(data + 3.0, data, DT)
    assert shifted["value_jump"].item() == pytest.approx(0, abs=1e-6)
    still = torch.ones(3, 4, 1)
    assert joins(still, still, DT)["repeated_target"] == 1


def test_joins_match_numpy():
    rng = np.random.default_rng(1)
    lengths, episode = np.array([5, 5, 2, 5, 5, 1, 5]), np.array([0, 0, 0, 1, 2, 2, 3])
    decoded, data = rng.standard_normal((2, 7, 5, 3))
    jumps = {"value": [], "velocity": [], "acceleration": []}
    steps = []
    for number in range(7):
        steps += list(np.abs(np.diff(data[number, : lengths[number]], axis=0)))
        if number == 6 or episode[number] != episode[number + 1]:
            continue
        steps.append(np.abs(data[number + 1, 0] - data[number, -1]))
        for order, name in enumerate(jumps):
            if lengths[number + 1] <= order:
                continue
            one = [
                (np.diff(x[number + 1], order, axis=0)[0] - np.diff(x[number], order, axis=0)[-1]) / DT**order
                for x in (decoded, data)
            ]
            jumps[name].append(np.abs(one[0] - one[1]))
    assert [len(values) for values in jumps.values()] == [3, 2, 1]
    found = joins(*map(torch.from_numpy, (decoded, data)), DT, *map(torch.from_numpy, (lengths, episode)))
    assert found["num_joins"] == 3
    for name, values in jumps.items():
        close({"x": found[f"{name}_jump_per_dof"]}, {"x": np.mean(values, axis=0)})
        assert found[f"{name}_jump"].item() == pytest.approx(np.mean(values))
    assert found["value_jump_ratio"].item() == pytest.approx(np.mean(jumps["value"]) / np.mean(steps))


def test_short_chunks_inside_an_episode_are_refused():
    data = torch.zeros(3, 4, 1)
    with pytest.raises(InputError, match="Chunk 0 has 2 of 4 steps and the next one belongs to the same episode"):
        joins(data, data, DT, torch.tensor([2, 4, 4]))
    with pytest.raises(InputError, match="episode must be 3 integers"):
        joins(data, data, DT, episode=torch.tensor([0, 1]))


def test_one_chunk_has_no_join():
    found = joins(torch.zeros(1, 2, 1), torch.zeros(1, 2, 1), DT)
    assert found["num_joins"] == 0
    assert found["value_jump"].isnan()
    assert found["acceleration_jump"].isnan()


# Grippers


def signal(text):
    return torch.tensor([[1.0 if letter == "#" else -1.0 for letter in line] for line in text.split()])


def test_gripper_by_hand():
    data = signal("..####..## ..........")
    decoded = signal("....##.... .....#....")
    found = gripper_agreement(decoded, data)
    # First line: up at 2 against 4, down at 6 against 6, up at 8 missed. Second: up and down that are not in the data.
    wanted = {
        "sign_accuracy": 15 / 20,
        "switch_time_error": 1.0,
        "switch_time_error_max": 2.0,
        "num_switches": 3.0,
        "missed_switches": 1 / 3,
        "spurious_switches": 2 / 3,
    }
    close(found, wanted)
    # A second gripper weighs the same as a second trajectory, and padding weighs nothing.
    close(gripper_agreement(decoded.T[None], data.T[None]), wanted)
    longer = [torch.cat([x, -x], dim=1) for x in (decoded, data)]
    close(gripper_agreement(*longer, lengths=torch.tensor([10, 10])), wanted)


def test_gripper_pairs_each_switch_once_and_by_direction():
    found = gripper_agreement(signal(".....#####"), signal("..##...###"))
    # Up at 5 is nearer to the data's second rise, at 7, than to its first, at 2.
    assert (found["switch_time_error"], found["num_switches"]) == (2.0, 3.0)
    assert found["missed_switches"].item() == pytest.approx(2 / 3)
    opposite = gripper_agreement(signal("#####....."), signal(".....#####"))
    assert opposite["switch_time_error"].isnan()
    assert (opposite["missed_switches"], opposite["spurious_switches"], opposite["sign_accuracy"]) == (1, 1, 0)


def test_gripper_threshold():
    data, decoded = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[0.1, 0.4, 0.6, 0.9]])
    assert gripper_agreement(decoded, data, threshold=0.5)["sign_accuracy"] == 1
    assert gripper_agreement(decoded, data)["sign_accuracy"] == 0.5


# Degenerate and bad arguments


def test_nothing_seen_is_nan():
    decoded, data, lengths = (x[:0] for x in batch())
    for found in (
        reconstruction_error(decoded, data, lengths),
        smoothness(decoded, data, DT, lengths),
        joins(decoded, data, DT, lengths),
        gripper_agreement(decoded, data, lengths=lengths),
    ):
        for key, value in found.items():
            assert value.isnan().all() or key in ("num_joins", "num_switches"), key


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(1, 5, 2), torch.zeros(1, 5, 3)), r"of one shape .* got \[1, 5, 2\] and \[1, 5, 3\]"),
        ((torch.zeros(5, 2), torch.zeros(5, 2)), "of one shape"),
        ((torch.full((1, 5, 2), math.nan), torch.zeros(1, 5, 2)), "decoded actions hold nan at chunk 0, step 0, DoF 0"),
        ((torch.zeros(1, 5, 2), torch.full((1, 5, 2), math.inf)), "data hold inf"),
        ((torch.zeros(1, 5, 2), torch.zeros(1, 5, 2), torch.tensor([6])), r"lengths must lie in 0\.\.5"),
        ((torch.zeros(1, 5, 2), torch.zeros(1, 5, 2), torch.tensor([-1])), r"lengths must lie in 0\.\.5"),
        ((torch.zeros(1, 5, 2), torch.zeros(1, 5, 2), torch.tensor([1.0])), "lengths must be 1 integers"),
        ((torch.zeros(1, 5, 2), torch.zeros(1, 5, 2), torch.tensor([1, 1])), "lengths must be 1 integers"),
    ],
)
def test_actions_that_cannot_be_compared(arguments, message):
    functions = (
        reconstruction_error,
        lambda p, t, n=None: smoothness(p, t, DT, n),
        lambda p, t, n=None: joins(p, t, DT, n),
        lambda p, t, n=None: gripper_agreement(p, t, lengths=n),
    )
    for function in functions[: 3 if arguments[0].ndim == 2 else 4]:
        with pytest.raises(InputError, match=message):
            function(*arguments)


@pytest.mark.parametrize("dt", [0.0, -1.0, math.nan, math.inf])
def test_dt_is_a_duration(dt):
    actions = torch.zeros(1, 5, 2)
    for call in (
        lambda: smoothness(actions, actions, dt),
        lambda: joins(actions, actions, dt),
        lambda: log_dimensionless_jerk(actions, dt),
    ):
        with pytest.raises(InputError, match="dt must be a positive number of seconds"):
            call()


# Bootstrap


def test_bootstrap_matches_scipy():
    values = np.random.default_rng(0).exponential(size=60)
    found = bootstrap_interval(values, num_resamples=4000)
    wanted = scipy.stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1).confidence_interval
    assert found.estimate == pytest.approx(values.mean())
    assert found.low == pytest.approx(wanted.low, abs=0.02)
    assert found.high == pytest.approx(wanted.high, abs=0.02)
    narrow = bootstrap_interval(values, confidence=0.5)
    assert found.low < narrow.low < found.estimate < narrow.high < found.high


def test_bootstrap_covers_the_truth():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        interval = bootstrap_interval(rng.standard_normal(40), num_resamples=200, confidence=0.9)
        hits += interval.low <= 0 <= interval.high
    assert 80 <= hits <= 97


def test_bootstrap_is_repeatable_and_takes_rows():
    values = torch.arange(10.0)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values.tolist(), seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)
    rows = torch.stack([values * 2, torch.full((10,), 4.0)], dim=1)
    ratio = bootstrap_interval(rows, lambda r: r[:, 0].sum() / r[:, 1].sum())
    assert ratio.estimate == 2.25
    assert ratio == pytest.approx([x / 2 for x in bootstrap_interval(values)])


def test_bootstrap_of_one_unit_knows_no_spread():
    found = bootstrap_interval([2.0])
    assert found.estimate == 2
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": []}, "at least one row"),
        ({"values": torch.tensor(1.0)}, "at least one row"),
        ({"values": [1.0], "confidence": 1.0}, "confidence must lie between 0 and 1"),
        ({"values": [1.0], "num_resamples": 0}, "num_resamples must be at least 1"),
    ],
)
def test_bootstrap_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        bootstrap_interval(**arguments)


def test_docstring_examples():
    result = doctest.testmod(bootstrap)
    assert result.attempted == 1
    assert result.failed == 0
