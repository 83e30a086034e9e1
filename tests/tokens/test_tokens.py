"""Tokens from anywhere, selected, cut and joined."""

import numpy as np
import pytest
import torch
from hypothesis import assume
from hypothesis import strategies as st
from token_batches import batches, given, padding, sample

from zoo.errors import TokenError
from zoo.tokens import PAD_ID, Tokens, bits

# ------------------------------------------------------------------------------------------------------------ from_ids


@given(batches())
def test_lists_go_in_and_come_out(batch):
    items, tokens = batch
    again = Tokens.from_ids(items, codebook_size=tokens.codebook_size, model="toy.nano")
    assert again.tolist() == items == tokens.tolist()
    assert again.lengths.tolist() == [len(item) for item in items]
    assert again.ids.dtype == again.lengths.dtype == torch.int64
    assert (padding(again) == PAD_ID).all()
    assert again.equal(tokens)
    assert again.batch_size == len(again) == len(items)
    if any(items):
        assert again.num_codebooks == tokens.num_codebooks


@given(batches(), st.sampled_from(["tensors", "arrays", "small arrays"]))
def test_rows_of_tensors_and_arrays_are_items(batch, kind):
    _items, tokens = batch
    rows = {
        "tensors": lambda: list(tokens._sequences()),
        "arrays": lambda: [s.numpy() for s in tokens._sequences()],
        "small arrays": lambda: [
            s.numpy().astype(bits.smallest_dtype(tokens.codebook_size - 1)) for s in tokens._sequences()
        ],
    }[kind]()
    assert Tokens.from_ids(rows, codebook_size=tokens.codebook_size).equal(tokens)


@given(batches())
def test_padded_ids_with_lengths_are_the_same_whatever_the_padding_was(batch):
    items, tokens = batch
    dirty = tokens.ids.clone()
    dirty[~tokens.mask] = tokens.codebook_size - 1
    again = Tokens.from_ids(dirty, codebook_size=tokens.codebook_size, lengths=tokens.lengths)
    assert again.tolist() == items
    assert torch.equal(again.ids, tokens.ids)
    assert (dirty[~tokens.mask] == tokens.codebook_size - 1).all()


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4", ">u2"]
)
def test_integer_arrays_of_every_dtype_and_layout(dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    array.flags.writeable = False
    for view in (array, array[::-1], array.T, array[:, ::2]):
        assert Tokens.from_ids(view, codebook_size=12).tolist() == view.tolist()


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint64])
def test_integer_tensors_of_every_dtype(dtype):
    ids = torch.tensor([[1, 2], [3, 0]]).to(dtype)
    assert Tokens.from_ids(ids, codebook_size=4).tolist() == [[1, 2], [3, 0]]


def test_one_item_needs_no_batch_axis():
    for ids in ([1, 2, 3], (1, 2, 3), torch.tensor([1, 2, 3]), np.array([1, 2, 3]), range(1, 4)):
        assert Tokens.from_ids(ids, codebook_size=4).tolist() == [[1, 2, 3]]


def test_ids_are_copied():
    ids = torch.tensor([[1, 2]])
    tokens = Tokens.from_ids(ids, codebook_size=4)
    ids[0, 0] = 3
    assert tokens.tolist() == [[1, 2]]


def test_no_items_and_items_of_no_ids():
    assert Tokens.from_ids([], codebook_size=4).ids.shape == (0, 0)
    assert Tokens.from_ids([[], []], codebook_size=4).ids.shape == (2, 0)
    assert Tokens.from_ids([np.zeros((0, 3), int)], codebook_size=4).ids.shape == (1, 0, 3)
    assert Tokens.from_ids(torch.zeros(0, 5, 2, dtype=torch.int64), codebook_size=4, lengths=[]).num_codebooks == 2


BAD_IDS = {
    "floats": ([[1.5]], "ids must be integers, got torch.float32; a model's logits need an argmax first"),
    "float tensor": (torch.zeros(2, 3), "integers, got torch.float32"),
    "float array": (np.zeros((2, 3)), "integers, got an array of float64"),
    "mixed": ([[1, 2], [1.5]], "integers, got torch.float32"),
    "booleans": (torch.tensor([[True]]), "integers, got torch.bool"),
    "boolean array": (np.array([[True]]), "integers, got an array of bool"),
    "complex": (torch.zeros(1, 1, dtype=torch.complex64), "integers, got torch.complex64"),
    "strings": ([["a"]], r"integers in a tensor, an array or nested lists, got \[\['a'\]\]"),
    "string array": (np.array([["a"]]), "integers, got an array of <U1"),
    "objects": (np.array([[None]]), "integers, got an array of object"),
    "none": (None, "nested lists, got None"),
    "a dictionary": ({"ids": [1]}, "nested lists, got {'ids'"),
    "huge": ([[2**70]], "nested lists, got"),
    "rank 0": (torch.tensor(3), r"got the shape \(\)"),
    "rank 4": (torch.zeros(1, 1, 1, 1, dtype=torch.int64), r"\(B, T\) or \(B, T, K\), got the shape \(1, 1, 1, 1\)"),
    "ragged depth": ([[1, 2], [[3, 4]]], "same number of codebooks"),
    "ragged codebooks": ([[[1, 2]], [[3, 4, 5], [1, 2, 3]]], "same number of codebooks"),
    "too large": ([[0, 8]], "0 … 7, got values from 0 to 8. If they come from a language model's vocabulary"),
    "negative": ([[-1, 3]], "got values from -1 to 3"),
    "unsigned overflow": (np.array([[2**64 - 1]], np.uint64), "0 … 7"),
    "unsigned tensor": (torch.tensor([[2**63]], dtype=torch.uint64), "0 … 7"),
}


@pytest.mark.parametrize("case", BAD_IDS)
def test_bad_ids_are_refused(case):
    ids, message = BAD_IDS[case]
    with pytest.raises(TokenError, match=message):
        Tokens.from_ids(ids, codebook_size=8)


BAD_LENGTHS = {
    "too long": ([5, 4], r"lengths must be 0 … \[4, 4\], got \[5, 4\]"),
    "negative": ([-1, 4], r"got \[-1, 4\]"),
    "too few": ([4], r"2 integers, one an item, got the shape \(1,\)"),
    "one number": (4, r"2 integers, one an item, got the shape \(\)"),
    "floats": ([4.0, 4.0], "lengths must be integers, got torch.float32"),
    "a mask": (torch.tensor([True, False]), "lengths must be integers, got torch.bool"),
    "words": ("ab", "lengths must be 2 integers, one an item, got 'ab'"),
}


@pytest.mark.parametrize("case", BAD_LENGTHS)
def test_bad_lengths_are_refused(case):
    lengths, message = BAD_LENGTHS[case]
    with pytest.raises(TokenError, match=message):
        Tokens.from_ids(torch.zeros(2, 4, dtype=torch.int64), codebook_size=8, lengths=lengths)


def test_lengths_cannot_make_the_padding_of_ragged_lists_valid():
    with pytest.raises(TokenError, match=r"0 … \[3, 1\], got \[3, 2\]"):
        Tokens.from_ids([[1, 2, 3], [1]], codebook_size=8, lengths=[3, 2])
    assert Tokens.from_ids([[1, 2, 3], [1]], codebook_size=8, lengths=[2, 0]).tolist() == [[1, 2], []]


def test_other_facts_are_checked():
    ids = [[1, 2, 3, 0]]
    assert Tokens.from_ids(ids, codebook_size=4, grid=(2, 2), signal_lengths=[9]).signal_lengths.tolist() == [9]
    with pytest.raises(TokenError, match=r"\(2, 3\) has 6 positions, the ids have 4"):
        Tokens.from_ids(ids, codebook_size=4, grid=(2, 3))
    with pytest.raises(TokenError, match="lengths must be 1 integers"):
        Tokens.from_ids(ids, codebook_size=4, signal_lengths=[9, 9])
    with pytest.raises(TokenError, match="signal lengths must be 0 or more"):
        Tokens.from_ids(ids, codebook_size=4, signal_lengths=[-9])
    for size in (0, 1, -3, 4.0, True, None):
        with pytest.raises(TokenError, match="codebook_size must be a Python integer of at least 2"):
            Tokens.from_ids(ids, codebook_size=size)


# --------------------------------------------------------------------------------------------- selecting and joining


@given(batches(), st.data())
def test_items_are_selected_like_those_of_a_list(batch, data):
    items, tokens = batch
    index = data.draw(st.slices(len(items)))
    assert tokens[index].tolist() == items[index]
    assert [item.tolist() for item in tokens] == [[item] for item in items]
    assume(items)
    i = data.draw(st.integers(-len(items), len(items) - 1))
    for one in (i, np.int64(i), torch.tensor(i), np.array(i)):
        assert tokens[one].tolist() == [items[i]]
    several = data.draw(st.lists(st.integers(-len(items), len(items) - 1)))
    for index in (several, np.array(several, int), torch.tensor(several, dtype=torch.int64)):
        assert tokens[index].tolist() == [items[i] for i in several]
    mask = data.draw(st.lists(st.booleans(), min_size=len(items), max_size=len(items)))
    for index in (mask, np.array(mask), torch.tensor(mask)):
        assert tokens[index].tolist() == [item for item, chosen in zip(items, mask, strict=True) if chosen]


@given(batches(), st.integers(0, 12), st.integers(0, 12))
def test_positions_are_sliced_in_every_item(batch, start, stop):
    items, tokens = batch
    cut = tokens[:, start:stop]
    assert cut.tolist() == [item[start:stop] for item in items]
    assert cut.lengths.tolist() == [len(item[start:stop]) for item in items]
    assert (padding(cut) == PAD_ID).all()
    assert tokens[:, :stop].tolist() == [item[:stop] for item in items]
    assert tokens[:, start:].tolist() == [item[start:] for item in items]


@given(batches(books=(2, 3)), st.integers(1, 4))
def test_leading_codebooks_are_sliced(batch, k):
    items, tokens = batch
    cut = tokens[:, :, :k]
    assert cut.tolist() == [[position[:k] for position in item] for item in items]
    assert cut.num_codebooks == min(k, tokens.num_codebooks)


@given(batches(), st.data())
def test_truncate_keeps_a_prefix_of_every_item(batch, data):
    items, tokens = batch
    n = data.draw(st.integers(0, 12))
    assert tokens.truncate(n).tolist() == [item[:n] for item in items]
    counts = data.draw(st.lists(st.integers(0, 12), min_size=len(items), max_size=len(items)))
    cut = tokens.truncate(torch.tensor(counts, dtype=torch.int64))
    assert cut.tolist() == [item[:n] for item, n in zip(items, counts, strict=True)]
    assert cut.ids.shape[1] == int(cut.lengths.max()) if items else True
    assert (padding(cut) == PAD_ID).all()
    assert cut.truncate(100).equal(cut)


@given(batches(), st.integers(0, 4))
def test_cat_undoes_splitting_the_batch(batch, place):
    items, tokens = batch
    assert Tokens.cat([tokens[:place], tokens[place:]]).equal(tokens)
    assert Tokens.cat(iter([tokens, tokens])).tolist() == items + items


@given(batches(), st.integers(0, 10))
def test_cat_in_time_undoes_cutting_positions(batch, place):
    items, tokens = batch
    joined = Tokens.cat([tokens[:, :place], tokens[:, place:]], "time")
    assert joined.equal(tokens)
    assert torch.equal(joined.ids, tokens.ids)
    doubled = Tokens.cat([tokens, tokens], "time")
    assert doubled.tolist() == [item + item for item in items]
    assert (padding(doubled) == PAD_ID).all()


BAD_INDEX = {
    "item out of range": (lambda t: t[2], "item 2 of 2"),
    "items out of range": (lambda t: t[[0, 5]], r"items \[0, 5\] of 2"),
    "a boolean": (lambda t: t[True], "got True"),
    "none": (lambda t: t[None], "items take an integer, a slice, a list of integers or a mask, got None"),
    "ellipsis": (lambda t: t[..., :2], "got Ellipsis"),
    "a name": (lambda t: t["a"], "got 'a'"),
    "floats": (lambda t: t[[0.5]], r"got \[0.5\]"),
    "nothing": (lambda t: t[()], "mask"),
    "a mask of ids": (lambda t: t[t.mask], r"mask \(2,\)"),
    "a mask of another batch": (lambda t: t[torch.tensor([True])], r"mask \(2,\)"),
    "a position": (lambda t: t[:, 3], r"positions take a slice of step 1, such as tokens\[:, :16\], got 3"),
    "positions": (lambda t: t[:, torch.tensor([0, 1])], "positions take a slice"),
    "every other": (lambda t: t[:, ::2], "slice of step 1"),
    "backwards": (lambda t: t[:, ::-1], "slice of step 1"),
    "too many": (lambda t: t[:, :, :1], r"shape \(2, 5\) take at most 2 indices"),
    "later codebooks": (lambda t: sample(books=2)[:, :, 1:], r"slice them as \[:, :, :k\]"),
    "no codebooks": (lambda t: sample(books=2)[:, :, :0], r"slice them as \[:, :, :k\]"),
    "one codebook": (lambda t: sample(books=2)[:, :, 0], "codebooks take a slice"),
}


@pytest.mark.parametrize("case", BAD_INDEX)
def test_bad_indices_are_refused(case):
    index, message = BAD_INDEX[case]
    with pytest.raises(IndexError, match=message):
        index(sample())


def test_slices_of_any_size():
    for huge in (2**62, 2**63, 10**30):
        assert sample()[::huge].tolist() == sample()[0].tolist()
        assert sample()[:huge].equal(sample())
        assert sample()[::-huge].equal(sample()[1])
        assert sample()[:, :huge].equal(sample())
        assert sample()[:, huge:].tolist() == [[], []]


def test_facts_survive_exactly_as_long_as_they_are_true():
    tokens = sample((4, 4), grid=(2, 2), signal_lengths=[7, 8])
    for same in (tokens[:, :4], tokens[:, :99], tokens[:, :], tokens.truncate(4), tokens.truncate([9, 4])):
        assert same.grid == (2, 2)
        assert same.signal_lengths.tolist() == [7, 8]
    for cut in (tokens[:, :3], tokens[:, 1:], tokens.truncate(3), tokens.truncate([4, 3])):
        assert cut.grid is None
        assert cut.signal_lengths is None
    assert tokens[1].signal_lengths.tolist() == [8]
    assert tokens[1].grid == (2, 2)
    assert Tokens.cat([tokens, tokens[0]]).signal_lengths.tolist() == [7, 8, 7]
    assert Tokens.cat([tokens, tokens]).grid == (2, 2)
    assert Tokens.cat([tokens, sample((4,))]).grid is None
    assert Tokens.cat([tokens, sample((4,))]).signal_lengths is None
    assert Tokens.cat([tokens, tokens], "time").grid is None
    wide = Tokens(torch.zeros(1, 6, dtype=torch.int64), torch.tensor([4]), 8, grid=(2, 3))
    assert wide.truncate(4).grid is None
    assert tokens.to("cpu").grid == (2, 2)
    assert tokens.offset(3).model == "toy.nano"


def test_truncate_refuses():
    for bad in (1.5, torch.tensor([1.0, 2.0]), [1, 2, 3], True, [True, False]):
        with pytest.raises(TokenError, match="truncate takes one integer or 2, got"):
            sample().truncate(bad)
    with pytest.raises(TokenError, match=r"0 or more, got \[-1, 2\]"):
        sample().truncate([-1, 2])


@pytest.mark.parametrize(
    ("parts", "dim", "message"),
    [
        ([], "batch", "nothing to concatenate"),
        ([sample(), sample(books=2)], "batch", "num_codebooks is 1 in one part and 2"),
        ([sample(), Tokens.from_ids([[1]], codebook_size=9, model="toy.nano")], "batch", "codebook_size is 8"),
        ([sample(), Tokens.from_ids([[1]], codebook_size=8, model="toy.big")], "time", "model is 'toy.nano' in one"),
        ([sample(), sample().offset(5)], "batch", "base is 0 in one part and 5"),
        ([sample(), sample((1,))], "time", "equal batch sizes, got 2 and 1"),
        ([sample(), sample(books=2)[:, :, :1]], "batch", r"\(B, T\) and \(B, T, 1\)"),
        ([sample(), sample()], "Batch", "along 'batch' or 'time', got dim='Batch'"),
    ],
)
def test_cat_refuses(parts, dim, message):
    with pytest.raises(TokenError, match=message):
        Tokens.cat(parts, dim)
