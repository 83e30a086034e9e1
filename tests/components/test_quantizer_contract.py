"""What all quantizers promise: round trips, gradients, masks, statistics, state, configs."""

import copy
import io

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.components.quantizers import KINDS, build, parse
from zoo.config import from_dict, to_dict
from zoo.errors import ConfigError, InputError, TokenError

CONFIGS = {
    "fsq": {"kind": "fsq", "levels": [4, 3, 2]},
    "lfq": {"kind": "lfq", "num_bits": 5},
    "voting_lfq": {"kind": "voting_lfq", "dim": 12, "num_bits": 4},
    "vq": {"kind": "vq", "codebook_size": 20, "dim": 6},
    "vq by angle": {"kind": "vq", "codebook_size": 20, "dim": 6, "cosine": True},
    "vq ema": {"kind": "vq", "codebook_size": 20, "dim": 6, "ema_decay": 0.9, "revive_below": 0.1},
    "stochastic_vq": {"kind": "stochastic_vq", "codebook_size": 20, "dim": 6},
    "stochastic_vq that learns": {"kind": "stochastic_vq", "codebook_size": 20, "dim": 6, "learns_temperature": True},
    "residual": {"kind": "residual", "num_stages": 3, "stage": {"kind": "vq", "codebook_size": 10, "dim": 6}},
    "residual fsq": {
        "kind": "residual",
        "num_stages": 2,
        "scale": 0.25,
        "stage": {"kind": "fsq", "levels": [4, 5]},
    },
    "uniform": {"kind": "uniform", "dim": 1, "levels": 20, "low": -2, "high": 1.5},
    "uniform by dimension": {"kind": "uniform", "dim": 3, "levels": [4, 9, 2], "low": -1, "high": [1, 2, 0.5]},
    "none": {"kind": "none", "dim": 6},
    "gaussian": {"kind": "gaussian", "dim": 6},
}
DISCRETE = [name for name in CONFIGS if name not in ("none", "gaussian")]
SINGLE = [name for name in DISCRETE if build(CONFIGS[name]).num_codebooks == 1]


def make(name, seed=0):
    torch.manual_seed(seed)
    return build(CONFIGS[name])


def vectors(quantizer, *shape, seed=1):
    return torch.randn(*shape, quantizer.input_dim, generator=torch.Generator().manual_seed(seed))


def test_every_kind_is_tested():
    assert {config["kind"] for config in CONFIGS.values()} == set(KINDS), "a kind has a line in CONFIGS"


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("shape", [(), (7,), (2, 5), (2, 3, 4), (0,), (2, 0)])
def test_shapes_and_names_are_those_of_training(name, shape):
    quantizer = make(name)
    z = vectors(quantizer, *shape)
    results = [quantizer.train(mode)(z) for mode in (True, False)]
    tail = () if quantizer.num_codebooks == 1 else (quantizer.num_codebooks,)
    for result in results:
        assert result.codes.shape == (*shape, quantizer.dim)
        assert result.ids.shape == (*shape, *tail)
        assert result.ids.dtype == torch.int64
        assert all(value.shape == () and value.isfinite() for value in {**result.losses, **result.stats}.values())
        assert not any(value.requires_grad for value in result.stats.values())
    assert results[0].losses.keys() == results[1].losses.keys()
    assert results[0].stats.keys() == results[1].stats.keys()
    assert quantizer.ids(z).shape == (*shape, *tail)


@pytest.mark.parametrize("name", DISCRETE)
def test_codes_are_what_ids_decode_to(name):
    quantizer = make(name).eval()
    z = vectors(quantizer, 3, 40)
    result = quantizer(z)
    assert torch.equal(result.ids, quantizer.ids(z))
    codes = quantizer.codes(result.ids)
    assert torch.equal(codes, result.codes) or name == "voting_lfq"
    torch.testing.assert_close(codes, result.codes)


@pytest.mark.parametrize("name", [name for name in SINGLE if name != "voting_lfq"])
def test_every_id_is_reached_from_its_own_code(name):
    quantizer = make(name).eval()
    ids = torch.arange(quantizer.codebook_size)
    codes = quantizer.codes(ids)
    assert codes.unique(dim=0).shape == codes.shape
    z = codes
    if name == "fsq":  # whose codes are the bounded values: take the middle between boundaries
        columns = []
        for level, power, boundaries in zip(quantizer.levels, quantizer.powers, quantizer.boundaries, strict=True):
            inner = boundaries[: level - 1]
            middles = torch.cat([inner[:1] - 1, (inner[1:] + inner[:-1]) / 2, inner[-1:] + 1])
            columns.append(middles[ids // power % level])
        z = torch.stack(columns, -1)
    assert torch.equal(quantizer.ids(z), ids)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(2, 9), min_size=1, max_size=4), st.integers(0, 2**31))
def test_fsq_of_any_levels(levels, seed):
    quantizer = build({"kind": "fsq", "levels": levels})
    z = 5 * torch.randn(100, len(levels), generator=torch.Generator().manual_seed(seed))
    codes, ids, *_ = quantizer(z)
    assert ((ids >= 0) & (ids < quantizer.codebook_size)).all()
    assert torch.equal(quantizer.codes(ids), codes)
    assert codes.abs().max() <= 1
    every = torch.arange(quantizer.codebook_size)
    digits = (quantizer.codes(every) * quantizer.middle + quantizer.middle).round().long()
    assert torch.equal((digits * quantizer.powers).sum(-1), every)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(0, 2**31))
def test_lfq_of_any_width(num_bits, seed):
    quantizer = build({"kind": "lfq", "num_bits": num_bits, "entropy_weight": 0.0})
    ids = torch.randint(2**num_bits, (50,), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(quantizer.ids(quantizer.codes(ids)), ids)
    assert quantizer.ids(torch.zeros(num_bits)) == 0


@pytest.mark.parametrize("name", ["lfq", "vq", "vq ema", "residual", "uniform", "uniform by dimension", "none"])
def test_gradients_pass_straight_through(name):
    quantizer = make(name)
    z = vectors(quantizer, 9).requires_grad_()
    weights = torch.randn(9, quantizer.dim)
    (quantizer(z).codes * weights).sum().backward()
    assert torch.equal(z.grad, weights)


def test_gradients_pass_the_bound_of_fsq_and_the_sphere():
    fsq = make("fsq")
    z = vectors(fsq, 9).requires_grad_()
    fsq(z).codes.sum().backward()
    shift, width = fsq.tables[:, 0] / 2
    torch.testing.assert_close(z.grad, width * (1 - torch.tanh(z.detach() + shift).square()) / fsq.middle)
    cosine = make("vq by angle")
    z = vectors(cosine, 9).requires_grad_()
    weights = torch.randn(9, 6)
    (cosine(z).codes * weights).sum().backward()
    expected = torch.autograd.grad((torch.nn.functional.normalize(z, dim=-1) * weights).sum(), z)[0]
    torch.testing.assert_close(z.grad, expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", CONFIGS)
def test_masked_vectors_change_nothing(name, training):
    mask = torch.rand(4, 30, generator=torch.Generator().manual_seed(5)) < 0.6
    outcomes = []
    for filling in (0.0, 1e3, torch.nan):
        quantizer = make(name).train(training)
        z = vectors(quantizer, 4, 30)
        z[~mask] = filling
        z.requires_grad_()
        result = quantizer(z, mask, torch.Generator().manual_seed(6))
        loss = sum(result.losses.values(), torch.zeros(()))
        gradient = torch.autograd.grad(loss, z)[0] if loss.requires_grad else torch.zeros_like(z)
        outcomes.append(
            (result.losses, result.stats, gradient[mask], quantizer.state_dict(), result.codes[mask], gradient[~mask])
        )
    for other in outcomes[1:]:
        for a, b in zip(outcomes[0][:4:3], other[:4:3], strict=True):
            assert all(torch.equal(a[key], b[key]) for key in a)
        assert all(torch.equal(outcomes[0][1][key], other[1][key]) for key in other[1])
        assert torch.equal(outcomes[0][2], other[2])
        assert torch.equal(outcomes[0][4], other[4])
        assert not other[5].nan_to_num(0).any()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_batch_of_padding_alone(name):
    quantizer = make(name)
    before = copy.deepcopy(quantizer.state_dict())
    result = quantizer(vectors(quantizer, 2, 3), torch.zeros(2, 3, dtype=torch.bool))
    assert all(value == 0 for key, value in result.losses.items() if key != "entropy")
    assert all(value.isfinite() for value in (*result.losses.values(), *result.stats.values()))
    assert all(torch.equal(value, before[key]) for key, value in quantizer.state_dict().items())


@pytest.mark.parametrize("name", DISCRETE)
def test_statistics(name):
    quantizer = make(name).eval()
    z = vectors(quantizer, 50)
    mask = torch.arange(50) < 40
    result = quantizer(z, mask)
    used, perplexity = [], []
    for column in result.ids[mask].reshape(40, -1).T:
        p = torch.bincount(column, minlength=quantizer.codebook_size) / 40
        used.append((p > 0).float().mean())
        perplexity.append((-(p[p > 0] * p[p > 0].log()).sum()).exp())
    torch.testing.assert_close(result.stats["usage"], torch.stack(used).mean())
    torch.testing.assert_close(result.stats["perplexity"], torch.stack(perplexity).mean())


def test_statistics_of_a_huge_codebook():
    quantizer = build({"kind": "lfq", "num_bits": 24, "entropy_weight": 0.0})
    codes = quantizer.codes(torch.tensor([5, 5, 5, 5, 9, 9, 2**23, 77]))
    stats = quantizer(codes).stats
    assert stats["usage"] == pytest.approx(4 / 2**24)
    assert stats["perplexity"] == pytest.approx(2 ** (0.5 + 0.5 + 2 * 3 / 8))


@pytest.mark.parametrize("name", CONFIGS)
def test_copies_and_saved_states_give_the_same_ids(name):
    quantizer = make(name)
    z = vectors(quantizer, 40)
    quantizer(z)
    expected = quantizer.eval().ids(z)
    assert torch.equal(copy.deepcopy(quantizer).ids(z), expected)
    file = io.BytesIO()
    torch.save(quantizer.state_dict(), file)
    file.seek(0)
    other = make(name, seed=9).eval()
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert torch.equal(other.ids(z), expected)
    assert torch.equal(other(z).ids, expected)


@pytest.mark.parametrize("name", CONFIGS)
def test_evaluation_changes_no_state_and_draws_nothing(name):
    quantizer = make(name).eval()
    before = copy.deepcopy(quantizer.state_dict())
    random = torch.get_rng_state()
    with torch.inference_mode():
        z = vectors(quantizer, 40)
        assert torch.equal(quantizer(z).codes, quantizer(z).codes)
        quantizer.ids(z)
    quantizer.train().ids(z)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[key]) for key, value in quantizer.state_dict().items())


@pytest.mark.parametrize("name", CONFIGS)
def test_training_is_a_function_of_the_generator(name):
    codes = []
    for _ in range(2):
        quantizer = make(name)
        for step in range(3):
            result = quantizer(vectors(quantizer, 30), None, torch.Generator().manual_seed(step))
        codes.append(result.codes)
        torch.rand(7)
    assert torch.equal(*codes)


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_survive_yaml_and_skeletons_have_no_values(name):
    config = parse(yaml.safe_load(yaml.safe_dump(CONFIGS[name])))
    assert parse(yaml.safe_load(yaml.safe_dump(to_dict(config)))) == config
    assert from_dict(type(config), to_dict(config)) == config
    with torch.device("meta"):
        skeleton = build(config)
    kinds = {key: (value.shape, value.dtype) for key, value in build(config).state_dict().items()}
    assert {key: (value.shape, value.dtype) for key, value in skeleton.state_dict().items()} == kinds
    assert str(build(config))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "fqs", "levels": [3]}, "did you mean .*'fsq'"),
        ({"levels": [3]}, "with a kind, one of fsq"),
        ("fsq", "with a kind"),
        ({"kind": 3}, "with a kind"),
        ({"kind": "fsq"}, "lacks the key 'levels'"),
        ({"kind": "fsq", "levels": [3, 1]}, "from 2 to 1000"),
        ({"kind": "fsq", "levels": []}, "from 2 to 1000"),
        ({"kind": "fsq", "levels": [1000] * 7}, "more codes than int64"),
        ({"kind": "fsq", "levels": [3], "level": 3}, "unknown key 'level'; did you mean"),
        ({"kind": "fsq", "levels": [3.5]}, "must be int"),
        ({"kind": "fsq", "levels": [3], "bypass_rate": 2}, "probability"),
        ({"kind": "lfq", "num_bits": 0}, "from 1 to 30"),
        ({"kind": "lfq", "num_bits": 4, "temperature": 0}, "must be positive"),
        ({"kind": "vq", "codebook_size": 0, "dim": 3}, "from 1 to"),
        ({"kind": "vq", "codebook_size": 2**31, "dim": 3}, "from 1 to"),
        ({"kind": "residual", "num_stages": 10**9, "stage": {"kind": "lfq", "num_bits": 3}}, "from 1 to 1024"),
        ({"kind": "vq", "codebook_size": 5, "dim": 0}, "from 1 to"),
        ({"kind": "vq", "codebook_size": 5, "dim": 3, "ema_decay": 1.0}, "below 1"),
        ({"kind": "vq", "codebook_size": 5, "dim": 3, "revive_below": -1.0}, "revive_below"),
        ({"kind": "vq", "codebook_size": 5, "dim": 3, "kmeans_iterations": -1}, "negative"),
        ({"kind": "voting_lfq", "dim": 4, "num_clean": 6}, "from 0 to num_voters"),
        ({"kind": "voting_lfq", "dim": 4, "consensus_scale": "both"}, "must be one of"),
        ({"kind": "voting_lfq", "dim": 0}, "dim"),
        ({"kind": "voting_lfq", "dim": 4, "num_voters": 0}, "num_voters"),
        ({"kind": "stochastic_vq", "codebook_size": 4, "dim": 2, "temperature": -1}, "positive"),
        ({"kind": "residual", "num_stages": 0, "stage": {"kind": "lfq", "num_bits": 3}}, "num_stages"),
        ({"kind": "residual", "num_stages": 2, "stage": {"num_bits": 3}}, "stage must be a mapping with a kind"),
        ({"kind": "residual", "num_stages": 2, "stage": {"kind": "lfq", "bits": 3}}, "stage has the unknown key"),
        ({"kind": "residual", "num_stages": 2, "stage": {"kind": "none", "dim": 3}}, "stage must be of kind fsq"),
        ({"kind": "uniform", "dim": 0}, "dim must be from 1"),
        (
            {"kind": "uniform", "dim": 2, "levels": [4, 4, 4]},
            r"levels must be one number, or one for each of 2 dim.*4\)",
        ),
        ({"kind": "uniform", "dim": 2, "high": [1.0]}, "high must be one number"),
        ({"kind": "uniform", "dim": 2, "levels": [4, 1]}, r"levels must be at least 2, got \(4, 1\)"),
        ({"kind": "uniform", "dim": 2, "low": [0, 1]}, r"low must be below high, got \(0.0, 1.0\) and 1.0"),
        ({"kind": "uniform", "dim": 1, "low": 1e6, "high": 1000001}, "float32 cannot tell 256 levels"),
        ({"kind": "uniform", "dim": 1, "levels": 2.5}, "levels must be int"),
        ({"kind": "none", "dim": 0}, "dim"),
        ({"kind": "gaussian", "dim": 0}, "dim"),
    ],
)
def test_bad_configs_say_what_is_wrong(config, message):
    with pytest.raises(ConfigError, match=message):
        parse(config)


def test_bad_input_says_what_is_wrong():
    quantizer = make("vq")
    with pytest.raises(InputError, match=r"\(\.\.\., 6\).*\(3, 5\)"):
        quantizer(torch.zeros(3, 5))
    with pytest.raises(InputError, match="floating"):
        quantizer.ids(torch.zeros(3, 6, dtype=torch.int64))
    with pytest.raises(InputError, match="mask must be bool of shape"):
        quantizer(torch.zeros(3, 6), torch.ones(3, 1, dtype=torch.bool))
    with pytest.raises(InputError, match="mask must be bool"):
        quantizer(torch.zeros(3, 6), torch.ones(3))
    with pytest.raises(TokenError, match="no ids"):
        make("none").codes(torch.zeros(3, 0, dtype=torch.int64))
    with pytest.raises(InputError, match="noisy"):
        make("voting_lfq")(torch.zeros(3, 12), noisy=torch.zeros(2, 12))
