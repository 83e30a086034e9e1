"""Actions in another unit, refitted models, sizes beyond bounds: what all action tokenizers refuse."""

import copy
import time
import warnings

import numpy as np
import pytest
import torch
from motion import smooth

import zoo
from zoo import registry
from zoo.cli import main
from zoo.components.layers.reach import Reach
from zoo.data.ragged import Ragged
from zoo.errors import ConfigError, InputError, TokenError
from zoo.modalities.chunks import split
from zoo.tokens import Tokens

FAMILIES = ("beast", "binning", "fast")
T, D = 20, 4
SETTINGS = {"beast": {"num_basis": 8}, "binning": {}, "fast": {"bpe_vocab_size": 512}}


def data(seed=0, num=30):
    """Joint angles in radians, some around 0, some not, up to about 3."""
    return smooth(num, 100, D, seed, 1 / T) * torch.tensor([3.0, 1.0, 0.3, 1.0]) + torch.tensor([0.0, 0.0, 1.0, -0.5])


def fresh(family, **options):
    values = {"num_dofs": D, "horizon": T, **SETTINGS[family], **options}
    return registry.family(family).from_config(values)


@pytest.fixture(scope="module", params=FAMILIES)
def fitted(request):
    return fresh(request.param).fit(data())


# ----------------------------------------------------------------------------------------------------------- R1: reach


@pytest.mark.parametrize("factor", [180 / np.pi, 1000.0, -57.3, 1e30])
def test_r1_another_unit_is_refused(fitted, factor):
    episodes = data(seed=1)
    assert torch.isfinite(fitted.decode(fitted.encode(episodes))).all()
    with pytest.raises(InputError, match=r"DoF \d reaches .* times the largest value .*unit"):
        fitted.encode(episodes * factor)
    with pytest.raises(InputError, match="unit"):  # a single item, with lengths, of which padding is no part
        fitted.encode([episodes[0], episodes[1, :7] * factor])
    with pytest.raises(InputError, match="unit"):
        fitted.clipped_share(episodes * factor)


@pytest.mark.parametrize("name", FAMILIES)
def test_r1_shipped_models_refuse_degrees(name):
    tokenizer = zoo.load(name)
    motion = smooth(1, 60, 4, 5, 0.02)
    motion = motion / motion.abs().max()
    tokenizer.encode(motion)
    with pytest.raises(InputError, match="unit"):
        tokenizer.encode(motion * 57.3)


def test_r1_what_is_a_little_outside_is_taken_and_counted(fitted):
    inside, outside = data(seed=1), data(seed=1) * 3
    assert fitted.clipped_share(inside) < 0.1
    if fitted.family != "fast":  # which has integers for what lies outside
        assert 0.2 < fitted.clipped_share(outside) <= 1
    assert fitted.encode(outside).ids.shape[0] == len(outside)


def test_r1_padding_is_not_looked_at(fitted):
    padded = torch.full((2, 40, D), 1e9)
    padded[0, :30], padded[1, :11] = data(seed=2)[0, :30], data(seed=2)[1, :11]
    alone = [fitted.encode(padded[0, :30]).tolist()[0], fitted.encode(padded[1, :11]).tolist()[0]]
    assert fitted.encode(padded, torch.tensor([30, 11])).tolist() == alone


def test_r1_a_limit_can_be_set_and_survives_saving(tmp_path):
    wide = fresh("binning", limit=300.0).fit(data())
    episodes = data(seed=1) * 57.3
    assert wide.encode(episodes).equal(zoo.load(zoo.save(wide, tmp_path / "wide")).encode(episodes))
    for limit in (1.0, -1.0, 0.0, 1e7):
        with pytest.raises(ConfigError, match="limit"):
            fresh("binning", limit=limit)


@pytest.mark.parametrize("family", ["binning", "fast"])
def test_r1_data_that_could_not_be_encoded_is_not_fitted(family):
    """Of outliers far beyond the quantiles, and then nothing has changed."""
    tokenizer = fresh(family).fit(data())
    ids, name = tokenizer.encode(data(seed=1)), tokenizer.name
    spoilt = data()
    spoilt[3, 50, 2] = 1e4
    for act in (tokenizer.fit, tokenizer.partial_fit):
        with pytest.raises(InputError, match=r"DoF 2 .*action_quantiles"):
            act(spoilt)
        assert tokenizer.encode(data(seed=1)).equal(ids)
        assert tokenizer.name == name


def test_r1_what_stands_still_may_shift_a_little():
    reach = Reach(3, 8.0)
    reach.set_range(torch.tensor([1.5, 0.0, -2.0]), torch.tensor([1.5 + 1e-6, 0.0, 2.0]))
    assert reach.holds(torch.tensor([[1.6, 7.9, -15.9]]))
    for row in ([1.5 * 57.3, 0, 0], [0.0, 8.1, 0], [1.5, 0, 16.1], [torch.nan, 0, 0]):
        assert not reach.holds(torch.tensor([row]))
        assert not reach.holds(torch.tensor([[[1.5, 0, 0], row]]))


# -------------------------------------------------------------------------------------------------- X4: another model


@pytest.mark.parametrize("name", FAMILIES)
def test_x4_a_refitted_model_is_another(name):
    shipped = zoo.load(name)
    mine = copy.deepcopy(shipped).fit(smooth(30, 100, 4, 3, 1 / T) * 5)
    assert mine.name not in zoo.list_models()
    assert mine.name.startswith(f"{name}.fitted-")
    assert (mine.source, mine.trained_on) == ("", "")
    tokens = mine.encode(smooth(1, 40, 4, 4, 1 / T))
    with pytest.raises(TokenError, match="made by"):
        shipped.decode(tokens)
    with pytest.raises(TokenError, match="made by"):
        mine.decode(shipped.encode(smooth(1, 40, 4, 4, 1 / T).clamp(-1, 1)))


def test_x4_models_of_other_data_are_told_apart(fitted, tmp_path):
    family = fitted.family
    same, other = fresh(family).fit(data()), fresh(family).fit(data(seed=9))
    assert same.name == fitted.name != other.name
    tokens = fitted.encode(data(seed=1))
    assert torch.equal(same.decode(tokens), fitted.decode(tokens))
    with pytest.raises(TokenError, match="made by"):
        other.decode(tokens)
    before = other.name
    assert other.partial_fit(data(seed=2)).name != before
    loaded = zoo.load(zoo.save(fitted, tmp_path / "mine"))
    assert loaded.name == fitted.name
    assert torch.equal(loaded.decode(tokens), fitted.decode(tokens))


def test_x4_merging_and_set_bounds_make_another_model():
    one, two = fresh("beast").fit(data()), fresh("beast").fit(data(seed=9))
    names = {one.name, two.name, one.merge_fit(two).name, one.set_bounds(-4.0, 4.0).name}
    assert len(names) == 4


# -------------------------------------------------------------------------------------------------------- X5: bounds

HUGE = (2147483648, 10**9, 2**70, 10**30)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("field", ["horizon", "num_dofs", "codebook_size", "bpe_vocab_size", "num_basis", "fit_stride"])
def test_x5_sizes_are_bounded_before_anything_is_built(family, field):
    if field not in {f.name for f in registry.family(family).config_class.__dataclass_fields__.values()}:
        pytest.skip("not a setting of it")
    start = time.thread_time()  # not of the wall, which other programs share
    for value in HUGE:
        with pytest.raises(ConfigError, match=field):
            fresh(family, **{field: value})
    assert time.thread_time() - start < 1


@pytest.mark.parametrize("family", FAMILIES)
def test_x5_products_are_bounded_too(family):
    with pytest.raises(ConfigError, match="values"):
        fresh(family, num_dofs=1024, horizon=1024)
    if family == "beast":
        with pytest.raises(ConfigError, match="num_basis"):
            fresh(family, num_dofs=1, horizon=4096, num_basis=1024)


NUMBERS = {"control_rate": 1e300, "margin": 1e300, "scale": 1e300, "ridge": 1e300, "limit": 1e300, "gripper": [2**70]}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("field", NUMBERS)
def test_x5_numbers_are_bounded(family, field):
    if field not in registry.family(family).config_class.__dataclass_fields__:
        pytest.skip("not a setting of it")
    with pytest.raises(ConfigError, match=field):
        fresh(family, **{field: NUMBERS[field]})


def test_x5_fit_actions_refuses_before_it_computes(tmp_path, capsys):
    np.save(tmp_path / "a.npy", data()[0].numpy())
    for family in FAMILIES:
        arguments = ["-o", str(tmp_path / family), "--family", family, "--horizon", "2000000000"]
        assert main(["fit-actions", str(tmp_path / "a.npy"), *arguments]) == 1
        assert "horizon must be in" in capsys.readouterr().err
        assert not (tmp_path / family).exists()


# ------------------------------------------------------------------------------------------- X16: lengths of signals


@pytest.mark.parametrize("steps", [999, 21, 0, 2**62])
def test_x16_lengths_that_do_not_fit_the_ids_are_refused(fitted, steps):
    tokens = fitted.encode(data(seed=1)[:2, :T])
    signal = torch.tensor([T, steps])
    wrong = Tokens(tokens.ids, tokens.lengths, tokens.codebook_size, tokens.model, signal_lengths=signal)
    with pytest.raises(TokenError, match=r"steps|chunks|coefficients"):
        fitted.decode(wrong)
    right = Tokens(tokens.ids, tokens.lengths, tokens.codebook_size, tokens.model, signal_lengths=signal.clamp(1, T))
    assert fitted.decode(right).shape == (2, T, D)


# ------------------------------------------------------------------------------------------------- X12: unequal lengths


def test_x12_one_long_item_costs_what_it_is(fitted):
    """Chunks are those of the data: the arithmetic on padding would take 1000 times as long."""
    short, long = [data()[0, :T]] * 200, smooth(1, 4000, D, 3, 0.001)[0]
    chunks = split(fitted.as_actions([*short, long]), T)
    assert len(chunks.values) == 200 + 200
    tokens = fitted.encode([*short, long])
    assert tokens.tolist()[0] == tokens.tolist()[199] == fitted.encode(short[0]).tolist()[0]
    assert tokens.tolist()[-1] == fitted.encode(long).tolist()[0]


def test_chunks_of_a_batch_are_those_of_its_items():
    x, lengths = torch.randn(3, 11, 2), torch.tensor([11, 1, 8])
    items = [row[:length] for row, length in zip(x, lengths, strict=True)]
    chunks = split(Ragged.of(items), 4)
    alone = [split(Ragged.of([item]), 4) for item in items]
    assert torch.equal(chunks.values, torch.cat([each.values for each in alone]))
    assert chunks.valid.tolist() == [4, 4, 3, 1, 4, 4] == [v for each in alone for v in each.valid.tolist()]
    assert chunks.is_first.tolist() == [True, False, False, True, True, False]
    assert chunks.padded(torch.arange(1, 7)[:, None]).tolist() == [[1, 2, 3], [4, 0, 0], [5, 6, 0]]
    with warnings.catch_warnings():
        assert split(Ragged.of(x), 11).values.equal(x)


@pytest.mark.parametrize("form", ["list", "lengths"])
def test_x12_nothing_is_padded_where_it_is_read(fitted, form):
    """Of 1000 short items and one of 20,000 steps, 80,000 numbers are held, and not 20 million."""
    short, long = torch.zeros(5, D), smooth(1, 20_000, D, 3, 0.001)[0]
    items = [short] * 1000 + [long]
    if form == "lengths":
        items, lengths = [short] * 3 + [long], [5, 1, 4, 20_000]
        batch = torch.full((4, 20_000, D), torch.nan)  # what padding holds is not looked at
        for row, item in zip(batch, items, strict=True):
            row[: len(item)] = item
        actions = fitted.as_actions(batch, lengths)
        assert actions.counts == lengths
    else:
        actions = fitted.as_actions(items)
        assert actions.counts == [5] * 1000 + [20_000]
    assert actions.values.shape == (sum(actions.counts), D)
    assert actions.values.untyped_storage().nbytes() == 4 * D * sum(actions.counts)
    assert torch.equal(actions.items()[-1], long)


def test_x12_what_is_wrong_is_found_where_it_is(fitted):
    items = [data()[0, :9], data()[1, :4].clone(), data()[2, :6]]
    items[1][3, 2] = torch.nan
    with pytest.raises(InputError, match="item 1, step 3, DoF 2 is nan"):
        fitted.encode(items)
