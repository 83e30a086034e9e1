"""BEAST between chunks: what happens at the joins of long trajectories, and grippers."""

import pytest
import torch
from motion import smooth, switching

from zoo.errors import ConfigError, InputError
from zoo.families.beast import BeastConfig, BeastTokenizer
from zoo.families.beast.spline import evaluation_points, fixed_points, zero_order_basis

DOFS = 4
SIZES = [(20, 10, 0.06), (50, 10, 0.03), (100, 15, 0.03)]


def fitted(horizon, num_basis, fastest, **options):
    config = BeastConfig(num_dofs=DOFS, horizon=horizon, num_basis=num_basis, **options)
    return BeastTokenizer(config).fit(smooth(100, 250, DOFS, seed=1, fastest=fastest))


def trajectories(horizon, fastest, num=20):
    """Long trajectories, and the two commands before each."""
    x = smooth(num, 2 + 6 * horizon, DOFS, seed=2, fastest=fastest)
    return x[:, 2:], x[:, :2]


def start_of(tokenizer, before):
    return {0: None, 1: before[:, 1], 2: before}[tokenizer.config.num_fixed]


def chunk_by_chunk(tokenizer, tokens, start):
    """Decode as the public code does: each chunk starts at the last command before it."""
    parts = []
    for ids in torch.split(tokens.ids, tokenizer.spec.num_tokens, 1):
        parts.append(tokenizer.decode(ids, start=start))
        start = parts[-1][:, -1]
    return torch.cat(parts, 1)


def measure(tokenizer, x, decoded):
    """Return MSE, error of the step at joins over the mean step, share of repeated commands, jerk over the data's."""
    horizon = tokenizer.horizon
    error = (decoded - x) / tokenizer.normalizer.half_range
    joins = torch.arange(horizon, x.shape[1], horizon)
    step, true = (y[:, joins] - y[:, joins - 1] for y in (decoded, x))
    jerk, true_jerk = (y.double().diff(n=3, dim=1).square().mean().sqrt() for y in (decoded, x))
    return {
        "mse": float(error.square().mean()),
        "step": float((step - true).abs().mean() / x.diff(dim=1).abs().mean()),
        "repeated": float((step.abs() < 1e-5).all(-1).float().mean()),
        "jerk": float(jerk / true_jerk),
    }


@pytest.fixture(scope="module", params=SIZES, ids=str)
def table(request):
    horizon, num_basis, fastest = request.param
    x, before = trajectories(horizon, fastest)
    rows = {}
    for grid, boundary in (
        ("closed", "free"),
        ("closed", "value"),
        ("anchored", "value"),
        ("anchored", "value+velocity"),
    ):
        tokenizer = fitted(horizon, num_basis, fastest, grid=grid, boundary=boundary)
        start = start_of(tokenizer, before)
        tokens = tokenizer.encode(x, start=start)
        rows[grid, boundary] = measure(tokenizer, x, tokenizer.decode(tokens, start=start))
        if boundary == "free":
            rows["overwritten"] = measure(tokenizer, x, chunk_by_chunk(tokenizer, tokens, before[:, 1]))
    return horizon, rows


def test_closed_grid_stands_still_at_every_join(table):
    """A chunk forced to begin at the last command repeats that command, if its first step lies at u = 0."""
    _, rows = table
    for mode in ("overwritten", ("closed", "value")):
        assert rows[mode]["repeated"] == 1.0
        assert 0.9 < rows[mode]["step"] < 1.1
        assert rows[mode]["jerk"] > 2.5 * rows["closed", "free"]["jerk"]
        assert rows[mode]["mse"] > 1.3 * rows["closed", "free"]["mse"]


def test_anchored_grid_continues(table):
    _, rows = table
    free = rows["closed", "free"]
    assert free["repeated"] < 0.01
    for boundary in ("value", "value+velocity"):
        row = rows["anchored", boundary]
        assert row["repeated"] < 0.01
        assert row["step"] < 0.8 * free["step"]
        assert row["jerk"] < 0.9 * free["jerk"]
        assert row["jerk"] < 3.5
        assert row["mse"] < 2 * free["mse"]


def test_velocity_continues_too(table):
    horizon, rows = table
    value, velocity = rows["anchored", "value"], rows["anchored", "value+velocity"]
    assert velocity["jerk"] < (0.9 if horizon > 20 else 1.05) * value["jerk"]
    assert velocity["jerk"] < 2


@pytest.mark.parametrize("boundary", ["value", "value+velocity"])
def test_curve_is_continuous_at_the_start(boundary):
    tokenizer = fitted(50, 10, 0.03, grid="anchored", boundary=boundary)
    x, before = trajectories(50, 0.03)
    start = start_of(tokenizer, before)
    tokens = tokenizer.encode(x[:, :50], start=start)
    assert tokens.ids.shape[1] == (10 - tokenizer.config.num_fixed) * DOFS == tokenizer.spec.num_tokens
    torch.testing.assert_close(tokenizer.decode(tokens, start=start, times=[0.0])[:, 0], before[:, 1])
    velocity = tokenizer.decode(tokens, start=start, times=[0.0], derivative=1)[:, 0]
    previous = (before[:, 1] - before[:, 0]) * 50  # per unit of u
    if boundary == "value":
        assert (velocity - previous).abs().mean() > 0.05 * previous.abs().mean()
    else:
        torch.testing.assert_close(velocity, previous, rtol=0, atol=1e-3)


def test_chunks_are_chained_by_decode():
    for boundary in ("value", "value+velocity"):
        tokenizer = fitted(20, 10, 0.06, grid="anchored", boundary=boundary)
        x, before = trajectories(20, 0.06)
        start = start_of(tokenizer, before)
        tokens = tokenizer.encode(x, start=start)
        whole = tokenizer.decode(tokens, start=start)
        parts, fixed = [], tokenizer.config.num_fixed
        last = start
        for ids in torch.split(tokens.ids, tokenizer.spec.num_tokens, 1):
            parts.append(tokenizer.decode(ids, start=last))
            last = parts[-1][:, -fixed:].squeeze(1)
        torch.testing.assert_close(torch.cat(parts, 1), whole)
        # Evaluated elsewhere, chunks still continue the commands that the one before really ended with.
        fine = tokenizer.decode(tokens, start=start, times=torch.linspace(0, 1, 41))
        torch.testing.assert_close(fine[:, 41::41], whole[:, 19:-1:20], rtol=0, atol=1e-5)
        assert tokenizer.decode(tokens, start=start, times=[0.5], derivative=1).shape == (20, 6, DOFS)
        # Another start moves the first chunk's beginning alone.
        other = tokenizer.decode(tokens, start=start + 1)
        assert (other - whole)[:, 0].abs().min() > 0.1
        assert (other - whole)[:, 40:].abs().max() < 0.05


@pytest.mark.parametrize(("boundary", "shape"), [("value", (1, DOFS)), ("value+velocity", (1, 2, DOFS))])
def test_start_is_required(boundary, shape):
    tokenizer = fitted(20, 10, 0.06, grid="anchored", boundary=boundary)
    x = trajectories(20, 0.06, 1)[0][:, :20]
    start = torch.zeros(shape)
    tokens = tokenizer.encode(x, start=start)
    assert torch.equal(tokenizer.encode(x[0], start=start[0]).ids, tokens.ids)
    for call in (tokenizer.encode, tokenizer.encode_latents, tokenizer.clipped_slots):
        with pytest.raises(InputError, match=r"pass start= \(B, "):
            call(x)
    with pytest.raises(InputError, match="pass start="):
        tokenizer.decode(tokens)
    for wrong in (torch.zeros(2, *shape[1:]), torch.zeros(*shape[:-1], 3), torch.zeros(DOFS, 1, 1, 1)):
        with pytest.raises(InputError, match="start must have the shape"):
            tokenizer.encode(x, start=wrong)
    with pytest.raises(InputError, match="NaN"):
        tokenizer.encode(x, start=start * torch.nan)
    with pytest.raises(InputError, match="start must be commands"):
        tokenizer.encode(x, start="here")


def test_free_boundary_takes_a_start_only_to_decode():
    tokenizer = fitted(20, 10, 0.06)
    x = trajectories(20, 0.06, 3)[0][:, :60]
    with pytest.raises(InputError, match="leave start out"):
        tokenizer.encode(x, start=x[:, 0])
    tokens = tokenizer.encode(x)
    start = x[:, 0] + 0.1
    decoded = tokenizer.decode(tokens, start=start)
    torch.testing.assert_close(decoded[:, 0], start)
    assert torch.equal(decoded[:, 20:], tokenizer.decode(tokens)[:, 20:])
    one = tokenizer.decode(tokens[1], start=start[1])
    torch.testing.assert_close(one, decoded[1:2])
    for wrong in (start[:2], start[:, :2], start * torch.inf):
        with pytest.raises(InputError, match="start must be finite"):
            tokenizer.decode(tokens, start=wrong)


def test_fixed_points_extrapolate():
    """c_1 continues straight motion, so that a straight line is reproduced."""
    config = BeastConfig(1, 50, 10, grid="anchored", boundary="value+velocity")
    points = fixed_points(config) @ torch.tensor([[-1.0], [0.0]]).double()  # one unit a step, 50 steps, 24 spans
    torch.testing.assert_close(points, torch.tensor([[0.0], [50 / 24]]).double())


def test_boundary_needs_a_curve():
    with pytest.raises(ConfigError, match="degree 1 or more"):
        BeastConfig(1, 20, 10, degree=0, boundary="value")
    with pytest.raises(ConfigError, match="leaves none"):
        BeastConfig(1, 20, 2, degree=1, boundary="value+velocity")


# ---------------------------------------------------------------------------------------------------------- grippers


def gripping(horizon, num_basis, **options):
    """A tokenizer of one smooth and one switching degree of freedom, and chunks with 0 to 2 switches."""

    def data(num, seed):
        grips = torch.cat([switching(num // 3, horizon, count, seed) for count in range(3)])
        return torch.cat([smooth(len(grips), horizon, 1, seed, 1 / horizon), grips], 2)

    config = BeastConfig(2, horizon, num_basis, gripper=(1,), **options)
    return BeastTokenizer(config).fit(data(300, 1)), data(600, 2)


@pytest.mark.parametrize(("horizon", "num_basis"), [(20, 10), (50, 10), (100, 15)])
def test_splines_time_switches_better_than_intervals(horizon, num_basis):
    right, whole = {}, {}
    for mode in ("zero_order", "spline"):
        tokenizer, x = gripping(horizon, num_basis, gripper_mode=mode)
        decoded = tokenizer.decode(tokenizer.encode(x))
        agree = (decoded[:, :, 1] > 0) == (x[:, :, 1] > 0)
        right[mode] = float(agree.float().mean())
        whole[mode] = float(agree[200:].all(1).float().mean())  # those that switch
        assert decoded[:, :, 1].abs().max() <= 1 + 1e-6 or mode == "zero_order"
        assert (decoded[:, :, 0] - x[:, :, 0]).abs().mean() < 0.01
    assert 0.95 < right["zero_order"] < 0.99
    assert right["spline"] > 0.99
    assert whole["zero_order"] < 0.5 < whole["spline"]


def test_zero_order_is_the_mean_of_each_interval():
    tokenizer, x = gripping(20, 10, ridge=1e-9, codebook_size=2**16)
    decoded = tokenizer.decode(tokenizer.encode(x))[:, :, 1]
    torch.testing.assert_close(decoded, x[:, :, 1].view(-1, 10, 2).mean(2).repeat_interleave(2, 1), rtol=0, atol=1e-4)
    assert (decoded.abs() < 0.5).any()  # a switch inside an interval becomes a middle value
    own = torch.linspace(0, 1, 20)  # rounded to float32
    assert torch.equal(tokenizer.decode(tokenizer.encode(x), times=own)[:, :, 1], decoded)
    assert not tokenizer.decode(tokenizer.encode(x), derivative=1)[:, :, 1].any()


@pytest.mark.parametrize("grid", ["closed", "anchored"])
def test_intervals_at_the_chunks_own_times(grid):
    """Also where these have been rounded to float32."""
    for horizon in range(4, 60, 5):
        for num_basis in range(3, horizon * 3 // 4 + 1):
            config = BeastConfig(1, horizon, num_basis, degree=0, grid=grid)
            times = evaluation_points(config)
            expected = zero_order_basis(config)
            assert torch.equal(zero_order_basis(config, times), expected)
            assert torch.equal(zero_order_basis(config, times.float()), expected)
            assert (expected.sum(1) == 1).all()
            assert expected.any(0).all()


@pytest.mark.parametrize("mode", ["zero_order", "spline"])
@pytest.mark.parametrize("grid", ["closed", "anchored"])
def test_threshold_gives_two_values(mode, grid):
    tokenizer, x = gripping(50, 10, gripper_mode=mode, gripper_threshold=True, grid=grid)
    tokens = tokenizer.encode(x)
    for decoded in (tokenizer.decode(tokens), tokenizer.decode(tokens, times=torch.linspace(0, 1, 77))):
        assert decoded[:, :, 1].unique().tolist() == [-1, 1]
        assert len(decoded[:, :, 0].unique()) > 1000
    plain, _ = gripping(50, 10, gripper_mode=mode, grid=grid)
    assert len(plain.decode(plain.encode(x))[:, :, 1].unique()) > 2


@pytest.mark.parametrize("grippers", [(0,), (2,), (3, 1)])
@pytest.mark.parametrize("mode", ["zero_order", "spline"])
def test_any_index_may_be_a_gripper(grippers, mode):
    horizon = 20
    x = smooth(100, horizon, 4, 1, 1 / horizon)
    for number, gripper in enumerate(grippers):
        x[:, :, gripper] = switching(100, horizon, 1, seed=number)[:, :, 0]
    tokenizer = BeastTokenizer(BeastConfig(4, horizon, 10, gripper=grippers, gripper_mode=mode)).fit(x)
    decoded = tokenizer.decode(tokenizer.encode(x))
    for dof in range(4):
        agree = ((decoded[:, :, dof] > 0) == (x[:, :, dof] > 0)).float().mean()
        close = (decoded[:, :, dof] - x[:, :, dof]).abs().max() < 0.05
        assert agree > 0.95
        assert close == (dof not in grippers)
    # The order in which indices are listed means nothing.
    other = BeastTokenizer(BeastConfig(4, horizon, 10, gripper=grippers[::-1], gripper_mode=mode)).fit(x)
    assert torch.equal(other.encode(x).ids, tokenizer.encode(x).ids)


def test_a_start_leaves_grippers_alone():
    tokenizer, x = gripping(20, 10)
    tokens = tokenizer.encode(x)
    started = tokenizer.decode(tokens, start=torch.full((len(x), 2), 0.123))
    torch.testing.assert_close(started[:, 0, 0], torch.full((len(x),), 0.123))
    assert torch.equal(started[:, :, 1], tokenizer.decode(tokens)[:, :, 1])
