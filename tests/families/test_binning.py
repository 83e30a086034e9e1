"""Binning: check values, total decodability, independence of the batch."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from zoo.errors import CheckpointError, ConfigError, InputError, NotFittedError, TokenError
from zoo.families.binning import BinningConfig, BinningTokenizer
from zoo.tokens.vocabulary import to_llm_ids

RULES = ("openvla", "linear")


def identity(rule="openvla", **options):
    return BinningTokenizer(
        BinningConfig(**{"num_dofs": 1, "horizon": 1, "rule": rule, **options}, action_quantiles=None)
    )


def actions(num, steps, dofs, seed=0):
    generator = torch.Generator().manual_seed(seed)
    t = torch.linspace(0, 1, steps)[None, :, None]
    phase, size = torch.rand(2, num, 1, dofs, generator=generator)
    return size * torch.sin(6 * (t + phase)) * torch.arange(1, dofs + 1) + torch.arange(dofs)


@pytest.fixture(scope="module", params=RULES)
def fitted(request):
    config = BinningConfig(num_dofs=3, horizon=10, rule=request.param, control_rate=20.0)
    return BinningTokenizer(config).fit(actions(64, 40, 3, seed=1))


def test_check_values():
    x = torch.tensor([0.0, 1.0, -1.0, 7.0, -7.0]).view(-1, 1, 1)
    tokens = identity().encode(x)
    assert (tokens.ids.flatten() + 1).tolist() == [128, 256, 1, 256, 1]  # OpenVLA counts from 1
    decoded = identity().decode(tokens).flatten()
    assert decoded.tolist()[0] == 0
    assert decoded[1].item() == pytest.approx(0.99607843, abs=1e-8)
    assert to_llm_ids(tokens.ids, llm_vocab_size=32000, codebook_size=256).flatten()[0] == 32000 - 128
    linear = identity("linear").encode(x)
    assert linear.ids.flatten().tolist() == [128, 255, 0, 255, 0]
    assert identity("linear").decode(linear).flatten()[0].item() == pytest.approx(0.00392157, abs=1e-8)


@pytest.mark.parametrize("size", [2, 5, 100, 256, 1000])
def test_equals_numpy_also_on_every_edge(size):
    edges = np.linspace(-1, 1, size)
    x = np.concatenate([edges, np.nextafter(edges, -2), np.nextafter(edges, 2), np.linspace(-1.2, 1.2, 5001)])
    x = x.astype(np.float32)
    inside = np.clip(x.astype(np.float64), -1, 1)
    tensor = torch.from_numpy(x).view(-1, 1, 1)
    bins = np.digitize(inside, edges)
    ids = identity(codebook_size=size).encode(tensor).ids.flatten().numpy()
    assert (ids == bins - 1).all()
    centres = (edges[:-1] + edges[1:]) / 2
    decoded = identity(codebook_size=size).decode(torch.from_numpy(ids)[:, None]).flatten().numpy()
    assert (decoded == centres[np.clip(bins - 1, 0, size - 2)].astype(np.float32)).all()
    ids = identity("linear", codebook_size=size).encode(tensor).ids.flatten().numpy()
    assert (ids == np.round((inside + 1) / 2 * (size - 1))).all()


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=50), st.sampled_from(RULES))
def test_error_inside_the_range(values, rule):
    tokenizer = identity(rule, horizon=len(values))
    x = torch.tensor(values).view(1, -1, 1)
    decoded = tokenizer.decode(tokenizer.encode(x))
    assert (decoded - x).abs().max() <= 1 / 255 + 1e-6
    # Decoded values are fixed points, but for those of the code that has no bin of its own.
    assert torch.equal(tokenizer.decode(tokenizer.encode(decoded)), decoded)


@settings(deadline=None)
@given(st.data(), st.sampled_from(RULES))
def test_every_sequence_of_ids_decodes(data, rule):
    tokenizer = identity(rule, num_dofs=2, horizon=3)
    ids = data.draw(st.lists(st.integers(0, 255), min_size=12, max_size=12))
    decoded = tokenizer.decode(torch.tensor([ids]))
    assert decoded.shape == (1, 6, 2)
    assert decoded.abs().max() <= 1
    again = tokenizer.encode(decoded).ids[0].tolist()
    assert again == [min(i, 254) if rule == "openvla" else i for i in ids]


def test_ids_are_time_major_in_physical_units(fitted):
    x = actions(4, 10, 3)
    tokens = fitted.encode(x)
    assert fitted.spec.num_tokens == fitted.num_tokens(10) == tokens.ids.shape[1] == 30
    assert fitted.spec.token_rate == 60
    changed = x.clone()
    changed[:, 2, 1] += 0.5
    differs = (fitted.encode(changed).ids != tokens.ids).any(0)
    assert differs.nonzero().flatten().tolist() == [2 * 3 + 1]
    low, high = (torch.quantile(actions(64, 40, 3, seed=1).view(-1, 3).double(), q, dim=0) for q in (0.01, 0.99))
    error = (fitted.decode(tokens) - x.clamp(low.float(), high.float())).abs() / ((high - low) / 2)
    assert error.max() <= 1 / 255 + 1e-6


def test_encode_is_a_function(fitted):
    x = torch.cat([actions(1000, 10, 3, seed=2), fitted.decode(torch.randint(0, 256, (200, 30)))])
    expected = fitted.encode(x).ids
    before = copy.deepcopy(fitted.state_dict())
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    assert torch.equal(fitted.encode(x[order]).ids, expected[order])
    for size in (1, 2, 7, 32):
        assert torch.equal(torch.cat([fitted.encode(part).ids for part in x[:128].split(size)]), expected[:128])
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert torch.equal(fitted.encode(x).ids, expected)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(before[key], value) for key, value in fitted.state_dict().items())


def test_padding_changes_nothing(fitted):
    sequences = [actions(1, steps, 3, seed=steps)[0] for steps in (1, 10, 11, 25, 30)]
    lengths = [len(sequence) for sequence in sequences]
    padded = torch.full((5, 40, 3), torch.nan)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    tokens = fitted.encode(padded, lengths)
    assert tokens.lengths.tolist() == [fitted.num_tokens(length) for length in lengths] == [30, 30, 60, 90, 90]
    assert (tokens.ids[~tokens.mask] == 0).all()
    decoded = fitted.decode(tokens)
    assert decoded.shape == (5, 30, 3)
    assert fitted.output_lengths(tokens).tolist() == lengths
    for number, sequence in enumerate(sequences):
        alone = fitted.encode(sequence)
        assert alone.tolist()[0] == tokens.tolist()[number]
        assert torch.equal(fitted.decode(alone)[0], decoded[number, : len(sequence)])
        assert (decoded[number, len(sequence) :] == 0).all()
    assert fitted.encode(sequences).equal(tokens)


def test_save_load_and_copy(fitted, tmp_path):
    x = actions(50, 10, 3)
    loaded = zoo.load(zoo.save(fitted, tmp_path / "binning"))
    for other in (loaded, copy.deepcopy(fitted)):
        assert other.encode(x).equal(fitted.encode(x))
        assert torch.equal(other.decode(other.encode(x)), fitted.decode(fitted.encode(x)))
    for rule in RULES:
        plain = identity(rule)
        assert zoo.load(zoo.save(plain, tmp_path / rule)).encode(x[:, :, :1]).equal(plain.encode(x[:, :, :1]))
    with pytest.raises(NotFittedError):
        zoo.save(BinningTokenizer(fitted.config), tmp_path / "unfitted")
    (tmp_path / "binning" / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError):
        zoo.load(tmp_path / "binning")


def test_fitting_in_parts(fitted):
    x = actions(64, 40, 3, seed=1)
    parts = BinningTokenizer(fitted.config)
    for part in x.split(20):
        parts.partial_fit(part)
    shards = [BinningTokenizer(fitted.config).fit(part) for part in x.split(20)]
    merged = BinningTokenizer(fitted.config)
    for shard in shards:
        merged.merge_fit(shard)
    for other in (parts, merged):
        assert torch.equal(other.normalizer.half_range, fitted.normalizer.half_range)
    with pytest.raises(InputError):
        parts.fit([torch.full((3, 3), torch.nan)])
    assert parts.encode(x).equal(fitted.encode(x))  # refused data cost nothing
    with pytest.raises(ConfigError):
        merged.merge_fit(identity())


def test_count_clipped(fitted):
    x = actions(64, 40, 3, seed=1)
    counts = fitted.count_clipped(x)
    assert counts.shape == (64, 3)
    assert 0.015 < counts.sum() / x.numel() < 0.021
    padded = torch.cat([x, torch.full_like(x, 1e6)], 1)
    assert torch.equal(fitted.count_clipped(padded, [40] * 64), counts)
    assert identity().count_clipped(torch.tensor([[[1.0], [-1.0], [1.001], [-3.0]]])).tolist() == [[2]]


def test_constant_dof_and_far_values():
    x = actions(8, 10, 3)
    x[:, :, 1] = 4.25
    tokenizer = BinningTokenizer(BinningConfig(num_dofs=3, horizon=10)).fit(x)
    assert (tokenizer.decode(tokenizer.encode(x))[:, :, 1] == 4.25).all()
    assert tokenizer.encode(x * 3).ids.max() == 255


def test_ids_can_train_an_embedding(fitted):
    tokens = fitted.encode(actions(2, 10, 3))
    torch.nn.Embedding(256, 4)(tokens.ids).sum().backward()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.full((2, 10, 3), torch.nan), "nan"),
        (torch.where(torch.arange(10)[:, None] == 7, torch.inf, torch.zeros(2, 10, 3)), "item 0, step 7, DoF 0 is inf"),
        (torch.full((1, 10, 3), -1e300, dtype=torch.float64), "-inf"),
        (torch.zeros(2, 10, 4), r"\(B, L, 3\)"),
        (torch.zeros(2, 0, 3), None),
        (torch.zeros(0, 10, 3), None),
        (torch.zeros(10), None),
        (torch.zeros(2, 2, 10, 3), None),
        (torch.zeros(2, 10, 3, dtype=torch.complex64), None),
        ([], None),
        ("no/such/file.npy", None),
        (None, None),
    ],
)
def test_bad_input(fitted, x, message):
    with pytest.raises(InputError, match=message):
        fitted.encode(x)


@pytest.mark.parametrize("lengths", [[0, 10], [11, 10], [10], [1.5, 2.0]])
def test_bad_lengths(fitted, lengths):
    with pytest.raises(InputError):
        fitted.encode(torch.zeros(2, 10, 3), lengths)


@pytest.mark.parametrize(
    "ids",
    [
        torch.full((1, 30), 256),
        torch.full((1, 30), -1),
        torch.zeros(1, 31, dtype=torch.int64),
        torch.zeros(1, 30, 2, dtype=torch.int64),
        torch.zeros(1, 0, dtype=torch.int64),
        torch.zeros(0, 30, dtype=torch.int64),
        torch.zeros(1, 30),
        "ids",
    ],
)
def test_bad_tokens(fitted, ids):
    with pytest.raises(TokenError):
        fitted.decode(ids)


def test_tokens_of_others(fitted):
    tokens = fitted.encode(torch.zeros(1, 10, 3))
    with pytest.raises(TokenError, match="offset"):
        fitted.decode(tokens.offset(5))
    with pytest.raises(TokenError, match="whole chunks"):
        fitted.decode(tokens[:, :29])
    other = copy.deepcopy(fitted)
    other.name = "binning.other"
    with pytest.raises(TokenError, match=r"binning\.other"):
        other.decode(tokens)


def test_unfitted():
    tokenizer = BinningTokenizer(BinningConfig(num_dofs=2, horizon=5))
    for call in (tokenizer.encode, tokenizer.count_clipped):
        with pytest.raises(NotFittedError):
            call(torch.zeros(1, 5, 2))
    with pytest.raises(NotFittedError):
        tokenizer.decode(torch.zeros(1, 10, dtype=torch.int64))


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_dofs": 0},
        {"horizon": 0},
        {"codebook_size": 1},
        {"rule": "cubic"},
        {"action_quantiles": (0.9, 0.1)},
        {"control_rate": 0.0},
    ],
)
def test_bad_config(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        BinningConfig(**{"num_dofs": 2, "horizon": 5, **wrong})
