"""FAST: the released processor's ids, exact transforms, malformed ids, independence of the batch."""

import copy
import json
import sys

import numpy as np
import pytest
import scipy.fft
import torch
from fast_reference import D, Reference, T, smooth
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from zoo.errors import CheckpointError, ConfigError, InputError, MissingExtraError, NotFittedError, TokenError
from zoo.families.fast import FastConfig, FastTokenizer, official
from zoo.families.fast.transform import CosineTransform, windows


def build(variant="safe", **options):
    return FastTokenizer(FastConfig(**{"num_dofs": D, "horizon": T, "variant": variant, **options}))


@pytest.fixture(scope="module")
def reference():
    return Reference.fit(smooth(512).double().numpy())


@pytest.fixture(scope="module", params=["parity", "safe"])
def fitted(request):
    return build(request.param).fit(smooth(512) * 3 + torch.arange(D))


@pytest.fixture(scope="module")
def safe():
    return build(action_quantiles=None).fit(smooth(512))


@pytest.fixture(scope="module")
def encoded(safe):
    return safe.encode(smooth(256, seed=9))


# ----------------------------------------------------------------------------------------------- the released processor


def test_fits_and_encodes_as_the_reference(reference):
    tokenizer = build("parity", action_quantiles=None).fit(smooth(512))
    assert int(tokenizer.quantizer.min_token) == reference.min_token
    assert json.loads(tokenizer.quantizer.to_json()) == json.loads(reference.bpe.to_str())
    x = torch.cat([smooth(256, seed=1), 1.5 * smooth(64, seed=2), torch.zeros(1, T, D)])
    ids = tokenizer.encode(x).tolist()
    chunks = x.double().numpy()
    assert ids == [reference.encode(chunk) for chunk in chunks]
    flags = tokenizer.decode_flags(tokenizer.encode(x)).tolist()
    decoded = tokenizer.decode(ids, malformed="zeros").numpy()
    for chunk, row, flag, ours in zip(chunks, ids, flags, decoded, strict=True):
        theirs = reference.decode(row, (T, D))
        floored = np.maximum(reference.integers(chunk), reference.min_token)
        ideal = scipy.fft.idct(floored / 10, axis=0, norm="ortho")
        # Flagged are exactly the chunks that the released processor decodes to something else than was encoded.
        assert flag == (np.abs(theirs - ideal).max() > 1e-6)
        np.testing.assert_allclose(ours, np.zeros_like(ideal) if flag else theirs, atol=1e-6)


def test_released_layout(reference, tmp_path):
    folder = reference.save(tmp_path / "released", vocab_size=2048)
    tokenizer = zoo.load(folder, family="fast")
    assert tokenizer.spec.codebook_size == 2048
    assert tokenizer.spec.input_size is None
    x = smooth(64, seed=3)
    for call in (tokenizer.encode, tokenizer.fit, tokenizer.count_clipped):
        with pytest.raises(ConfigError, match="for_chunks"):
            call(x)
    with pytest.raises(ConfigError, match="for_chunks"):
        tokenizer.decode([[1]])
    shaped = zoo.load(folder).for_chunks(horizon=T, num_dofs=D, control_rate=20.0)
    assert shaped.source == str(folder)
    assert shaped.encode(x).tolist() == [reference.encode(chunk) for chunk in x.double().numpy()]
    for number, candidate in enumerate((tokenizer, shaped)):
        again = zoo.load(zoo.save(candidate, tmp_path / f"ours{number}"))
        again = again.for_chunks(horizon=T, num_dofs=D)
        assert again.encode(x).equal(shaped.encode(x))
        written = zoo.load(official.write(candidate, tmp_path / f"written{number}"))
        assert written.for_chunks(horizon=T, num_dofs=D).encode(x).equal(shaped.encode(x))
        assert written.config.horizon == candidate.config.horizon
    for file in ("tokenizer.json", "processor_config.json"):
        theirs, ours = (json.loads((tmp_path / name / file).read_text()) for name in ("released", "written0"))
        theirs.pop("auto_map", None)
        assert ours == theirs
    stated = zoo.load(reference.save(tmp_path / "stated", action_dim=D, time_horizon=T))
    assert stated.encode(x).equal(shaped.encode(x)) is (stated.spec.codebook_size == 2048)
    assert stated.encode(x).tolist() == shaped.encode(x).tolist()


@pytest.mark.parametrize(
    "facts",
    [
        {"scale": "ten"},
        {"scale": -1},
        {"min_token": 1.5},
        {"min_token": True},
        {"min_token": 10**9},
        {"vocab_size": 300},
        {"vocab_size": 0},
        {"action_dim": 0},
        {"time_horizon": "long"},
    ],
)
def test_broken_released_layout(reference, tmp_path, facts):
    with pytest.raises(CheckpointError):
        zoo.load(reference.save(tmp_path / "released", **facts), family="fast")


def test_broken_vocabulary(reference, tmp_path):
    folder = reference.save(tmp_path / "released")
    good = json.loads((folder / "tokenizer.json").read_text())
    for change in ({"decoder": None}, {"pre_tokenizer": None}, {"model": None}):
        (folder / "tokenizer.json").write_text(json.dumps({**good, **change}))
        with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
            zoo.load(folder)
    for text in ("{", "[]", ""):
        (folder / "tokenizer.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
            zoo.load(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError):
        zoo.load(folder, family="fast")
    with pytest.raises(ConfigError, match="normalisation"):
        official.write(build(), tmp_path / "normalising")


# ---------------------------------------------------------------------------------------------------------- exactness


@pytest.mark.parametrize("steps", [1, 2, 7, 50, 256, 1024])
def test_transform_is_as_precise_as_float64(steps):
    x = smooth(4, steps, 2) * torch.tensor([1.0, 30.0])
    y = scipy.fft.dct(x.double().numpy(), axis=1, norm="ortho")
    assert np.abs(CosineTransform(steps, 2)(x).numpy() - y).max() < 1e-9 * max(1, np.abs(y).max())
    inverse = CosineTransform(steps, 2, is_inverse=True)
    inverse.set_units(torch.full((2,), 256.0))
    integers = torch.from_numpy(np.around(10 * y))
    back = scipy.fft.idct(integers.numpy(), axis=1, norm="ortho")
    assert np.abs(inverse(integers.float()).numpy() - back).max() < 1e-8 * max(1, np.abs(back).max())


def test_ties_round_half_to_even():
    # T = 16 makes the constant coefficient 4·x, and 32·x after scaling: exactly half for x = (2n + 1) / 64.
    n = torch.arange(-20, 20)
    x = ((2 * n + 1) / 64)[:, None, None].expand(-1, 16, 1).contiguous()
    tokenizer = FastTokenizer(FastConfig(num_dofs=1, horizon=16, scale=8.0, action_quantiles=None)).fit(x)
    assert torch.equal(tokenizer._rounded(x)[:, 0, 0], torch.round(n + 0.5).long())
    assert torch.equal(tokenizer._rounded(x[:1])[0], tokenizer._rounded(x)[0])


def test_encode_is_a_function(fitted):
    ties = (torch.randint(-64, 64, (64, T, D), generator=torch.Generator().manual_seed(0)) / 32) * 3
    x = torch.cat([smooth(1024, seed=4) * 3 + torch.arange(D), ties])
    expected = fitted.encode(x)
    rows = expected.tolist()
    before = copy.deepcopy(fitted.state_dict())
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    assert fitted.encode(x[order]).tolist() == [rows[i] for i in order]
    for size in (1, 2, 7, 32):
        assert [row for part in x[-96:].split(size) for row in fitted.encode(part).tolist()] == rows[-96:]
    decoded = fitted.decode(expected, malformed="zeros")
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert fitted.encode(x).equal(expected)
            assert torch.equal(fitted.decode(expected, malformed="zeros"), decoded)
    finally:
        torch.set_num_threads(threads)
    for number in (0, 500, 1080):
        assert torch.equal(fitted.decode(expected[number], malformed="zeros")[0], decoded[number])
    assert all(torch.equal(before[key], value) for key, value in fitted.state_dict().items())


def test_padding_changes_nothing(safe):
    sequences = [smooth(1, steps, seed=steps)[0] for steps in (1, T, T + 1, 3 * T - 5)]
    lengths = [len(sequence) for sequence in sequences]
    padded = torch.full((4, 4 * T, D), torch.nan)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    tokens = safe.encode(padded, lengths)
    assert (tokens.ids[~tokens.mask] == 0).all()
    decoded = safe.decode(tokens)
    assert decoded.shape == (4, 3 * T - 5, D)
    assert safe.output_lengths(tokens).tolist() == lengths
    bare = safe.decode(tokens.ids, tokens.lengths)
    assert bare.shape == (4, 3 * T, D)
    for number, sequence in enumerate(sequences):
        alone = safe.encode(sequence)
        assert alone.tolist()[0] == tokens.tolist()[number]
        assert torch.equal(safe.decode(alone)[0], decoded[number, : len(sequence)])
        assert torch.equal(bare[number, : len(sequence)], decoded[number, : len(sequence)])
        assert (decoded[number, len(sequence) :] == 0).all()
        parts = [safe.encode(part) for part in sequence.split(T)]
        assert zoo.Tokens.cat(parts, dim="time").tolist()[0] == tokens.tolist()[number]
    assert safe.output_lengths(
        zoo.Tokens.from_ids(tokens.ids, codebook_size=1024, lengths=tokens.lengths)
    ).tolist() == [
        T,
        T,
        2 * T,
        3 * T,
    ]
    assert safe.encode(sequences).equal(tokens)
    with pytest.raises(InputError, match="variable"):
        safe.num_tokens(T)


def test_save_load_and_copy(fitted, tmp_path):
    x = smooth(50, seed=5) * 3
    loaded = zoo.load(zoo.save(fitted, tmp_path / "fast"))
    for other in (loaded, copy.deepcopy(fitted), fitted.for_chunks(horizon=T, num_dofs=D)):
        assert other.encode(x).equal(fitted.encode(x))
        assert torch.equal(
            other.decode(other.encode(x), malformed="pad"), fitted.decode(fitted.encode(x), malformed="pad")
        )
    assert loaded.quantizer.to_json() == fitted.quantizer.to_json()
    with pytest.raises(ConfigError, match="statistics"):
        fitted.for_chunks(horizon=T, num_dofs=D + 1)
    with pytest.raises(NotFittedError):
        zoo.save(build(), tmp_path / "unfitted")
    asset = tmp_path / "fast" / "tokenizer.json"
    asset.write_bytes(asset.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        zoo.load(tmp_path / "fast")


# ------------------------------------------------------------------------------------------------------ malformed ids


def test_silent_corruption_is_flagged(reference):
    """Characters that fitting has not seen lose a byte in the released processor; see `FastConfig.variant`."""
    x = torch.cat([smooth(512, seed=6), 1.5 * smooth(512, seed=7)])
    chunks = x.double().numpy()
    shares = {}
    for variant in ("parity", "safe"):
        tokenizer = build(variant, action_quantiles=None).fit(smooth(512))
        tokens = tokenizer.encode(x)
        flags = tokenizer.decode_flags(tokens).numpy()
        decoded = tokenizer.decode(tokens, malformed="zeros").numpy()
        floor = int(tokenizer.quantizer.min_token)
        ideal = np.stack([np.maximum(reference.integers(chunk), floor) for chunk in chunks])
        right = np.abs(decoded - scipy.fft.idct(ideal / 10, axis=1, norm="ortho")).max((1, 2)) < 1e-5
        assert (right == ~flags).all()
        clipped = (ideal > np.stack([reference.integers(chunk) for chunk in chunks])).sum((1, 2))
        assert tokenizer.count_clipped(x).tolist() == clipped.tolist()
        shares[variant] = flags[:512].mean(), flags[512:].mean(), (clipped > 0)[512:].mean()
    assert 0 < shares["parity"][0] < 0.05 < shares["parity"][1] < 0.5
    assert shares["safe"] == (0, 0, 0)


def test_broken_bytes_are_no_coefficients(safe):
    data = np.full(T * D, 200, dtype="<u4").tobytes().decode("utf-32-le").encode()
    ids = [safe.quantizer._pieces.index(bytes([byte])) for byte in data]
    assert not safe.decode_flags([ids]).any()
    broken = ids[:20] + ids[21:]  # the lead byte of the eleventh character
    assert safe.decode_flags([broken]).tolist() == [True]
    with pytest.raises(TokenError, match="spell no coefficient"):
        safe.decode([broken])
    padded = safe.decoder(
        torch.where(torch.arange(T * D) == 10, 0, 200 + safe.quantizer.min_token).float().view(1, T, D)
    )
    torch.testing.assert_close(safe.decode([broken], malformed="pad"), (padded / 10).float())
    # The released processor takes the mark of broken bytes, U+FFFD, for a coefficient of 65533.
    released = Reference(safe.quantizer._bpe, int(safe.quantizer.min_token))
    assert np.abs(released.decode(broken, (T, D))).max() > 1000


def test_policies_for_malformed_ids(safe):
    x = smooth(3, seed=8)
    tokens = safe.encode(x)
    cut = tokens.truncate(tokens.lengths - torch.tensor([0, 2, 0]))
    assert safe.decode_flags(cut).tolist() == [False, True, False]
    with pytest.raises(
        TokenError, match=r"1 of 3 items .*item 1: its ids spell \d+ coefficients, not a multiple of 100"
    ):
        safe.decode(cut)
    whole = safe.decode(tokens)
    for policy in ("pad", "zeros"):
        decoded = safe.decode(cut, malformed=policy)
        assert torch.equal(decoded[[0, 2]], whole[[0, 2]])
    assert (safe.decode(cut, malformed="zeros")[1] == 0).all()
    assert (safe.decode(cut, malformed="pad")[1] - whole[1]).abs().max() < 0.5
    longer = zoo.Tokens.cat([tokens[1], tokens[1][:, :3]], dim="time")
    assert torch.equal(safe.decode(longer, malformed="pad", num_chunks=1), whole[1:2])
    twice = zoo.Tokens.cat([tokens, tokens], dim="time")
    assert torch.equal(safe.decode(twice), torch.cat([whole, whole], 1))
    assert safe.decode_flags(twice, num_chunks=1).all()
    with pytest.raises(TokenError, match="not 1 × 100"):
        safe.decode(twice, num_chunks=1)
    nothing = zoo.Tokens.from_ids([[0]], codebook_size=1024, lengths=[0])
    assert safe.decode_flags(nothing).all()
    assert safe.decode(nothing, malformed="zeros").shape == (1, T, D)
    with pytest.raises(TokenError, match="malformed"):
        safe.decode(tokens, malformed="ignore")
    for wrong in (0, 2):
        with pytest.raises(TokenError, match="num_chunks"):
            safe.decode(tokens, num_chunks=wrong)


def test_neutral_action_is_the_centre(fitted):
    decoded = fitted.decode([[3]], malformed="zeros")
    torch.testing.assert_close(decoded[0, 0], fitted.normalizer.centre.float())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 1023), max_size=80))
def test_any_ids_are_read_or_flagged(safe, ids):
    tokens = zoo.Tokens.from_ids([ids], codebook_size=1024) if ids else zoo.Tokens.from_ids([[0]], codebook_size=1024)
    flagged = bool(safe.decode_flags(tokens, num_chunks=1))
    for policy in ("pad", "zeros"):
        decoded = safe.decode(tokens, num_chunks=1, malformed=policy)
        assert decoded.shape == (1, T, D)
        assert decoded.isfinite().all()
        assert decoded.abs().max() < 1240  # no U+FFFD taken for a coefficient
    if flagged:
        with pytest.raises(TokenError):
            safe.decode(tokens, num_chunks=1)
    else:
        # What is readable are coefficients, and these encode again, if perhaps to other ids.
        again = safe.encode(safe.decode(tokens, num_chunks=1))
        assert torch.equal(safe.decode(again), safe.decode(tokens, num_chunks=1))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 255), st.integers(-5, 5), st.randoms(use_true_random=False))
def test_changed_ids_are_read_or_flagged(safe, encoded, which, change, random):
    ids = encoded[which].truncate(encoded.lengths[which]).ids.clone()
    place = random.randrange(ids.shape[1])
    ids[0, place] = (ids[0, place] + change) % 1024
    decoded = safe.decode(ids, num_chunks=1, malformed="zeros")
    assert decoded.isfinite().all()
    assert bool(safe.decode_flags(ids, num_chunks=1)) == (decoded == 0).all()


def test_ids_without_an_entry():
    tokenizer = build(action_quantiles=None, bpe_vocab_size=4096).fit(smooth(4))
    unused = tokenizer.quantizer._bpe.get_vocab_size()
    assert unused < 4096
    tokens = tokenizer.encode(smooth(1))
    ids = torch.cat([tokens.ids, torch.tensor([[unused]])], 1)
    assert tokenizer.decode_flags(ids).all()
    with pytest.raises(TokenError, match="spell no coefficient"):
        tokenizer.decode(ids)
    with pytest.raises(TokenError, match="4095"):
        tokenizer.decode([[4096]])


# ------------------------------------------------------------------------------------------------------------ fitting


def test_fitting_in_parts(fitted):
    x = list(smooth(512) * 3 + torch.arange(D))
    parts = build(fitted.config.variant)
    for start in (0, 100):
        parts.partial_fit(x[start : start + 100])
    parts.partial_fit(x[200:])
    merged = build(fitted.config.variant).fit(x[:300]).merge_fit(build(fitted.config.variant).fit(x[300:]))
    for other in (parts, merged):
        assert other.quantizer.to_json() == fitted.quantizer.to_json()
        assert all(torch.equal(value, fitted.state_dict()[key]) for key, value in other.state_dict().items())
    with pytest.raises(ConfigError):
        merged.merge_fit(build(scale=5.0))
    assert build().merge_fit(build()).is_fitted is False


def test_refused_data_costs_nothing(safe):
    tokenizer = copy.deepcopy(safe)
    expected = safe.encode(smooth(8))
    huge = torch.full((2, T, D), 5000.0)
    wide = torch.randn(64, T, D, generator=torch.Generator().manual_seed(0)) * 40
    for data in ([torch.full((T, D), torch.nan)], [], [torch.zeros(T, D + 1)], huge, torch.zeros(T, D)):
        for call in (tokenizer.fit, tokenizer.partial_fit):
            with pytest.raises(InputError):
                call(data)
            assert tokenizer.encode(smooth(8)).equal(expected)
    with pytest.raises(InputError, match="bpe_vocab_size"):
        build("parity", action_quantiles=None).fit(wide)


def test_fit_stride_sees_every_phase():
    episodes = [smooth(1, 90, seed=seed)[0] for seed in range(8)]
    tokenizer = build(fit_stride=7, action_quantiles=None)
    chunks = windows(episodes, T, 7)
    assert chunks.shape == (8 * 13, T, D)
    assert torch.equal(chunks[1], episodes[0][7 : 7 + T])
    assert torch.equal(chunks[25], episodes[1][torch.arange(84, 84 + T).clamp(max=89)])
    assert tokenizer.fit(episodes).is_fitted


def test_figures_on_smooth_chunks():
    fit, held_out = smooth(768, 50, 7, seed=10), smooth(128, 50, 7, seed=11)
    tokenizer = build(horizon=50, num_dofs=7).fit(fit)
    tokens = tokenizer.encode(held_out)
    assert 28 < tokens.lengths.double().mean() < 38  # 31 expected; binning takes 350
    error = (tokenizer.decode(tokens) - held_out) / tokenizer.normalizer.half_range.float()
    assert 1e-4 < error.square().mean() < 3e-4  # 2.0e-4 expected
    # White noise of the rounding: uniform of width 1/scale in every coefficient, most of which are not near a half.
    assert error.square().mean() < 0.1**2 / 12


# ----------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.full((2, T, D), torch.nan), "nan"),
        (torch.where(torch.arange(3 * T)[:, None] == 45, torch.inf, torch.zeros(2, 3 * T, D)), "step 45, DoF 0 is inf"),
        (torch.full((1, T, D), 1e300, dtype=torch.float64), "inf"),
        (torch.full((1, T, D), 1e6), r"1e\+06.*unit"),
        (torch.full((1, T, D), 1500.0), "1500.*unit"),
        (torch.zeros(2, T, D + 1), r"\(B, L, 5\)"),
        (torch.zeros(2, 0, D), None),
        (torch.zeros(0, T, D), None),
        (torch.zeros(T), None),
        ([], None),
        ("no/such/file.npy", None),
        (None, None),
    ],
)
def test_bad_input(safe, x, message):
    with pytest.raises(InputError, match=message):
        safe.encode(x)


@pytest.mark.parametrize(
    "ids",
    [
        torch.full((1, 30), 1024),
        torch.full((1, 30), -1),
        torch.zeros(1, 30, 2, dtype=torch.int64),
        torch.zeros(0, 30, dtype=torch.int64),
        torch.zeros(1, 30),
        "ids",
    ],
)
def test_bad_tokens(safe, ids):
    for call in (safe.decode, safe.decode_flags):
        with pytest.raises(TokenError):
            call(ids)


def test_unfitted():
    tokenizer = build()
    assert not tokenizer.is_fitted
    for call in (tokenizer.encode, tokenizer.count_clipped):
        with pytest.raises(NotFittedError):
            call(torch.zeros(1, T, D))
    for call in (tokenizer.decode, tokenizer.decode_flags):
        with pytest.raises(NotFittedError):
            call([[1, 2]])


def test_ids_can_train_an_embedding(safe):
    torch.nn.Embedding(1024, 4)(safe.encode(smooth(2)).ids).sum().backward()


def test_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"tokenizer-zoo\[actions\]"):
        build().fit(smooth(4))


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_dofs": 0},
        {"horizon": 0},
        {"horizon": 5000},
        {"num_dofs": 10**9},
        {"num_dofs": None},
        {"scale": 0.0},
        {"bpe_vocab_size": 255},
        {"bpe_vocab_size": 1, "variant": "parity"},
        {"variant": "fast"},
        {"action_quantiles": (0.9, 0.1)},
        {"control_rate": -1.0},
        {"margin": -0.1},
        {"fit_stride": 0},
    ],
)
def test_bad_config(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        build(**wrong)
