"""Solvers and guidance of flow matching against closed forms."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from zoo.components.flow import (
    Adaptive,
    Cosine,
    Guidance,
    Guide,
    Linear,
    LogitNormal,
    Mode,
    Path,
    Power,
    Solver,
    draw_noise,
    drop_conditions,
    sample,
)
from zoo.errors import ConfigError, InputError
from zoo.process.random import seeded

MEAN, STD = 1.5, 0.4
PATHS = [Path(time, target, sigma) for time in (0, 1) for target in ("data", "noise") for sigma in (0.0, 0.05)]
EULER = Solver(8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_what_is_no_generator_and_no_seed():
    for wrong in (3, 1.5, [generator(), 3]):
        with pytest.raises(InputError, match=r"generator must be a torch\.Generator, got"):
            draw_noise((2, 3), wrong)
    for seed in (-1, 2**64, 1.5, True, None):
        with pytest.raises(InputError, match="seed must be a whole number"):
            seeded(seed)
    drawn = torch.randn(3, generator=seeded(2**64 - 1))
    assert torch.equal(drawn, torch.randn(3, generator=torch.Generator().manual_seed(2**64 - 1)))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def gaussian_field(path, mean=MEAN, std=STD):
    """Return the velocities that carry N(0, 1) to N(mean, std² + σ²), the expectation of the path's over its pairs."""

    def velocity(x, t):
        s = (t if path.noise_time == 0 else 1 - t)[:, None]
        remaining = 1 - (1 - path.sigma) * s
        variance = remaining**2 + s**2 * std**2
        towards = mean + (s * std**2 - (1 - path.sigma) * remaining) / variance * (x - s * mean)
        return towards if path.points_to == "data" else -towards

    return velocity


def trajectory(path, noise, t, mean=MEAN, std=STD):
    """Return where the field has carried the noise at time t: what is standardised stays as it is."""
    s = t if path.noise_time == 0 else 1 - t
    return s * mean + math.sqrt((1 - (1 - path.sigma) * s) ** 2 + s**2 * std**2) * noise


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_a_gaussian_is_reached_exactly_along_its_trajectory(path):
    noise = normal(500, 3)
    seen = []

    def velocity(x, t):
        seen.append((float(t[0]), x))
        return gaussian_field(path)(x, t)

    end = sample(velocity, noise, path, Solver(200, "heun"))
    assert len(seen) == 400
    for t, x in seen[::2]:  # where steps begin
        torch.testing.assert_close(x, trajectory(path, noise, t), atol=1e-4, rtol=0)
    torch.testing.assert_close(end, MEAN + math.hypot(STD, path.sigma) * noise, atol=1e-4, rtol=0)


@pytest.mark.parametrize("warp", [Linear(), Cosine(), Power(2.0), Mode(0.5)], ids=str)
@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
@pytest.mark.parametrize("path", [Path(1, "noise"), Path(0, "data", 1e-6)], ids=str)
def test_orders_of_convergence(path, method, order, warp):
    noise = normal(100, 1)
    exact = trajectory(path, noise, 1.0 - path.noise_time)
    errors = [
        (sample(gaussian_field(path), noise, path, Solver(num, method, warp)) - exact).abs().max().item()
        for num in (100, 200, 400)
    ]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.1)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(PATHS),
    st.integers(1, 12),
    st.sampled_from(["euler", "heun"]),
    st.sampled_from([Linear(), Cosine(), Power(3.0), LogitNormal(), Mode()]),
    st.integers(0, 2**31),
)
def test_straight_lines_are_solved_exactly_in_any_steps(path, num_steps, method, warp, seed):
    data, noise = normal(4, 2, 3, seed=seed), normal(4, 2, 3, seed=seed + 1)
    end = sample(lambda x, t: path.velocity(data, noise), noise, path, Solver(num_steps, method, warp))
    torch.testing.assert_close(end, data + path.sigma * noise)


class Network(nn.Module):
    """Velocities that depend on all elements of an item, its time and two conditions."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(6 + 1 + 4 + 2, 32), nn.SiLU(), nn.Linear(32, 6))
        self.calls = []

    def forward(self, x, t, *conditions):
        self.calls.append((len(x), float(t[0])))
        return self.layers(torch.cat([x.flatten(1), t[:, None], *conditions], 1)).view_as(x)


def problem(batch=5):
    noise = normal(batch, 2, 3).float()
    conditions = (normal(batch, 4, seed=1).float(), normal(batch, 2, seed=2).float())
    return noise, conditions, (torch.zeros(1, 4), torch.full((2,), 0.3))


@pytest.mark.parametrize("adaptive", [None, Adaptive()])
@pytest.mark.parametrize("method", ["euler", "heun"])
def test_items_do_not_depend_on_their_batch(method, adaptive):
    network, path, solver = Network(), Path(), Solver(6, method)
    noise, conditions, null = problem()
    guidance = Guidance(3.0, adaptive=adaptive)
    with torch.no_grad():
        together = sample(network, noise, path, solver, conditions=conditions, null=null, guidance=guidance)
        again = sample(network, noise, path, solver, conditions=conditions, null=null, guidance=guidance)
        assert torch.equal(together, again)
        for item in range(5):
            alone = [c[item : item + 1] for c in conditions]
            out = sample(network, noise[item : item + 1], path, solver, conditions=alone, null=null, guidance=guidance)
            torch.testing.assert_close(out[0], together[item], atol=1e-5, rtol=1e-5)


def test_guidance_is_the_formula_from_either_origin_in_one_call_a_time():
    network, path = Network(), Path(0, "data")
    noise, conditions, null = problem()
    nothing = [n.expand_as(c) for n, c in zip(null, conditions, strict=True)]
    with torch.no_grad():
        results = {}
        for guidance in (Guidance(1.7), Guidance(0.7, "condition")):
            network.calls.clear()
            results[guidance.origin] = sample(
                network, noise, path, EULER, conditions=conditions, null=null, guidance=guidance
            )
            assert network.calls == [(10, i / 8) for i in range(8)]
        x = noise
        for i in range(8):
            t = torch.full((5,), i / 8)
            guided, unguided = network(x, t, *conditions), network(x, t, *nothing)
            x = x + (1.7 * guided - 0.7 * unguided) / 8
    torch.testing.assert_close(results["null"], x)
    torch.testing.assert_close(results["condition"], x)
    plain = sample(network, noise, path, EULER, conditions=conditions)
    assert (x - plain).abs().max() > 0.1


@pytest.mark.parametrize(
    "guidance", [None, Guidance(1.0), Guidance(0.0, "condition"), Guidance(1.0, "null", Adaptive())]
)
def test_without_effect_the_network_is_called_with_conditions_alone(guidance):
    network, path = Network(), Path()
    noise, conditions, null = problem()
    with torch.no_grad():
        result = sample(network, noise, path, EULER, conditions=conditions, null=null, guidance=guidance)
        assert network.calls == [(5, 1 - i / 8) for i in range(8)]
        assert torch.equal(result, sample(network, noise, path, EULER, conditions=conditions))


def test_guidance_may_depend_on_time():
    network, path = Network(), Path()
    noise, conditions, null = problem()
    guidance = Guidance(lambda t: 4.0 if 0.2 < t < 0.7 else 1.0)
    with torch.no_grad():
        sample(network, noise, path, EULER, conditions=conditions, null=null, guidance=guidance)
    assert network.calls == [(10 if 0.2 < t < 0.7 else 5, t) for t in (1 - i / 8 for i in range(8))]


def test_adaptive_guidance_values():
    condition = torch.arange(1, 9).view(1, 2, 2, 2) / 4
    null = torch.tensor([0.5, 0.1, -0.2, 0.3, 0.9, -0.4, 0.2, 0.6]).view(1, 2, 2, 2)
    guide, excess = Guide(Adaptive()), Guidance(7.5).excess(0.5)
    first = [-2.112031, 0.469324, 2.529192, 0.417161, -2.216357, 5.058384, 2.424866, 0.834322]
    second = [-1.347059, 0.230882, 1.483823, 0.136765, -1.535294, 2.967647, 1.295588, 0.273529]
    torch.testing.assert_close(guide(condition, null, excess).flatten(), torch.tensor(first), atol=2e-6, rtol=0)
    torch.testing.assert_close(guide(condition / 2, null, excess).flatten(), torch.tensor(second), atol=2e-6, rtol=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 5), st.floats(-0.9, 0.9))
def test_adaptive_guidance_is_orthogonal_and_limited(seed, threshold, momentum):
    guide = Guide(Adaptive(momentum, threshold))
    for step in range(3):
        condition, null = normal(4, 3, 5, seed=seed + step), normal(4, 3, 5, seed=seed + 10 + step)
        change = (guide(condition, null, 2.0) - condition).flatten(1) / 2
        assert (change.norm(dim=1) <= threshold * (1 + 1e-9)).all()
        assert ((change * condition.flatten(1)).sum(1).abs() < 1e-9).all()


def test_adaptive_guidance_without_its_parts_is_guidance():
    condition, null = normal(4, 3, 5), normal(4, 3, 5, seed=1)
    guide = Guide(Adaptive(momentum=0.0, threshold=None, parallel=1.0))
    torch.testing.assert_close(guide(condition, null, 2.0), condition + 2 * (condition - null))
    zero = torch.zeros(2, 3)
    assert torch.equal(Guide(Adaptive())(zero, zero, 2.0), zero)


def test_every_run_starts_with_no_memory():
    network, path = Network(), Path()
    noise, conditions, null = problem()
    guidance = Guidance(3.0, adaptive=Adaptive(momentum=0.9))
    with torch.no_grad():
        runs = [
            sample(network, noise, path, EULER, conditions=conditions, null=null, guidance=guidance) for _ in range(2)
        ]
    assert torch.equal(*runs)


def test_half_precision_networks_leave_the_state_in_its_own():
    noise = normal(4, 3).float()
    seen = []

    def velocity(x, t):
        seen.append((x.dtype, t.dtype))
        return (0.001 * x).bfloat16()

    assert sample(velocity, noise, Path(), Solver(2)).dtype == torch.float32
    assert sample(velocity, noise.bfloat16(), Path(), Solver(1)).dtype == torch.bfloat16
    assert seen == [(torch.float32, torch.float32)] * 2 + [(torch.bfloat16, torch.float32)]


def test_gradients_pass_the_solver():
    noise = normal(3, 2).requires_grad_()
    end = sample(gaussian_field(Path()), noise, Path(), Solver(400, "heun"))
    gradient = torch.autograd.grad(end.sum(), noise)[0]
    torch.testing.assert_close(gradient, torch.full_like(noise, STD), atol=1e-3, rtol=0)


def test_conditions_are_dropped_together_at_their_rate():
    first, second = torch.ones(4000, 2, 3), torch.ones(4000)
    null = torch.full((3,), 5.0).requires_grad_()
    a, b = drop_conditions([first, second], [null, torch.zeros(())], 0.2, generator())
    dropped = b == 0
    assert 0.17 < dropped.float().mean() < 0.23
    assert torch.equal((a == 5).all(2).all(1), dropped)
    assert torch.equal((a == 1).all(2).all(1), ~dropped)
    a.sum().backward()
    assert null.grad.tolist() == [2 * int(dropped.sum())] * 3
    assert torch.equal(drop_conditions([second], [torch.zeros(())], 0.2, generator())[0], b)
    assert torch.equal(drop_conditions([second], [torch.zeros(())], 0.0)[0], second)
    assert not drop_conditions([second], [torch.zeros(())], 1.0)[0].any()
    assert drop_conditions([], [], 0.5) == ()
    with pytest.raises(InputError, match="got 1 and 2"):
        drop_conditions([second], [null, null], 0.5)


def test_bad_arguments_say_what_is_wrong():
    network, path = Network(), Path()
    noise, conditions, null = problem()
    for options in ({"null": None}, {"null": null[:1]}, {"null": (), "conditions": ()}):
        with pytest.raises(InputError, match="guidance compares with null conditions"):
            sample(network, noise, path, EULER, **{"conditions": conditions, "guidance": Guidance(2.0), **options})
    with pytest.raises(InputError, match="condition 1 is of 3 items, the noise of 5"):
        sample(network, noise, path, EULER, conditions=(conditions[0], conditions[1][:3]))
    with pytest.raises(ConfigError, match="origin must be"):
        Guidance(2.0, "nowhere")
    with pytest.raises(ConfigError, match="threshold must be positive"):
        Adaptive(threshold=0.0)
