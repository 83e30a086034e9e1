"""Batches of tokens for property tests."""

import torch
from hypothesis import given as hypothesis_given
from hypothesis import settings
from hypothesis import strategies as st

from zoo.tokens import PAD_ID, Tokens


def given(*strategies):
    """Run a test on 60 examples, however slow the machine is."""
    return lambda test: settings(max_examples=60, deadline=None)(hypothesis_given(*strategies)(test))


VOCABULARIES = st.one_of(
    st.integers(2, 300), st.sampled_from([2, 3, 255, 256, 257, 2**16 - 1, 2**16, 2**16 + 1, 64000, 2**31 - 1, 2**31])
)


@st.composite
def batches(draw, max_items=4, books=(1, 1, 2, 3), vocabularies=VOCABULARIES):
    """Lists of items, each of 0 … 9 positions of K ids, as Python integers, and the tokens that hold them."""
    size, k = draw(vocabularies), draw(st.sampled_from(books))
    one = st.integers(0, size - 1)
    position = one if k == 1 else st.lists(one, min_size=k, max_size=k)
    items = draw(st.lists(st.lists(position, max_size=9), max_size=max_items))
    longest = max(map(len, items), default=0)
    ids = torch.full((len(items), longest) + ((k,) if k > 1 else ()), PAD_ID)
    for row, item in zip(ids, items, strict=True):
        if item:
            row[: len(item)] = torch.tensor(item)
    lengths = torch.tensor([len(item) for item in items], dtype=torch.int64)
    return items, Tokens(ids, lengths, size, "toy.nano")


def padding(tokens):
    """Return the ids past the items' ends."""
    return tokens.ids[~tokens.mask]


def sample(lengths=(3, 5), books=1, **facts):
    items = [[[i + k for k in range(books)] if books > 1 else i for i in range(n)] for n in lengths]
    return Tokens.from_ids(items, codebook_size=8, model="toy.nano", **facts)
