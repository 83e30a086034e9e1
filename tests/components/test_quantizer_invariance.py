"""The same vector gets the same ids, whatever is around it and however products are computed."""

import contextlib
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.components.exact.nearest import nearest, ordered_sum, positive, unit
from zoo.components.quantizers import build
from zoo.components.quantizers.kinds import KINDS

NUM = 2048

CONFIGS = {
    "fsq": {"kind": "fsq", "levels": [8, 8, 8, 5, 5, 5]},
    "lfq": {"kind": "lfq", "num_bits": 13},
    "voting_lfq": {"kind": "voting_lfq", "dim": 96, "num_bits": 7},
    "voting_lfq with bias": {"kind": "voting_lfq", "dim": 96, "num_bits": 7, "num_voters": 3, "bias": True},
    "vq": {"kind": "vq", "codebook_size": 1000, "dim": 128},
    "vq by angle": {"kind": "vq", "codebook_size": 1024, "dim": 8, "cosine": True},
    "stochastic_vq": {"kind": "stochastic_vq", "codebook_size": 500, "dim": 16},
    "uniform": {
        "kind": "uniform",
        "dim": 5,
        "levels": [256, 200, 7, 2, 1000],
        "low": -2.1,
        "high": [2, 3, 1, 0.1, 2.1],
    },
    "residual": {"kind": "residual", "num_stages": 4, "stage": {"kind": "vq", "codebook_size": 256, "dim": 64}},
    "residual by angle": {
        "kind": "residual",
        "num_stages": 3,
        "scale": 0.5,
        "stage": {"kind": "vq", "codebook_size": 256, "dim": 64, "cosine": True},
    },
}


def test_every_kind_with_ids_is_tested():
    kinds = {config["kind"] for config in CONFIGS.values()}
    assert kinds | {"none", "gaussian"} == set(KINDS), "a kind has a line in CONFIGS"


def make(name):
    torch.manual_seed(0)
    return build(CONFIGS[name]).eval()


def near_ties(quantizer, num=NUM):
    """Return vectors of which half lie within rounding of a boundary of the first stage."""
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(num, quantizer.input_dim, generator=generator)
    tiny = 1e-7 * torch.randn(num // 2, quantizer.input_dim, generator=generator)
    first = quantizer.stages[0] if hasattr(quantizer, "stages") else quantizer
    if hasattr(first, "codebook"):
        a, b = torch.randint(first.codebook_size, (2, num // 2), generator=generator)
        z[::2] = (first.codes(a) + first.codes(b)).detach() / 2 + tiny
    elif hasattr(first, "boundaries"):
        level = torch.randint(4, z[::2].shape, generator=generator)
        z[::2] = first.boundaries[torch.arange(first.dim), level].float() * (1 + tiny)
    elif hasattr(first, "grid"):
        grid = first.grid
        below = (torch.rand(z[::2].shape, generator=generator) * grid.last_ids).floor()
        z[::2] = (grid.low + (below + 0.5) * grid.step).float() * (1 + tiny)
    elif hasattr(first, "branches"):
        # Take away what the first branch sees, so that all its bits are near 0.
        weight = first.branches.weight.detach()[: first.config.num_bits].double()
        bias = 0 if first.branches.bias is None else first.branches.bias.detach()[: first.config.num_bits].double()
        part = z[::2].double()
        z[::2] = (part - (part @ weight.T + bias) @ torch.linalg.pinv(weight).T).float()
    else:
        z[::4], z[2::4] = tiny[::2], between(quantizer, z[2::4], z[3::4])
    return z


def between(quantizer, a, b):
    """Return vectors on the way from a to b, within rounding of where the first ids on it end."""
    first = quantizer.ids(a)
    for _ in range(40):
        middle = (a + b) / 2
        is_same = (quantizer.ids(middle) == first).reshape(len(a), -1).all(1, keepdim=True)
        a, b = torch.where(is_same, middle, a), torch.where(is_same, b, middle)
    return b


@contextlib.contextmanager
def threads(num):
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", CONFIGS)
def test_batch_threads_and_order_change_no_id(name):
    quantizer = make(name)
    z = near_ties(quantizer)
    with threads(1):
        ids = quantizer.ids(z)
    for num_threads in (1, 2):
        with threads(num_threads):
            # Few small calls on two threads: on a busy machine each waits long for the other thread.
            for size in (1, 2, 3, 7, 32, 1000) if num_threads == 1 else (3, 1000):
                part = z if size >= 32 else z[: 96 if num_threads == 1 else 30]
                together = torch.cat([quantizer.ids(piece) for piece in part.split(size)])
                assert torch.equal(together, ids[: len(part)]), (num_threads, size)
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(2))
    assert torch.equal(quantizer.ids(z[order]), ids[order])
    assert torch.equal(quantizer.ids(z.view(2, -1, 8, z.shape[1])).flatten(0, 2), ids)
    assert torch.equal(quantizer(z).ids, ids)


@pytest.mark.parametrize("name", ["vq", "vq by angle", "voting_lfq", "fsq", "uniform"])
def test_the_ties_are_real(name):
    # Without the care taken, a bare product or a rounded tanh would give other ids for some of these vectors.
    quantizer = make(name)
    z = near_ties(quantizer)[::2]
    if name == "fsq":
        values = quantizer._values(z)
        assert ((values - values.round()).abs() > quantizer._sure).float().mean() > 0.5
        return
    if name == "uniform":
        levels = (z - quantizer.grid.low.float()) / quantizer.grid.step.float()
        ids = levels.round().clamp(min=0).minimum(quantizer.grid.last_ids.float())
        assert (ids != quantizer.ids(z)).any()
        return
    if name == "voting_lfq":
        values = quantizer.branches(z)[:, : quantizer.config.num_bits]
        again = torch.cat([quantizer.branches(row[None]) for row in z])[:, : quantizer.config.num_bits]
        assert ((values > 0) != (again > 0)).any()
        return
    vectors = quantizer.vectors().detach()
    bias = torch.zeros(len(vectors)) if quantizer.config.cosine else -vectors.square().sum(1) / 2
    scores = torch.addmm(bias, z, vectors.T).topk(2).values
    assert (scores[:, 0] - scores[:, 1] < 1e-6).float().mean() > 0.02


@pytest.mark.parametrize("by_angle", [False, True])
@pytest.mark.parametrize(("size", "dim"), [(1, 3), (2, 1), (64, 4), (65, 7), (1000, 128)])
def test_nearest_is_the_float64_answer(size, dim, by_angle):
    generator = torch.Generator().manual_seed(3)
    codes = torch.randn(size, dim, generator=generator)
    codes = unit(codes) if by_angle else codes
    codes[size // 2] = codes[0]  # an exact tie
    a, b = torch.randint(size, (2, 30), generator=generator)
    z = torch.cat([codes[a], (codes[a] + codes[b]) / 2, torch.randn(20, dim, generator=generator)])
    z = torch.cat([z, 1e20 * z[-5:], 1e-20 * z[-5:], torch.zeros(1, dim)])
    x, c = z.double()[:, None], codes.double()
    expected = ordered_sum(x * c).argmax(1) if by_angle else ordered_sum((x - c).square()).argmin(1)
    assert torch.equal(nearest(z, codes, by_angle=by_angle), expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1e-30, 1e-3, 1.0, 1e6]), st.sampled_from([0.0, 1.0, 1e4]))
def test_nearest_at_any_scale_and_offset(seed, scale, offset):
    generator = torch.Generator().manual_seed(seed)
    codes = scale * (torch.randn(70, 9, generator=generator) + offset)
    z = scale * (torch.randn(40, 9, generator=generator) + offset)
    expected = ordered_sum((z.double()[:, None] - codes.double()).square()).argmin(1)
    assert torch.equal(nearest(z, codes), expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 200), st.booleans())
def test_positive_is_the_float64_answer(seed, dim, biased):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(11, dim, generator=generator)
    z = torch.randn(50, dim, generator=generator)
    z[::2] -= (z[::2] @ weight[:1].T) * weight[:1] / weight[:1].square().sum()
    bias = 1e-7 * torch.randn(11, generator=generator) if biased else None
    exact = ordered_sum(z.double()[:, None] * weight.double()) + (0 if bias is None else bias.double())
    assert torch.equal(positive(z, weight, bias), exact > 0)


def test_nan_and_infinity_do_no_harm_to_others():
    for name in CONFIGS:
        quantizer = make(name)
        z = near_ties(quantizer, 64)
        ids = quantizer.ids(z)
        bad = z.clone()
        bad[3], bad[10, 0], bad[20, -1] = torch.nan, torch.inf, -torch.inf
        rest = torch.ones(64, dtype=torch.bool)
        rest[[3, 10, 20]] = False
        got = quantizer.ids(bad)
        assert torch.equal(got[rest], ids[rest])
        assert ((got >= 0) & (got < quantizer.codebook_size)).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_autocast_and_half_precision_decide_nothing(name):
    quantizer = make(name)
    z = near_ties(quantizer, 256)
    ids = quantizer.ids(z)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer.ids(z), ids)
        assert torch.equal(quantizer(z).ids, ids)
    rounded = z.bfloat16()
    expected = quantizer.ids(rounded.float())
    result = quantizer.bfloat16()(rounded)
    assert torch.equal(result.ids, expected)
    assert result.codes.dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 for p in quantizer.parameters())


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_products_in_lower_precision_change_no_id(precision):
    quantizer = make("vq")
    z = near_ties(quantizer, 256)
    ids = quantizer.ids(z)
    before = torch.backends.mkldnn.matmul.fp32_precision
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.backends.mkldnn.matmul.fp32_precision = precision
        try:
            assert torch.equal(quantizer.ids(z), ids)
        finally:
            torch.backends.mkldnn.matmul.fp32_precision = before


def test_fsq_boundaries_are_those_of_the_formula():
    # Far from boundaries tanh decides, near them the boundary: together they must be one staircase.
    quantizer = make("fsq")
    for dim, level in ((0, 8), (5, 5)):
        for k in range(level - 1):
            boundary = quantizer.boundaries[dim, k].item()
            steps = torch.tensor([-1e-3, -1e-5, -1e-6, -2e-7, 2e-7, 1e-6, 1e-5, 1e-3], dtype=torch.float64)
            z = torch.zeros(8, 6)
            z[:, dim] = (boundary + steps).float()
            digits = quantizer.ids(z) // quantizer.powers[dim] % level
            assert digits.tolist() == [k + int(value.item() > boundary) for value in z[:, dim].double()]
            half, offset = (level - 1) * 1.001 / 2, 0.0 if level % 2 else 0.5
            exact = torch.tanh(z[:, dim].double() + math.atanh(offset / half)) * half - offset
            far = [0, 1, 2, 5, 6, 7]
            assert (exact.round() + level // 2)[far].tolist() == digits[far].tolist()


def test_fsq_is_exact_to_the_last_bit():
    # Neighbouring float32 values across each boundary: a rounded tanh cannot tell them apart.
    quantizer = build({"kind": "fsq", "levels": [16, 9, 8, 5, 2]})
    for dim, level in enumerate(quantizer.levels.tolist()):
        for boundary in quantizer.boundaries[dim, : level - 1]:
            values = [boundary.float()]
            for _ in range(8):
                values = [values[0].nextafter(torch.tensor(-9.0)), *values, values[-1].nextafter(torch.tensor(9.0))]
            z = torch.zeros(17, 5)
            z[:, dim] = torch.stack(values)
            passed = (z[:, dim, None].double() > quantizer.boundaries[dim, : level - 1]).sum(1)
            assert torch.equal(quantizer.ids(z) // quantizer.powers[dim] % level, passed)
