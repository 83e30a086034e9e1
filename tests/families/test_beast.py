"""BEAST on whole chunks: check values, layout, error bounds, decoding options, continuous tokens."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from motion import smooth
from scipy.interpolate import BSpline
from torch.autograd import gradcheck

from zoo.components.layers.bspline import basis, knots
from zoo.errors import TokenError
from zoo.families.beast import BeastConfig, BeastTokenizer
from zoo.families.beast.spline import evaluation_points
from zoo.tokens import Tokens

GRIDS = ("closed", "anchored")


def fitted(dofs=4, horizon=50, num_basis=10, seed=1, **options):
    config = BeastConfig(num_dofs=dofs, horizon=horizon, num_basis=num_basis, **options)
    return BeastTokenizer(config).fit(smooth(300, 3 * horizon, dofs, seed=seed, fastest=1 / horizon))


def chunks(tokenizer, num=64, seed=2):
    horizon, dofs = tokenizer.spec.input_size
    return smooth(num, horizon, dofs, seed=seed, fastest=1 / horizon)


@pytest.fixture(scope="module")
def tokenizer():
    return fitted()


def control_points(tokenizer, tokens):
    """The values that ids stand for, (B, F, D) float64 in physical units, by the definition."""
    grid, normalizer = tokenizer.quantizer, tokenizer.normalizer
    z = tokens.ids.view(len(tokens), *grid.low.shape) / (grid.codebook_size - 1)
    return (grid.low + z * (grid.high - grid.low)) * normalizer.half_range + normalizer.centre


# ------------------------------------------------------------------------------------------------------ check values


def test_check_values():
    tokenizer = BeastTokenizer(BeastConfig(2, 11, 6, degree=3)).set_bounds(-1.5, 1.5)
    u = torch.arange(11, dtype=torch.float64) / 10
    x = torch.stack([torch.sin(2 * torch.pi * u), u**2 - 0.5], 1)[None]
    points = tokenizer.encoder.linear(x)[0].T
    expected = [
        [-0.00309126, 0.79077232, 1.62252589, -1.62252589, -0.79077232, 0.00309126],
        [-0.49996651, -0.49994335, -0.42593035, -0.09256237, 0.27773002, 0.49996328],
    ]
    torch.testing.assert_close(points, torch.tensor(expected).double(), rtol=0, atol=4e-6)  # weights of 2^-21
    tokens = tokenizer.encode(x)
    assert tokens.ids.tolist() == [[127, 85, 195, 85, 255, 91, 0, 120, 60, 151, 128, 170]]
    assert tokenizer.clipped_slots(x).T.tolist() == [[0, 0, 1, 1, 0, 0], [0] * 6]
    decoded = tokenizer.decode(tokens)
    assert decoded[0, 0].tolist() == pytest.approx([-0.00588235, -0.5], abs=1e-7)
    assert (decoded - x).square().mean().item() == pytest.approx(5.318e-4, abs=5e-8)


def test_still_actions_between_symmetric_bounds():
    tokenizer = BeastTokenizer(BeastConfig(3, 20, 10)).set_bounds(-0.7, 0.7)
    tokens = tokenizer.encode(torch.zeros(2, 20, 3))
    assert (tokens.ids == 128).all()  # half to even, as documented, and so
    torch.testing.assert_close(tokenizer.decode(tokens), torch.full((2, 20, 3), 0.7 / 255))
    odd = BeastTokenizer(BeastConfig(3, 20, 10, codebook_size=255)).set_bounds(-0.7, 0.7)
    assert odd.decode(odd.encode(torch.zeros(2, 20, 3))).abs().max() < 1e-7


def test_facts(tokenizer):
    spec = fitted(control_rate=25.0).spec
    assert (spec.modality, spec.codebook_size, spec.num_codebooks) == ("action", 256, 1)
    assert (spec.num_tokens, spec.input_size, spec.is_fixed_length) == (40, (50, 4), True)
    assert (spec.sample_rate, spec.token_rate, spec.bit_rate) == (25.0, 20.0, 160.0)
    assert tokenizer.spec.token_rate is None
    assert tokenizer.horizon == 50
    assert tokenizer.num_dofs == 4
    assert tokenizer.num_parameters == 0


# ------------------------------------------------------------------------------------------------------------ layout


def test_ids_are_basis_major(tokenizer):
    """A bump early in one degree of freedom changes early ids of that one alone."""
    x = chunks(tokenizer, 1)
    ids = tokenizer.encode(x).ids.view(10, 4)
    for dof in range(4):
        bumped = x.clone()
        bumped[0, :4, dof] += 0.2
        change = (tokenizer.encode(bumped).ids.view(10, 4) - ids).abs()
        assert not change[:, [d for d in range(4) if d != dof]].any()
        assert change[:3, dof].sum() > 10 * change[-3:, dof].sum() + 5


def test_decoding_is_the_spline_of_the_points(tokenizer):
    tokens = tokenizer.encode(chunks(tokenizer))
    points = control_points(tokenizer, tokens)
    curve = BSpline(knots(10, 4).numpy(), points.transpose(0, 1).numpy(), 4)
    u = torch.linspace(0, 1, 50, dtype=torch.float64)
    torch.testing.assert_close(
        tokenizer.decode(tokens).double(), torch.from_numpy(curve(u)).transpose(0, 1), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("grid", GRIDS)
def test_encoding_is_the_ridge_fit_of_normalised_actions(grid):
    tokenizer = fitted(grid=grid)
    x = chunks(tokenizer)
    phi = basis(evaluation_points(tokenizer.config), 10, 4)
    rows = torch.cat([phi, 0.01 * torch.eye(10).double()])  # √λ
    normalised = tokenizer.normalizer(x)
    targets = torch.cat([normalised, torch.zeros(len(x), 10, 4)], 1)
    points = torch.linalg.lstsq(rows.expand(len(x), -1, -1), targets).solution
    low, high = tokenizer.quantizer.low, tokenizer.quantizer.high
    levels = ((points - low) / (high - low)).clamp(0, 1) * 255
    ids = tokenizer.encode(x).ids.view(len(x), 10, 4)
    difference = (levels - ids).abs()
    assert difference.max() < 0.5 + 1e-3  # the nearest level, but for ties within the fixed point's resolution
    assert (ids == levels.round()).double().mean() > 0.998


# ------------------------------------------------------------------------------------------------------------ errors


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([(20, 10, 4), (50, 10, 3), (16, 5, 4), (30, 7, 1), (24, 8, 0)]),
    st.integers(2, 1000),
    st.sampled_from(GRIDS),
    st.integers(0, 99),
    st.lists(st.floats(0, 1), min_size=1, max_size=8),
)
def test_rounding_moves_actions_by_half_a_bin_at_most(sizes, size, grid, seed, times):
    horizon, num_basis, degree = sizes
    tokenizer = BeastTokenizer(BeastConfig(2, horizon, num_basis, degree=degree, codebook_size=size, grid=grid))
    points = torch.randn(5, num_basis, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    low = points.amin(0) - 0.1
    high = points.amax(0) + 0.1 + torch.rand(num_basis, 2, generator=torch.Generator().manual_seed(seed))
    tokenizer.set_bounds(low, high)
    z = (points - low) / (high - low) * 2 - 1
    exact = tokenizer.decode_latents(z, times=times)
    ids = tokenizer.quantizer.ids(points).flatten(1)
    error = (tokenizer.decode(ids, times=times) - exact).abs().amax((0, 1))
    assert (error <= (high - low).amax(0) / (2 * (size - 1)) + 1e-5).all()
    on_grid = (tokenizer.decode(ids) - tokenizer.decode_latents(z)).abs().amax((0, 1))
    assert (on_grid <= (high - low).amax(0) / (2 * (size - 1)) + 1e-5).all()


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({}, 3e-5),
        ({"grid": "anchored"}, 3e-5),
        ({"degree": 3}, 3e-5),
        ({"codebook_size": 4096}, 1e-6),
        ({"per": "dof"}, 5e-5),
    ],
)
def test_smooth_chunks_survive(options, most):
    tokenizer = fitted(**options)
    x = chunks(tokenizer)
    error = tokenizer.normalizer(tokenizer.decode(tokenizer.encode(x))) - tokenizer.normalizer(x)
    assert error.square().mean() < most
    assert error.square().mean() > 1e-9


@pytest.mark.parametrize("grid", GRIDS)
def test_degree_0_holds_the_mean_of_each_interval(grid):
    tokenizer = fitted(dofs=1, horizon=16, num_basis=4, degree=0, grid=grid, ridge=1e-9, codebook_size=2**16)
    x = chunks(tokenizer, 3)
    decoded = tokenizer.decode(tokenizer.encode(x))
    expected = x.view(3, 4, 4).mean(2).repeat_interleave(4, 1)
    torch.testing.assert_close(decoded[:, :, 0], expected, rtol=0, atol=1e-3)
    assert torch.equal(tokenizer.decode(tokenizer.encode(x), times=evaluation_points(tokenizer.config)), decoded)


# ---------------------------------------------------------------------------------------------------------- decoding


def test_times(tokenizer):
    tokens = tokenizer.encode(chunks(tokenizer, 5))
    own = tokenizer.decode(tokens)
    assert torch.equal(tokenizer.decode(tokens, times=evaluation_points(tokenizer.config)), own)
    fine = tokenizer.decode(tokens, times=torch.linspace(0, 1, 197))
    torch.testing.assert_close(fine[:, ::4], own, rtol=0, atol=1e-5)
    assert fine.shape == (5, 197, 4)
    # Never rescaled: the first half is the first half.
    half = tokenizer.decode(tokens, times=torch.linspace(0, 1, 197)[:99])
    torch.testing.assert_close(half, fine[:, :99])
    assert tokenizer.decode(tokens, times=[0.5]).shape == (5, 1, 4)
    two = Tokens.cat([tokens, tokens], dim="time")
    torch.testing.assert_close(
        tokenizer.decode(two, times=[0.0, 0.3]), tokenizer.decode(tokens, times=[0.0, 0.3]).repeat(1, 2, 1)
    )


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_are_those_of_the_curve(grid, order):
    tokenizer = fitted(grid=grid)
    tokens = tokenizer.encode(chunks(tokenizer, 5))
    u = torch.tensor([0.05, 0.31, 0.5, 0.77, 0.99], dtype=torch.float64)
    points = control_points(tokenizer, tokens)
    curve = BSpline(knots(10, 4).numpy(), points.transpose(0, 1).numpy(), 4)
    ours = tokenizer.decode(tokens, times=u, derivative=order)
    theirs = torch.from_numpy(curve(u, nu=order)).transpose(0, 1)
    torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))
    assert tokenizer.decode(tokens, derivative=order).shape == (5, 50, 4)
    assert not tokenizer.decode(tokens, derivative=5).any()


def test_bare_ids(tokenizer):
    tokens = tokenizer.encode(chunks(tokenizer, 3))
    expected = tokenizer.decode(tokens)
    for ids in (tokens.ids, tokens.ids.int(), tokens.ids.numpy(), tokens.tolist(), tokens.ids.T.contiguous().T):
        assert torch.equal(tokenizer.decode(ids), expected)
    torch.testing.assert_close(tokenizer.decode(tokens.ids[1]), expected[1:2])
    ragged = [tokens.ids[0].tolist(), tokens.ids[1:].flatten().tolist()]
    decoded = tokenizer.decode(ragged)
    assert decoded.shape == (2, 100, 4)
    torch.testing.assert_close(decoded[1], expected[1:].flatten(0, 1))
    torch.testing.assert_close(decoded[0, :50], expected[0])
    assert not decoded[0, 50:].any()
    # A prefix of whole chunks, as a view with gaps in memory.
    longer = Tokens.from_ids(tokens.ids.repeat(1, 3), codebook_size=256)
    torch.testing.assert_close(tokenizer.decode(longer[:, :80]), expected.repeat(1, 2, 1))
    assert not tokenizer.decode(tokens.truncate([40, 0, 40]))[1].any()


def test_ids_outside_the_codebook(tokenizer):
    ids = tokenizer.encode(chunks(tokenizer, 2)).ids
    nearest = ids.clone()
    ids[0, 3], ids[1, 5] = 256, -1
    nearest[0, 3], nearest[1, 5] = 255, 0
    with pytest.raises(TokenError, match="from -1 to 256"):
        tokenizer.decode(ids)
    expected = tokenizer.decode(nearest)
    assert torch.equal(tokenizer.decode(ids, out_of_range="clamp"), expected)
    assert torch.equal(tokenizer.decode(ids.tolist(), out_of_range="clamp"), expected)
    ragged = [ids[0].tolist(), [*ids[1].tolist(), *ids[1].tolist()]]
    torch.testing.assert_close(tokenizer.decode(ragged, out_of_range="clamp")[0, :50], expected[0])
    assert torch.equal(tokenizer.decode(ids, [40, 40], out_of_range="clamp"), expected)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_every_sequence_of_ids_decodes(data):
    tokenizer = BeastTokenizer(BeastConfig(2, 10, 5, gripper=(1,))).set_bounds(-2.0, 3.0)
    ids = data.draw(st.lists(st.lists(st.integers(0, 255), min_size=10, max_size=10), min_size=1, max_size=4))
    decoded = tokenizer.decode(ids)
    assert decoded.shape == (len(ids), 10, 2)
    assert decoded.isfinite().all()
    assert decoded.min() >= -2 - 1e-5
    assert decoded.max() <= 3 + 1e-5


def test_autocast_changes_nothing(tokenizer):
    x = chunks(tokenizer, 4)
    tokens, z = tokenizer.encode(x), tokenizer.encode_latents(x).values
    expected = tokenizer.decode(tokens), tokenizer.decode_latents(z)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tokenizer.encode(x).ids, tokens.ids)
        assert torch.equal(tokenizer.encode_latents(x).values, z)
        torch.testing.assert_close(tokenizer.decode(tokens), expected[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(tokenizer.decode_latents(z), expected[1], rtol=0, atol=1e-6)
    with torch.inference_mode():
        assert torch.equal(tokenizer.decode(tokenizer.encode(x)), expected[0])


# -------------------------------------------------------------------------------------------------- continuous tokens


@pytest.mark.parametrize("options", [{}, {"grid": "anchored"}, {"gripper": (1, 3)}])
def test_continuous_tokens(options):
    tokenizer = fitted(**options)
    x = chunks(tokenizer)
    z = tokenizer.encode_latents(x).values
    assert z.shape == (64, 10, 4)
    assert z.dtype == torch.float32
    assert z.abs().max() <= 1
    ids = tokenizer.encode(x).ids.view(64, 10, 4)
    assert ((z + 1) / 2 * 255 - ids).abs().max() < 0.5 + 1e-3
    if not options.get("gripper"):
        torch.testing.assert_close(tokenizer.decode_latents(z), x, rtol=0, atol=2e-2)
    again = tokenizer.encode_latents(tokenizer.decode_latents(z)).values
    torch.testing.assert_close(again, z, rtol=0, atol=3e-3)  # λ pulls a little
    levels = ids / 255 * 2 - 1
    torch.testing.assert_close(tokenizer.decode_latents(levels), tokenizer.decode(ids.flatten(1)), rtol=0, atol=1e-5)


def test_continuous_clamping():
    tokenizer = fitted()
    x = chunks(tokenizer, 4) * 3
    free = tokenizer.encode_latents(x, clamp=False).values
    assert free.abs().max() > 1.2
    assert torch.equal(free.clamp(-1, 1), tokenizer.encode_latents(x).values)
    torch.testing.assert_close(tokenizer.decode_latents(free), x, rtol=0, atol=5e-2)


@pytest.mark.parametrize("options", [{}, {"gripper": (0,)}, {"grid": "anchored", "boundary": "value"}])
def test_gradients(options):
    tokenizer = fitted(dofs=2, horizon=10, num_basis=6, degree=3, **options)
    x = chunks(tokenizer, 2).double().requires_grad_()
    start = torch.zeros(2, 2) if "boundary" in options else None
    z = tokenizer.encode_latents(x, start=start, clamp=False).values
    assert z.dtype == torch.float64
    assert gradcheck(lambda x: tokenizer.encode_latents(x, start=start, clamp=False).values, x)
    assert gradcheck(lambda z: tokenizer.decode_latents(z, start=start), z.detach().requires_grad_())
    single = x.detach().float().requires_grad_()
    tokenizer.decode_latents(tokenizer.encode_latents(single, start=start).values, start=start).sum().backward()
    assert single.grad.abs().sum() > 0
    assert single.grad.isfinite().all()
