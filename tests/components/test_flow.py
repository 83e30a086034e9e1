"""Flow matching: the path and its conventions, times, losses, solvers against closed forms, learning."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from zoo.components.flow import (
    Cosine,
    Linear,
    LogitNormal,
    Mode,
    Path,
    Power,
    Solver,
    draw_noise,
    draw_times,
    flow_loss,
    item_errors,
    sample,
)
from zoo.config import from_dict, to_dict
from zoo.errors import ConfigError, InputError

few = settings(max_examples=40, deadline=None)
paths = st.builds(Path, st.sampled_from([0, 1]), st.sampled_from(["data", "noise"]), st.sampled_from([0.0, 1e-6, 0.1]))
PATHS = [Path(time, target, sigma) for time in (0, 1) for target in ("data", "noise") for sigma in (0.0, 0.05)]
WARPS = [Linear(), Cosine(), Power(2.0), Power(0.5), LogitNormal(), LogitNormal(-0.4, 1.3), Mode(0.25), Mode(-0.8)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


# The path


@few
@given(paths, st.integers(0, 2**31))
def test_the_path_ends_at_noise_and_data_and_velocities_are_its_slope(path, seed):
    data, noise = normal(3, 2, 4, seed=seed), normal(3, 2, 4, seed=seed + 1)
    ends = torch.full((3,), float(path.noise_time), dtype=torch.float64)
    torch.testing.assert_close(path.at(data, noise, ends), noise)
    torch.testing.assert_close(path.at(data, noise, 1 - ends), data + path.sigma * noise)
    t = torch.rand(3, generator=generator(seed), dtype=torch.float64).requires_grad_()
    slope = torch.autograd.functional.jacobian(lambda t: path.at(data, noise, t), t).sum(-1)
    velocity = path.velocity(data, noise)
    torch.testing.assert_close(path.slope(velocity), slope)
    towards = data - (1 - path.sigma) * noise
    assert torch.equal(velocity, towards if path.points_to == "data" else -towards)


@few
@given(paths, st.integers(0, 2**31))
def test_one_step_estimates_are_exact_for_exact_velocities(path, seed):
    data, noise = normal(5, 3, seed=seed), normal(5, 3, seed=seed + 1)
    t = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0], dtype=torch.float64)
    x, velocity = path.at(data, noise, t), path.velocity(data, noise)
    torch.testing.assert_close(path.data(x, velocity, t), data)
    torch.testing.assert_close(path.noise(x, velocity, t), noise)


def test_the_usual_formulas():
    data, noise = normal(4, 6, dtype=torch.float32), normal(4, 6, seed=1, dtype=torch.float32)
    t = torch.tensor([0.0, 0.3, 0.8, 1.0])
    s = t[:, None]
    latents = Path(noise_time=1, points_to="noise")
    torch.testing.assert_close(latents.at(data, noise, t), s * noise + (1 - s) * data)
    assert torch.equal(latents.velocity(data, noise), noise - data)
    pixels = Path(noise_time=1, points_to="data")
    x, velocity = pixels.at(data, noise, t), pixels.velocity(data, noise)
    assert torch.equal(velocity, data - noise)
    torch.testing.assert_close(pixels.data(x, velocity, t), x + s * velocity)
    transport = Path(noise_time=0, points_to="data", sigma=1e-6)
    torch.testing.assert_close(transport.at(data, noise, t), (1 - (1 - 1e-6) * s) * noise + s * data)
    assert torch.equal(transport.velocity(data, noise), data - (1 - 1e-6) * noise)
    # What is left of the noise at the data is σ to float32's relative precision, not to its absolute one.
    left = transport.at(torch.zeros_like(data), noise, torch.ones(4))
    torch.testing.assert_close(left, 1e-6 * noise, rtol=1e-6, atol=0)


# Times


@pytest.mark.parametrize("warp", WARPS, ids=str)
def test_warps_are_increasing_and_keep_the_ends(warp):
    t = warp(torch.linspace(0, 1, 1001, dtype=torch.float64))
    assert t[0] == pytest.approx(0, abs=1e-15)
    assert t[-1] == pytest.approx(1, abs=1e-15)
    assert (t.diff() >= 0).all()
    assert t.unique().numel() > 990


def distribution(warp):
    """Return the analytic distribution function of a warp of uniform numbers."""
    if isinstance(warp, Mode):  # the one that has no closed inverse: interpolated in a fine table
        u = torch.linspace(0, 1, 100001, dtype=torch.float64).numpy()
        table = u + warp.scale * (torch.cos(torch.from_numpy(u) * math.pi / 2).numpy() ** 2 - 1 + u)
        return lambda t: stats.rv_histogram((torch.ones(100000).numpy(), table), density=False).cdf(t)
    return {
        "linear": stats.uniform.cdf,
        "cosine": lambda t: 2 / math.pi * torch.arccos(1 - torch.from_numpy(t).double()).numpy(),
        "power": lambda t: t ** (1 / getattr(warp, "exponent", 1)),
        "logit_normal": lambda t: stats.norm(getattr(warp, "mean", 0), getattr(warp, "std", 1)).cdf(
            torch.logit(torch.from_numpy(t).double()).numpy()
        ),
    }[warp.kind]


@pytest.mark.parametrize("is_stratified", [False, True])
@pytest.mark.parametrize("warp", WARPS, ids=str)
def test_times_have_the_analytic_distribution(warp, is_stratified):
    num = 20000
    t = draw_times(num, warp, generator(), is_stratified=is_stratified)
    assert t.dtype == torch.float32
    assert ((t >= 0) & (t <= 1)).all()
    distance = stats.kstest(t.numpy(), distribution(warp)).statistic
    # One draw in each of `num` parts is off by one part at most; independent ones by the Kolmogorov quantile of 1 %.
    assert distance < (1.1 / num if is_stratified else 1.63 / math.sqrt(num))
    other = WARPS[(WARPS.index(warp) + 1) % len(WARPS)]
    assert stats.kstest(t.numpy(), distribution(other)).statistic > 0.02, "the test could not tell"


def test_times_are_a_function_of_the_generator():
    first = draw_times(50, Cosine(), generator(3), is_stratified=True)
    torch.rand(7)
    assert torch.equal(draw_times(50, Cosine(), generator(3), is_stratified=True), first)
    assert not torch.equal(draw_times(50, Cosine(), generator(4), is_stratified=True), first)
    order = draw_times(200, generator=generator(), is_stratified=True).argsort()
    assert not torch.equal(order, torch.arange(200)), "items would get times by their place in the batch"


def test_mode_values():
    u = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    expected = torch.tensor([0.881118, 0.724112, 0.5, 0.275888, 0.118882])
    torch.testing.assert_close(1 - Mode(0.25)(u), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(Mode(0.25)(1 - u), expected, atol=1e-6, rtol=0)


def test_grids_of_the_solver():
    falling, rising = Path(noise_time=1), Path(noise_time=0)
    assert Solver(4).times(falling) == [1, 0.75, 0.5, 0.25, 0]
    assert Solver(4).times(rising) == [0, 0.25, 0.5, 0.75, 1]
    assert Solver(4, warp=Power(2.0)).times(falling) == [(1 - i / 4) ** 2 for i in range(5)]
    expected = [1 - math.cos(math.pi / 2 * i / 10) for i in range(11)]
    assert Solver(10, warp=Cosine()).times(rising) == pytest.approx(expected, abs=1e-15)
    for num_steps in (1, 3, 7, 49):
        assert Solver(num_steps).times(falling) == [(num_steps - i) / num_steps for i in range(num_steps + 1)]


# Noise


def test_noise_of_an_item_does_not_depend_on_those_after_it():
    few_items = draw_noise((3, 4, 50), generator(1))
    many = draw_noise((40, 4, 50), generator(1))
    assert torch.equal(many[:3], few_items)
    assert many.dtype == torch.float32
    assert draw_noise((0, 4), generator()).shape == (0, 4)
    own = draw_noise((2, 7), [generator(5), generator(6)])
    assert torch.equal(own[1:], draw_noise((1, 7), generator(6)))
    with pytest.raises(InputError, match="1 for 2 items"):
        draw_noise((2, 7), [generator(5)])
    assert stats.kstest(draw_noise((40, 500), generator(2)).flatten().numpy(), stats.norm.cdf).pvalue > 0.01


# Losses


def test_loss_is_the_masked_weighted_mean():
    predicted, target = normal(3, 5, 2), normal(3, 5, 2, seed=1)
    mask = torch.arange(5) < torch.tensor([5, 2, 0])[:, None]
    squares = (predicted - target).square()
    expected = torch.stack([squares[0].mean(), squares[1, :2].mean(), squares.new_zeros(())])
    torch.testing.assert_close(item_errors(predicted, target, mask[..., None]), expected)
    torch.testing.assert_close(item_errors(predicted, target), squares.mean((1, 2)))
    # An item without any valid element counts for nothing.
    assert flow_loss(predicted, target, mask[..., None]) == pytest.approx(float(expected[:2].mean()))
    weights = torch.tensor([1.0, 3.0, 7.0])
    weighted = (expected[0] + 3 * expected[1]) / 4
    assert flow_loss(predicted, target, mask[..., None], weights) == pytest.approx(float(weighted))
    of_elements = squares[mask].mean()
    assert flow_loss(predicted, target, mask[..., None], by_size=True) == pytest.approx(float(of_elements))
    assert flow_loss(predicted, target) == pytest.approx(float(squares.mean()))
    assert flow_loss(predicted, target, torch.zeros(3, 1, 1, dtype=torch.bool)) == 0


@pytest.mark.parametrize("by_size", [False, True])
def test_padding_of_any_value_changes_neither_loss_nor_gradient(by_size):
    mask = torch.arange(6) < torch.tensor([6, 4, 1])[:, None]
    outcomes = []
    for filling in (0.0, 1e30, torch.nan, torch.inf):
        predicted, target = normal(3, 6, dtype=torch.float32), normal(3, 6, seed=1, dtype=torch.float32)
        predicted[~mask], target[~mask] = filling, filling
        predicted.requires_grad_()
        loss = flow_loss(predicted, target, mask, torch.tensor([1.0, 0.5, 2.0]), by_size=by_size)
        loss.backward()
        assert not predicted.grad[~mask].any()
        outcomes.append((loss.detach(), predicted.grad))
    assert outcomes[0][1][mask].all()
    for other in outcomes[1:]:
        torch.testing.assert_close(other, outcomes[0], rtol=0, atol=0)


def test_the_gradient_is_that_of_the_formula():
    predicted, target = normal(4, 3, 2).requires_grad_(), normal(4, 3, 2, seed=1)
    flow_loss(predicted, target).backward()
    torch.testing.assert_close(predicted.grad, 2 * (predicted - target).detach() / 24)
    weights = torch.tensor([1.0, 2.0, 0.5, 0.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: flow_loss(p, target, weights=weights), predicted)


def test_half_precision_is_compared_in_float32():
    predicted, target = torch.full((1, 4096), 300.0).half(), torch.zeros(1, 4096).half()
    assert flow_loss(predicted, target) == 90000  # beyond the range of float16


def test_bad_arguments_say_what_is_wrong():
    x = torch.zeros(3, 5)
    with pytest.raises(InputError, match=r"prediction \(3, 5\) and target \(3, 4\)"):
        flow_loss(x, torch.zeros(3, 4))
    for mask in (torch.ones(3, 5), torch.ones(3, dtype=torch.bool), torch.ones(1, 5, dtype=torch.bool)):
        with pytest.raises(InputError, match="mask must be bool"):
            flow_loss(x, x, mask)
    with pytest.raises(InputError, match="one weight an item"):
        flow_loss(x, x, weights=torch.ones(5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Path(noise_time=2), "noise_time must be one of 0, 1"),
        (lambda: Path(points_to="up"), "points_to must be one of"),
        (lambda: Path(sigma=1.0), "sigma must be at least 0"),
        (lambda: Power(0.0), "exponent must be positive"),
        (lambda: LogitNormal(0.0, -1.0), "std must be positive"),
        (lambda: Mode(2.0), "scale must be from -1 to 1.75"),
        (lambda: Solver(0), "num_steps must be at least 1"),
        (lambda: Solver(3, "rk4"), "method must be one of"),
        (lambda: from_dict(Solver, {"num_steps": 3, "warp": {"kind": "sine"}}), "linear, cosine, .*'sine'"),
    ],
)
def test_bad_configs_say_what_is_wrong(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("warp", WARPS, ids=str)
def test_configs_are_plain_values(warp):
    solver = Solver(7, "heun", warp)
    assert from_dict(Solver, to_dict(solver)) == solver
    path = Path(0, "data", 1e-6)
    assert from_dict(Path, to_dict(path)) == path


# Learning


class Field(nn.Module):
    """A small network in two dimensions."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x, t):
        angles = t[:, None] * torch.tensor([1.0, 3.0, 6.0])
        return self.layers(torch.cat([x, angles.sin(), angles.cos()], 1))


@pytest.mark.parametrize(
    ("path", "warp", "solver", "steps"),
    [
        (Path(1, "noise"), LogitNormal(), Solver(20), 300),
        (Path(1, "data"), LogitNormal(), Solver(10, "heun", Power(2.0)), 300),
        (Path(0, "data", 1e-6), Cosine(), Solver(20, "euler", Cosine()), 400),
    ],
    ids=["to noise", "to data", "transport"],
)
def test_a_network_learns_to_sample_a_mixture(path, warp, solver, steps):
    centres = 2 * torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    torch.manual_seed(0)
    field, source = Field(), generator()
    optimiser = torch.optim.Adam(field.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    losses = []
    for _ in range(steps):
        data = centres[torch.randint(4, (256,), generator=source)]
        data = data + 0.2 * torch.randn(data.shape, generator=source)
        noise = draw_noise(data.shape, source)
        t = draw_times(256, warp, source, is_stratified=True)
        loss = flow_loss(field(path.at(data, noise, t), t), path.velocity(data, noise))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])
    with torch.no_grad():
        samples = sample(field, draw_noise((1000, 2), generator(7)), path, solver)
    distances, nearest = torch.cdist(samples, centres).min(1)
    assert (distances < 0.8).float().mean() > 0.8
    assert (torch.bincount(nearest, minlength=4) / 1000 - 0.25).abs().max() < 0.07
