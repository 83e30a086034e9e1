"""Fitting BEAST: in one go, in parts, merged; bounds; choosing the number of control points."""

import copy

import numpy as np
import pytest
import torch
from motion import smooth, switching

import zoo
from zoo.data.actions import ActionEpisodes
from zoo.errors import ConfigError, InputError, NotFittedError
from zoo.families.beast import BeastConfig, BeastTokenizer, choose_num_basis
from zoo.families.beast.spline import episode_windows

HORIZON, DOFS = 20, 3


def make(**options):
    return BeastTokenizer(BeastConfig(DOFS, HORIZON, 8, **options))


def episodes(num=12, seed=1):
    """Episodes of unequal length, some shorter than a chunk."""
    data = smooth(num, 90, DOFS, seed, 1 / HORIZON)
    return [e[: 7 + 7 * number] for number, e in enumerate(data)]


def same(first, second):
    states = first.state_dict(), second.state_dict()
    assert states[0].keys() == states[1].keys()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


OPTIONS = [
    {},
    {"per": "dof"},
    {"bounds": "quantile"},
    {"grid": "anchored", "boundary": "value+velocity"},
    {"gripper": (1,)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_parts_equal_the_whole(options):
    data = episodes()
    whole = make(**options).fit(data)
    in_parts = make(**options)
    for part in (data[:1], data[1:5], data[5:]):
        in_parts.partial_fit(part)
    reversed_ = make(**options).fit(data[::-1])
    merged = make(**options)
    for shard in (data[8:], data[:8]):
        merged.merge_fit(make(**options).partial_fit(shard))
    for other in (in_parts, reversed_, merged):
        assert same(other, whole)
    x = smooth(50, HORIZON, DOFS, 5, 1 / HORIZON)
    start = {"start": x[:, :2]} if "boundary" in options else {}
    assert torch.equal(merged.encode(x, **start).ids, whole.encode(x, **start).ids)
    # Fitting starts anew, whatever was seen before; partial_fit goes on.
    more = [e * 2 for e in data]
    assert same(copy.deepcopy(whole).fit(more).fit(data), whole)
    assert not same(copy.deepcopy(whole).partial_fit(more), whole)
    assert same(copy.deepcopy(whole).partial_fit(more), make(**options).fit(data + more))
    assert same(whole.merge_fit(make(**options)), in_parts)  # nothing to add


def test_any_form_of_data():
    data = smooth(6, 50, DOFS, 1, 1 / HORIZON)
    expected = make().fit(data)
    forms = [
        list(data),
        data.double().numpy(),
        [e.tolist() for e in data],
        (e for e in data),
        ActionEpisodes(list(data.numpy()), [str(i) for i in range(6)]),
        [np.flip(np.flip(e.numpy(), 0).copy(), 0) for e in data],  # negative strides
        [e.numpy().astype(">f4") for e in data],
    ]
    for form in forms:
        assert same(make().fit(form), expected)
    read_only = data.numpy().copy()
    read_only.setflags(write=False)
    assert same(make().fit(read_only), expected)
    assert same(make().fit([torch.randint(9, (30, DOFS)).int() for _ in range(3)]).fit(data), expected)


def test_bounds_are_those_of_the_control_points():
    """Of the windows at every step, widened by the margin, in normalised units."""
    data = episodes()
    tokenizer = make(margin=0.25).fit(data)
    low, high = (np.quantile(np.concatenate(data), q, axis=0) for q in (0.01, 0.99))
    np.testing.assert_allclose(tokenizer.normalizer.centre, (low + high) / 2, atol=1e-6)
    np.testing.assert_allclose(tokenizer.normalizer.half_range, (high - low) / 2, atol=1e-6)
    windows = torch.cat([episode_windows(e, tokenizer.config) for e in data])
    assert len(windows) == sum(map(len, data))
    points = tokenizer.encoder(windows)
    width = points.amax(0) - points.amin(0)
    torch.testing.assert_close(tokenizer.quantizer.low, points.amin(0) - 0.25 * width, rtol=0, atol=1e-4)
    torch.testing.assert_close(tokenizer.quantizer.high, points.amax(0) + 0.25 * width, rtol=0, atol=1e-4)
    assert tokenizer.quantizer.low.shape == (8, DOFS)
    assert torch.equal(tokenizer.action_low, torch.cat(data).amin(0))
    assert torch.equal(tokenizer.action_high, torch.cat(data).amax(0))
    assert not tokenizer.clipped_slots(windows).any()


def test_windows():
    episode = torch.arange(5.0)[:, None]
    plain = episode_windows(episode, BeastConfig(1, 4, 2, degree=1))
    assert plain[:, :, 0].tolist() == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 4], [3, 4, 4, 4], [4, 4, 4, 4]]
    chained = episode_windows(episode, BeastConfig(1, 4, 3, degree=1, boundary="value+velocity"))
    assert chained[:2, :, 0].tolist() == [[0, 0, 0, 1, 2, 3], [0, 0, 1, 2, 3, 4]]
    assert chained[2, :, 0].tolist() == [0, 1, 2, 3, 4, 4]


def test_one_bound_a_degree_of_freedom():
    data = episodes()
    tokenizer, slots = make(per="dof").fit(data), make(margin=0.0).fit(data)
    low, high = tokenizer.quantizer.low, tokenizer.quantizer.high
    assert low.shape == (8, DOFS)
    assert (low == low[0]).all()
    assert (high == high[0]).all()
    width = slots.quantizer.high.amax(0) - slots.quantizer.low.amin(0)
    torch.testing.assert_close(high[0] - low[0], 1.25 * width)


def test_quantile_bounds_clip_the_rest():
    data = smooth(400, 60, DOFS, 1, 1 / HORIZON)
    tokenizer = make(bounds="quantile", bounds_quantiles=(0.05, 0.95), margin=0.0).fit(data)
    x = data[:, :HORIZON]
    clipped = tokenizer.clipped_slots(x)
    assert clipped.shape == (8, DOFS)
    assert 0.06 < clipped.sum() / (len(x) * 8 * DOFS) < 0.14
    assert not make().fit(data).clipped_slots(x).any()
    points = tokenizer.encoder(x)
    outside = (points < tokenizer.quantizer.low) | (points > tokenizer.quantizer.high)
    assert torch.equal(clipped, outside.sum(0))
    ids = tokenizer.encode(x).ids.view(-1, 8, DOFS)
    assert ((ids == 0) | (ids == 255))[outside].all()


def test_more_margin_less_clipping():
    test = smooth(200, HORIZON, DOFS, 9, 1 / HORIZON) * 1.1
    counts = [int(make(margin=margin).fit(episodes()).clipped_slots(test).sum()) for margin in (0.0, 0.125, 0.5)]
    assert counts[0] > counts[1] > counts[2]


def test_what_never_moves():
    """A constant degree of freedom: no NaN, its value comes back, noise on it is no error."""
    data = smooth(30, 60, DOFS, 1, 1 / HORIZON)
    for constant in (0.0, 0.5, -1234.5):
        data[:, :, 1] = constant
        tokenizer = make().fit(data)
        assert all(tensor.isfinite().all() for tensor in tokenizer.buffers())
        x = data[:, :HORIZON]
        decoded = tokenizer.decode(tokenizer.encode(x))
        assert decoded.isfinite().all()
        assert (decoded[:, :, 1] - constant).abs().max() < 1e-6 * max(1, abs(constant))
        noisy = x + torch.tensor([0, 1e-9, 0])
        assert (tokenizer.decode(tokenizer.encode(noisy))[:, :, 1] - constant).abs().max() < 1e-5 * max(
            1, abs(constant)
        )
        moved = x + torch.tensor([0, 0.1, 0])
        assert tokenizer.clipped_slots(moved)[:, 1].sum() == 8 * len(x)
    still = BeastTokenizer(BeastConfig(DOFS, HORIZON, 8)).fit(torch.zeros(2, 30, DOFS))
    assert torch.equal(still.encode(torch.zeros(1, HORIZON, DOFS)).ids, torch.full((1, 24), 128))
    assert still.decode(still.encode(torch.zeros(1, HORIZON, DOFS))).abs().max() < 1e-6


@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_units_do_not_matter(scale):
    data = smooth(60, 80, DOFS, 1, 1 / HORIZON)
    x = smooth(50, HORIZON, DOFS, 2, 1 / HORIZON)
    shift = 3 * scale
    tokenizer, other = make().fit(data), make().fit(data * scale + shift)
    ids, scaled = tokenizer.encode(x).ids, other.encode(x * scale + shift).ids
    assert (ids - scaled).abs().max() <= 1
    assert (ids == scaled).float().mean() > 0.97
    torch.testing.assert_close((other.decode(scaled) - shift) / scale, tokenizer.decode(scaled), rtol=0, atol=1e-5)


def test_not_fitted():
    tokenizer = make()
    assert not tokenizer.is_fitted
    x = torch.zeros(1, HORIZON, DOFS)
    calls = (
        lambda: tokenizer.encode(x),
        lambda: tokenizer.decode(torch.zeros(1, 24).long()),
        lambda: tokenizer.encode_latents(x).values,
        lambda: tokenizer.decode_latents(torch.zeros(1, 8, DOFS)),
        lambda: tokenizer.clipped_slots(x),
        lambda: zoo.save(tokenizer, "nowhere"),
    )
    for call in calls:
        with pytest.raises(NotFittedError, match="call fit"):
            call()
    assert tokenizer.merge_fit(make()) is tokenizer
    assert not tokenizer.is_fitted
    assert tokenizer.fit(episodes()).is_fitted


def test_refused_data_costs_nothing():
    tokenizer = make().fit(episodes())
    before = copy.deepcopy(tokenizer)
    good = episodes()[0]
    broken = good.clone()
    broken[3, 1] = torch.nan
    refused = {
        "episode 1, step 3, DoF 1 is nan": [good, broken],
        "is -inf": [good.double() * 1e300],
        r"shape \(7, 2\)": [good[:, :2]],
        r"shape \(0, 3\)": [good, good[:0]],
        "no data": [],
        r"must be \(B, L, D\)": good,
        "list of sequences": 7,
        "got str": "data.npz",
        "got dict": {"a": good},
        "no array of numbers": [["x", "y", "z"]],
        r"shape \(3,\)": [good[0]],
        "real numbers": [good > 0],
        r"shape \(7, 3, 1\)": [good[:, :, None]],
    }
    for message, data in refused.items():
        for fit in (tokenizer.fit, tokenizer.partial_fit):
            with pytest.raises(InputError, match=message):
                fit(data)
    assert same(tokenizer, before)
    assert same(tokenizer.partial_fit([good * 2]), before.partial_fit([good * 2]))
    for other in (make(margin=0.2).fit(episodes()), torch.nn.Identity()):
        with pytest.raises(ConfigError, match="same settings"):
            tokenizer.merge_fit(other)


def test_set_bounds():
    tokenizer = make().set_bounds(-1.0, torch.tensor([1.0, 2.0, 3.0]))
    assert tokenizer.is_fitted
    assert tokenizer.quantizer.high[4].tolist() == [1, 2, 3]
    assert tokenizer.normalizer.half_range.tolist() == [1, 1, 1]
    decoded = tokenizer.decode(torch.full((1, 24), 255))
    torch.testing.assert_close(decoded, torch.tensor([1.0, 2.0, 3.0]).expand(1, HORIZON, 3))
    low = torch.full((8, DOFS), -1.0)
    assert same(make().set_bounds(low, low + 2), make().set_bounds(-1, 1.0))
    for low, high in ((1, 1), (1, 0), (0, torch.inf), (torch.nan, 1), (-torch.inf, 0)):
        with pytest.raises(InputError, match="bounds must be finite"):
            tokenizer.set_bounds(low, high)
    for bad in (torch.zeros(4), "low", [[1, 2], [3]], None):
        with pytest.raises(InputError, match="bounds must be numbers"):
            tokenizer.set_bounds(bad, 1)
    assert tokenizer.quantizer.high[4].tolist() == [1, 2, 3]


# --------------------------------------------------------------------------------------------- number of control points


def test_choice():
    config = BeastConfig(DOFS, 40, 20)
    data, held_out = (smooth(100, 160, DOFS, seed, 0.08) for seed in (1, 2))
    choice = choose_num_basis(data, config, threshold=1e-3, held_out=held_out)
    numbers = [each.num_basis for each in choice.candidates]
    assert numbers == sorted(set(numbers))
    assert 20 in numbers  # where the search starts
    assert 5 <= choice.config.num_basis < 20
    assert choice.chosen.mse < choice.threshold == 1e-3
    below = next(each for each in choice.candidates if each.num_basis == choice.config.num_basis - 1)
    assert below.mse >= 1e-3
    assert choice.is_held_out
    assert choice.num_chunks == 400
    # The figures are those of a tokenizer with these settings.
    tokenizer = BeastTokenizer(choice.config).fit(data)
    x = held_out.reshape(-1, 40, DOFS)
    error = (tokenizer.decode(tokenizer.encode(x)) - x).double() / tokenizer.normalizer.half_range
    assert choice.chosen.mse == pytest.approx(float(error.square().mean()))
    assert choice.chosen.max_error == pytest.approx(float(error.abs().max()))
    assert choice.chosen.mse_per_dof == pytest.approx(error.square().mean((0, 1)).tolist())
    assert max(choice.chosen.max_error_per_dof) == choice.chosen.max_error
    assert choice.chosen.num_tokens == choice.config.num_basis * DOFS
    assert 0 < choice.chosen.continuous_mse < choice.chosen.mse
    assert 0 <= choice.chosen.clipped < 0.01
    assert choice.config == BeastConfig(DOFS, 40, choice.config.num_basis)


def test_choice_goes_up_where_half_is_not_enough():
    data = smooth(100, 80, DOFS, 1, 0.35)
    choice = choose_num_basis(data, BeastConfig(DOFS, 20, 8), threshold=2e-2)
    assert 10 < choice.config.num_basis <= 15
    assert not choice.is_held_out
    assert choice.chosen.mse < 2e-2 <= choice.candidates[0].mse


def test_choice_among_candidates():
    data = smooth(100, 80, DOFS, 1, 0.05)
    choice = choose_num_basis(data, BeastConfig(DOFS, 20, 8), candidates=[10, 5, 8], threshold=1.0)
    assert [each.num_basis for each in choice.candidates] == [5, 8, 10]
    assert choice.config.num_basis == 5
    errors = [each.mse for each in choice.candidates]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("options", OPTIONS[3:], ids=str)
def test_choice_in_other_modes(options):
    data = smooth(100, 60, DOFS, 1, 0.05)
    data[:, :, 1] = switching(100, 60, 2)[:, :, 0] if "gripper" in options else data[:, :, 1]
    choice = choose_num_basis(data, BeastConfig(DOFS, 20, 8, **options), threshold=0.2)
    assert choice.config.num_basis <= 10
    assert choice.chosen.num_tokens == DOFS * (choice.config.num_basis - choice.config.num_fixed)


def test_choice_that_cannot_be_made():
    noise = torch.randn(100, 60, DOFS, generator=torch.Generator().manual_seed(0))
    config = BeastConfig(DOFS, 20, 8)
    with pytest.raises(InputError, match=r"below 0\.01: the best of \[10, 15\] is 15 with 0\.\d+, and DoF"):
        choose_num_basis(noise, config)
    with pytest.raises(InputError, match="the best of"):
        choose_num_basis(noise, config, candidates=[8])
    with pytest.raises(ConfigError, match="no candidates"):
        choose_num_basis(noise, config, candidates=[])
    for threshold in (0.0, -1.0, torch.nan, torch.inf):
        with pytest.raises(ConfigError, match="threshold"):
            choose_num_basis(noise, config, threshold=threshold)
    with pytest.raises(InputError, match="no data"):
        choose_num_basis([], config)
    with pytest.warns(UserWarning, match="chosen on 11 chunks"):
        choose_num_basis(smooth(1, 30, DOFS, 1, 0.02), config, threshold=1.0)
