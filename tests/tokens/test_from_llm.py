"""Through a language model's vocabulary and back; and the ends of items of unequal length."""

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from token_batches import batches, given, padding, sample

from zoo.errors import TokenError
from zoo.tokens import PAD_ID, Conditions, Latents, Tokens
from zoo.tokens.vocabulary import cut_llm_ids, from_llm_ids, to_llm_ids

# ------------------------------------------------------------------------------------------------------- padding's id


def test_s6_padding_of_shifted_tokens_is_the_id_that_was_named():
    tokens = sample((3, 5))
    assert tokens.offset(1000, pad_id=7).ids.tolist() == [[1000, 1001, 1002, 7, 7], [1000, 1001, 1002, 1003, 1004]]
    assert tokens.offset(1000).ids[0].tolist() == [1000, 1001, 1002, 1000, 1000]
    labels = tokens.offset(1000, 2000, pad_id=-100)
    assert labels.ids[0, 3:].tolist() == [-100, -100]
    with pytest.raises(TokenError, match="to be stored, got values from -100"):
        labels.numpy()
    past = tokens.offset(10, pad_id=70_000)
    assert past.numpy().dtype == np.uint32
    assert past.numpy().tolist() == past.ids.tolist()
    two = sample((1, 2), books=2).offset(100, pad_id=7)
    assert two.ids.tolist() == [[[100, 109], [7, 7]], [[100, 109], [101, 110]]]


@given(batches(), st.integers(1, 99), st.integers(0, 99), st.integers(0, 12), st.sampled_from([-100, 0, 2**40]))
def test_s6_padding_keeps_its_id_through_shifts_cuts_and_joins_and_goes_back(batch, first, second, n, pad):
    _, tokens = batch
    padded = tokens.offset(first, pad_id=pad)
    again = padded.offset(second)
    joined = Tokens.cat([padded, padded.truncate(n)])
    in_time = Tokens.cat([padded, padded[:, :n]], "time")
    for shifted in (padded, again, joined, in_time, padded[:, :n], padded[:, -n - 1 :], padded[:, :-1], padded[1:]):
        assert (padding(shifted) == pad).all()
        back = shifted.offset(-shifted.base)
        assert (back.base, back.pad_id) == (0, None)
        assert (padding(back) == PAD_ID).all()
    assert torch.equal(again.offset(-first - second).ids, tokens.ids)
    assert padded.equal(tokens.offset(first))
    assert (padding(padded.offset(0, pad_id=-1)) == -1).all()


def test_s6_padding_ids_that_cannot_be_meant_are_refused():
    tokens = sample()
    for pad in (1000, 1007):
        with pytest.raises(TokenError, match=rf"pad_id {pad} is the id of a token, which are 1000 … 1007"):
            tokens.offset(1000, pad_id=pad)
    with pytest.raises(TokenError, match="pad_id 1010 is the id of a token"):
        tokens.offset(1000, pad_id=1010).offset(5)
    with pytest.raises(TokenError, match="pad_id 2000 is past the vocabulary's last id 1999"):
        tokens.offset(1000, 2000, pad_id=2000)
    for pad in (1.5, 2**63):
        with pytest.raises(TokenError, match="pad_id must be integers"):
            tokens.offset(1000, pad_id=pad)
    with pytest.raises(TokenError, match="pad_id is 7 in one part and None in another"):
        Tokens.cat([tokens.offset(1000, pad_id=7), tokens.offset(1000)])
    after = tokens.offset(0, pad_id=8)  # the vocabulary is the codes and their padding
    assert after.ids[0].tolist() == [0, 1, 2, 8, 8]
    with pytest.raises(TokenError, match=r"cannot pack ids padded with 8: call tokens.offset\(0\) first"):
        after.pack()
    assert torch.equal(after.offset(0).ids, tokens.ids)


# ------------------------------------------------------------------------------------------------------- the way back


def test_s6_a_generated_sequence_comes_back_without_its_special_ids():
    found = Tokens.from_llm(
        [[1, 1003, 1007, 5, 1000, 2, 0, 0], [1001, 1002]],
        offset=1000,
        codebook_size=8,
        eos_id=2,
        pad_id=0,
        special_ids=[1, 5],
        model="toy.nano",
    )
    assert found.tokens.equal(Tokens.from_ids([[3, 7, 0], [1, 2]], codebook_size=8))
    assert found.tokens.model == "toy.nano"
    assert found.num_dropped.tolist() == [5, 0]
    assert found.ends.tolist() == [5, 2]  # the second was cut off before it ended


@given(batches(), st.integers(1, 1000), st.booleans(), st.integers(0, 3))
def test_s6_what_offset_did_is_undone_flat_or_in_codebooks_padded_on_either_side(batch, offset, is_flat, marks):
    items, tokens = batch
    facts = {"offset": offset, "codebook_size": tokens.codebook_size, "num_codebooks": tokens.num_codebooks}
    shifted = tokens.offset(offset, pad_id=-100)
    ids = shifted.ids.flatten(1) if is_flat else shifted.ids
    found = Tokens.from_llm(ids, pad_id=-100, **facts)
    assert found.tokens.tolist() == items
    assert found.tokens.pad_id is None
    count = tokens.lengths * tokens.num_codebooks
    assert torch.equal(found.num_dropped, shifted.ids[0].numel() - count if len(items) else count)
    # Padded on the left by the same id that ends an item, which is then followed by what was sampled past the end.
    rows = [
        [0] * marks + row[:n] + [0, offset, 5] for row, n in zip(ids.flatten(1).tolist(), count.tolist(), strict=True)
    ]
    found = Tokens.from_llm([row for row, n in zip(rows, count, strict=True) if n], eos_id=0, **facts)
    assert found.tokens.tolist() == [item for item in items if item]
    assert found.ends.tolist() == [marks + n for n in count.tolist() if n]
    assert (found.num_dropped == marks + 3).all()


@pytest.mark.parametrize(
    ("ids", "facts", "message"),
    [
        (
            [[1003, 900]],
            {},
            "id 900 at position 1, and the tokens are 1000 … 1007: .*another vocabulary",
        ),
        ([[1000], [3, 4]], {}, "item 1 has the id 3 at position 0"),
        ([[1008]], {}, "item 0 has the id 1008"),
        ([[1000, 0, 2]], {"eos_id": 2}, "item 0 has the id 0 at position 1"),
        ([[1000]], {"eos_id": 1004}, "eos_id 1004 is the id of a token"),
        ([[1000]], {"pad_id": 1000}, "pad_id 1000 is the id of a token"),
        ([[1000]], {"special_ids": range(1001)}, "special_ids 1000 is the id of a token"),
        ([[1000]], {"special_ids": 5}, "special_ids must be integers, got 5"),
        ([[1000]], {"eos_id": "</s>"}, "eos_id must be integers, got '</s>'"),
        (
            [[1000, 1009, 1001]],
            {"num_codebooks": 2},
            "3 tokens, which is no whole number of 2 codebooks",
        ),
        ([[1000, 2, 1009, 1001, 1002]], {"num_codebooks": 2, "special_ids": [2]}, "token 3 of item 0, the id 1002, is"),
        ([[1009, 1000]], {"num_codebooks": 2}, "is of codebook 1 where one of codebook 0 is due"),
        ([[[1000, 1009]]], {}, r"ids \(1, 1, 2\) have 2 codebooks, not 1"),
        ([[1000.5]], {}, "ids must be integers"),
        ([[0]], {"offset": -1}, "offset, codebook_size and num_codebooks are Python integers"),
        ([[0, 9]], {"offset": 0, "num_codebooks": 2}, r"of at least \(1, 2, 1\)"),
    ],
)
def test_s6_what_cannot_be_meant_is_refused(ids, facts, message):
    with pytest.raises(TokenError, match=message):
        Tokens.from_llm(ids, **{"offset": 1000, "codebook_size": 8} | facts)


def test_s6_relatives_of_generated_sequences():
    facts = {"offset": 10, "codebook_size": 8}
    assert Tokens.from_llm(np.array([12, 2, 2]), eos_id=[2, 3], **facts).tokens.tolist() == [[2]]
    nothing = Tokens.from_llm([[1, 2, 0], []], eos_id=2, special_ids=range(2), **facts)
    assert nothing.tokens.tolist() == [[], []]
    assert nothing.ends.tolist() == [1, 0]
    assert len(Tokens.from_llm(torch.zeros(0, 4, dtype=torch.int64), **facts).tokens) == 0
    assert Tokens.from_llm([[0]], num_codebooks=2, pad_id=0, **facts).tokens.ids.shape == (1, 0, 2)
    captions = Conditions(("a cat",))
    found = Tokens.from_llm([[11, 12]], grid=(1, 2), signal_lengths=[7], conditions=captions, **facts).tokens
    assert (found.grid, found.signal_lengths.tolist(), found.conditions) == ((1, 2), [7], captions)


def test_s6_generated_ids_of_a_vocabulary_whose_last_ids_are_codes():
    layout = {"llm_vocab_size": 32000, "codebook_size": 256}
    generated = [1, *to_llm_ids([5, 255, 0], **layout).tolist(), 2, 0]
    rows, dropped, ends = cut_llm_ids(generated, tokens=range(31744, 32000), eos_id=2, special_ids=[1])
    assert from_llm_ids(rows[0], **layout).tolist() == [5, 255, 0]
    assert (dropped.tolist(), ends.tolist()) == ([3], [4])
    with pytest.raises(TokenError, match=r"must be \(T,\) or \(B, T\)"):
        cut_llm_ids([[[1, 2]]], tokens=range(4))


# ---------------------------------------------------------------------------------------------------- an item's own end


def test_s6_the_last_positions_of_a_shorter_item_are_its_own():
    tokens = sample((6, 8), conditions=Conditions(("a cat", "a dog")))
    assert tokens[0][:, -5:].tolist() == [[1, 2, 3, 4, 5]]
    assert tokens[:1][:, -5:].tolist() == tokens[0, -5:].tolist() == [[1, 2, 3, 4, 5]]
    assert tokens[:, -5:].tolist() == [[1, 2, 3, 4, 5], [3, 4, 5, 6, 7]]
    assert tokens[:, -5:].conditions.captions == ("a cat", "a dog")
    assert sample((2, 4), books=2).offset(100)[:, -1:].ids.tolist() == [[[101, 110]], [[103, 112]]]


BOUND = st.one_of(st.none(), st.integers(-12, 12), st.sampled_from([-(2**70), 2**70]))


@given(batches(), BOUND, BOUND)
def test_s6_slices_are_those_of_each_item_as_a_list(batch, start, stop):
    items, tokens = batch
    cut = tokens[:, start:stop]
    assert cut.tolist() == [item[start:stop] for item in items]
    assert (padding(cut) == PAD_ID).all()


@given(batches())
def test_s6_one_item_has_no_padding(batch):
    items, tokens = batch
    assert [one.ids.shape[1] for one in tokens] == [len(item) for item in items]
    assert Tokens.cat([tokens[:0], *tokens]).equal(tokens)


def test_s6_facts_of_one_item_stay_where_they_are_true():
    whole, part = sample((4, 3), grid=(2, 2), signal_lengths=[8, 6])
    assert (whole.grid, whole.signal_lengths.tolist()) == ((2, 2), [8])
    assert (part.grid, part.signal_lengths.tolist()) == (None, [6])
    cut = sample((3, 3, 5), signal_lengths=[6, 6, 9])[:2, -4:]  # which cuts nothing
    assert (cut.ids.shape, cut.signal_lengths.tolist()) == ((2, 3), [6, 6])
    latents = Latents.of(torch.ones(2, 4, 3), torch.tensor([4, 2]), grid=(2, 2))
    for one in (1, np.int64(1), torch.tensor(1)):
        assert latents[one].values.shape == (1, 2, 3)
        assert latents[one].grid is None
    assert latents[0].maps.shape == (1, 3, 2, 2)
    with pytest.raises(IndexError, match="item 2 of 2"):
        latents[2]
