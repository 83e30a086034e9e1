"""Tokens shifted into vocabularies and stored; and the facts about them."""

import copy
import math
import pickle
import re

import numpy as np
import pytest
import torch
from hypothesis import assume
from hypothesis import strategies as st
from token_batches import VOCABULARIES, batches, given, sample

from zoo.errors import ConfigError, TokenError
from zoo.spec import TokenSpec
from zoo.tokens import Tokens

# --------------------------------------------------------------------------------------------------------- vocabulary


@given(batches(), st.integers(1, 2**40), st.integers(0, 2**40))
def test_offset_gives_every_codebook_its_own_range_and_goes_back(batch, first, second):
    items, tokens = batch
    shifted = tokens.offset(first)
    size, k = tokens.codebook_size, tokens.num_codebooks
    expected = [
        [i + first if k == 1 else [x + n * size + first for n, x in enumerate(i)] for i in item] for item in items
    ]
    assert shifted.tolist() == expected
    assert tokens.offset(first).offset(second).offset(-second).tolist() == expected
    back = shifted.offset(second).offset(-first - second)
    assert back.base == 0
    assert torch.equal(back.ids, tokens.ids)
    assert tokens.tolist() == items


@given(batches(), st.integers(1, 99), st.integers(0, 12), st.integers(1, 3))
def test_shifting_commutes_with_cutting_and_joining(batch, amount, n, k):
    _, tokens = batch
    shifted = tokens.offset(amount)
    assert shifted.truncate(n).offset(-amount).equal(tokens.truncate(n))
    assert torch.equal(shifted[:, :n].offset(-amount).ids, tokens[:, :n].ids)
    joined = Tokens.cat([shifted, shifted[:, :n]])
    assert torch.equal(joined.offset(-amount).ids, Tokens.cat([tokens, tokens[:, :n]]).ids)
    if tokens.ids.ndim == 3:
        assert torch.equal(shifted[:, :, :k].offset(-amount).ids, tokens[:, :, :k].ids)


@given(VOCABULARIES, st.sampled_from([1, 2, 3]), st.integers(1, 1000))
def test_the_last_offset_that_fits_is_the_one_the_message_names(size, k, room):
    ids = torch.full((1, 2, k), size - 1)
    tokens = Tokens(ids if k > 1 else ids[:, :, 0], torch.tensor([2]), size)
    vocabulary = size * k + room
    assert int(tokens.offset(room, vocabulary).ids.max()) == vocabulary - 1
    with pytest.raises(TokenError) as caught:
        tokens.offset(room + 1, vocabulary)
    assert f"past the vocabulary's last id {vocabulary - 1}" in str(caught.value)
    assert f"enlarge the vocabulary to {vocabulary + 1}, or choose an offset of at most {room}." in str(caught.value)
    enlarged = int(re.search(r"vocabulary to (\d+)", str(caught.value))[1])
    assert int(tokens.offset(room + 1, enlarged).ids.max()) == enlarged - 1
    with pytest.raises(TokenError, match=rf"enlarge the vocabulary to {size * k + 1}\.$"):
        tokens.offset(1, size * k - 1)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("size", [2, 2**31])
@pytest.mark.parametrize("vocab_size", [None, 2**64])
def test_offset_overflows_at_2_to_63_and_not_before(size, k, vocab_size):
    ids = torch.full((1, 1, k), size - 1)
    tokens = Tokens(ids if k > 1 else ids[:, :, 0], torch.tensor([1]), size)
    shifted = tokens.offset(2**63 - size * k, vocab_size)
    assert int(shifted.ids.max()) == 2**63 - 1
    assert shifted.offset(size * k - 2**63).equal(tokens)
    for amount in (2**63 - size * k + 1, 2**63, 2**64, 10**30):
        with pytest.raises(TokenError, match="past the vocabulary's last id 9223372036854775807"):
            tokens.offset(amount, vocab_size)


def test_offset_refuses():
    tokens = sample()
    with pytest.raises(TokenError, match="make ids negative: these tokens are shifted by 0"):
        tokens.offset(-1)
    with pytest.raises(TokenError, match="make ids negative: these tokens are shifted by 5"):
        tokens.offset(5).offset(-6)
    with pytest.raises(TokenError, match=r"an offset is an integer, got 1\.5"):
        tokens.offset(1.5)
    with pytest.raises(TokenError, match="vocabulary's last id 6"):
        tokens.offset(0, 7)
    assert tokens.offset(0, 8).equal(tokens)
    with pytest.raises(TokenError, match="0 would leave the ids of 2 codebooks on top of each other"):
        sample(books=2).offset(0)
    assert sample(books=2).offset(1).offset(0).base == 1


def test_shifted_tokens_are_not_packed():
    with pytest.raises(TokenError, match=r"cannot pack ids that are shifted by 7: call tokens.offset\(-7\) first"):
        sample().offset(7).pack()


# ------------------------------------------------------------------------------------------------------------ storage


@given(batches())
def test_numpy_takes_the_smallest_dtype_and_comes_back(batch):
    items, tokens = batch
    array = tokens.numpy()
    assert array.dtype == np.min_scalar_type(tokens.codebook_size - 1)
    assert array.shape == tuple(tokens.ids.shape)
    again = Tokens.from_ids(array, codebook_size=tokens.codebook_size, lengths=tokens.lengths)
    assert again.tolist() == items
    assert torch.equal(again.ids, tokens.ids)


@given(batches(), st.integers(1, 2**62))
def test_numpy_takes_a_dtype_that_holds_the_shifted_vocabulary(batch, amount):
    _, tokens = batch
    shifted = tokens.offset(amount)
    top = amount + tokens.codebook_size * tokens.num_codebooks - 1
    assert shifted.numpy().dtype == np.min_scalar_type(top)
    assert shifted.numpy().tolist() == shifted.ids.tolist()


@given(batches())
def test_packed_bits_are_as_few_as_can_be_and_come_back(batch):
    items, tokens = batch
    packed = tokens.pack()
    width, k = math.ceil(math.log2(tokens.codebook_size)), tokens.num_codebooks
    assert [len(data) for data in packed] == [math.ceil(len(item) * k * width / 8) for item in items]
    facts = {"codebook_size": tokens.codebook_size, "num_codebooks": k, "model": "toy.nano"}
    for lengths in (tokens.lengths.tolist(), tokens.lengths):
        again = Tokens.unpack(packed, lengths, **facts)
        assert again.tolist() == items
        assert torch.equal(again.ids, tokens.ids)
        assert again.model == "toy.nano"


def test_packing_is_what_it_says():
    assert Tokens.from_ids([[1, 2, 3]], codebook_size=4).pack() == [bytes([0b01101100])]
    assert Tokens.from_ids([[256, 1]], codebook_size=257).pack() == [bytes([0b10000000, 0b00000000, 0b01000000])]
    assert Tokens.from_ids([[[1, 0], [0, 1]]], codebook_size=2).pack() == [bytes([0b10010000])]


@given(batches(max_items=2), st.data())
def test_bits_of_the_wrong_length_are_refused(batch, data):
    items, tokens = batch
    assume(any(items))
    packed = tokens.pack()
    i = next(i for i, item in enumerate(items) if item)
    damaged = list(packed)
    damaged[i] = data.draw(st.sampled_from([packed[i][:-1], packed[i] + b"\0"]))
    with pytest.raises(TokenError, match=rf"bits take {len(packed[i])} bytes, got {len(damaged[i])}"):
        Tokens.unpack(damaged, tokens.lengths, codebook_size=tokens.codebook_size, num_codebooks=tokens.num_codebooks)


def test_unpack_refuses():
    with pytest.raises(TokenError, match="ids must be in 0 … 4, got values from 7 to 7"):
        Tokens.unpack([b"\xff"], [2], codebook_size=5)
    with pytest.raises(TokenError, match=r"length of 0 or more for each of 1 items, got \[1, 2\]"):
        Tokens.unpack([b"\xff"], [1, 2], codebook_size=5)
    with pytest.raises(TokenError, match=r"got \[-1\]"):
        Tokens.unpack([b""], [-1], codebook_size=5)


def test_ids_out_of_range_are_not_cut_into_other_ids():
    edited = Tokens(torch.tensor([[3, 300]]), torch.tensor([2]), 256)
    with pytest.raises(TokenError, match="0 … 255 to be stored, got values from 3 to 300"):
        edited.pack()
    with pytest.raises(TokenError, match="0 … 255 to be stored, got values from 3 to 300"):
        edited.numpy()


@given(batches())
def test_copies_and_pickles_are_equal(batch):
    _, tokens = batch
    for again in (pickle.loads(pickle.dumps(tokens)), copy.deepcopy(tokens), copy.copy(tokens), tokens.to("cpu")):
        assert again.equal(tokens)
        assert again.model == tokens.model
        assert torch.equal(again.ids, tokens.ids)


@given(batches(), batches())
def test_equality_is_that_of_the_ids(one, two):
    (items, tokens), (others, more) = one, two
    same = tokens.codebook_size == more.codebook_size and items == others
    assert tokens.equal(more) == same
    assert not tokens.equal(tokens.offset(1))


# --------------------------------------------------------------------------------------------------------------- facts


@given(batches())
def test_mask_bits_and_repr(batch):
    items, tokens = batch
    assert tokens.mask.sum(1).tolist() == [len(item) for item in items]
    per_position = tokens.num_codebooks * math.log2(tokens.codebook_size)
    assert tokens.num_bits.tolist() == pytest.approx([len(item) * per_position for item in items])
    assert repr(tokens).startswith(f"Tokens({len(items)} item")
    assert "toy.nano" in repr(tokens)


def test_repr_is_readable():
    assert repr(sample()) == "Tokens(2 items of 3…5 ids, codebook_size=8, model='toy.nano')"
    assert repr(sample((4,), books=2)) == "Tokens(1 item of 4 ids × 2 codebooks, codebook_size=8, model='toy.nano')"
    assert repr(sample(())) == "Tokens(0 items of 0 ids, codebook_size=8, model='toy.nano')"


def test_tokens_do_not_change():
    with pytest.raises(AttributeError):
        sample().base = 3


def test_a_spec_states_its_rates():
    spec = TokenSpec("speech", 1024, 2, token_rate=25.0, sample_rate=16000, input_size=None)
    assert spec.bits_per_token == 20
    assert spec.bit_rate == 500
    assert not spec.is_fixed_length
    assert TokenSpec("image", 2, num_tokens=16, input_size=(4, 4)).to_dict()["input_size"] == [4, 4]
    assert TokenSpec("image", 2).bit_rate is None


@pytest.mark.parametrize(
    "wrong",
    [{"codebook_size": 1}, {"codebook_size": 16.0}, {"codebook_size": True}, {"num_codebooks": 0}, {"num_tokens": 0}],
)
def test_a_spec_refuses_impossible_counts(wrong):
    with pytest.raises(ConfigError, match="at least 2 codes in at least 1 codebook"):
        TokenSpec(**{"modality": "image", "codebook_size": 16, **wrong})
    with pytest.raises(ConfigError, match="modality must be one of speech, image, video, action, got 'smell'"):
        TokenSpec("smell", 16)
