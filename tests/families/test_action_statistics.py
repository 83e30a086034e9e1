"""Statistics that a file may hold and that would make actions which are no numbers; token files of unequal items."""

import numpy as np
import pytest
import torch
from motion import smooth
from test_action_reach import FAMILIES, data, fresh

import zoo
from zoo import tokenfile
from zoo.errors import CheckpointError, TokenError
from zoo.tokens import Tokens


@pytest.mark.parametrize("value", [0.0, -1.0, 1e300, 5e-324, 1e30])
@pytest.mark.parametrize("family", FAMILIES)
def test_statistics_that_make_no_actions_are_refused(family, value):
    tokenizer = fresh(family).fit(data())
    state = {name: tensor.clone() for name, tensor in tokenizer.state_dict().items()}
    state["normalizer.half_range"][1] = value
    if value == 5e-324:
        state["normalizer.centre"][1] = 1.0
    with pytest.raises(CheckpointError, match="statistics"):
        tokenizer.load_state_dict(state)


@pytest.mark.parametrize("name", ["quantizer.low", "quantizer.high", "action_low", "action_high"])
def test_bounds_that_are_upside_down_are_refused(name):
    tokenizer = fresh("beast").fit(data())
    state = {key: tensor.clone() for key, tensor in tokenizer.state_dict().items()}
    state[name].view(-1)[2] = 1e6 if name.endswith("low") else -1e6
    with pytest.raises(CheckpointError, match="statistics"):
        tokenizer.load_state_dict(state)


def test_what_stands_still_is_no_such_case(tmp_path):
    for family in FAMILIES:
        still = data()
        still[:, :, 3] = 0.25
        tokenizer = fresh(family).fit(still)
        loaded = zoo.load(zoo.save(tokenizer, tmp_path / family))
        assert torch.isfinite(loaded.decode(loaded.encode(still))).all()


def test_x1_what_could_not_be_read_again_is_not_written(tmp_path):
    tok = zoo.load("binning")
    short, long = torch.zeros(20, 4), torch.zeros(67200, 4)
    ids = torch.from_numpy(np.zeros((1001, 268800), dtype=np.int64))  # of which nothing but what is valid is in memory
    lengths = torch.tensor([80] * 1000 + [268800])
    tokens = Tokens(ids, lengths, 256, tok.name, signal_lengths=torch.tensor([len(short)] * 1000 + [len(long)]))
    with pytest.raises(TokenError, match="files of their own"):
        tokenfile.save(tmp_path / "x.zoo", tokens, tok)
    assert not (tmp_path / "x.zoo").exists()


def test_x1_unequal_items_are_written_and_read(tmp_path):
    tok = zoo.load("binning")
    tokens = tok.encode([torch.zeros(20, 4)] * 50 + [torch.zeros(2000, 4)])
    tokenfile.save(tmp_path / "x.zoo", tokens, tok)
    assert tokenfile.load(tmp_path / "x.zoo").tokens.equal(tokens)


@pytest.mark.parametrize("signal", [[20, 999], [20, 0], [21, 20]])
def test_lengths_that_do_not_fit_the_ids_are_not_stored(tmp_path, signal):
    tok = zoo.load("beast")
    tokens = tok.encode(smooth(2, 40, 4).clamp(-1, 1)[:, :20])
    wrong = Tokens(tokens.ids, tokens.lengths, tokens.codebook_size, tok.name, signal_lengths=torch.tensor(signal))
    with pytest.raises(TokenError, match="commands give"):
        tokenfile.save(tmp_path / "x.zoo", wrong, tok)
