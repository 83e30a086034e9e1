"""Codes in a language model's vocabulary."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import ConfigError, TokenError
from zoo.tokens.vocabulary import from_llm_ids, to_llm_ids


def test_published_layouts():
    codes = torch.tensor([[0, 127], [254, 255]])
    # OpenVLA: vocabulary of 32000, id = vocab - k with k = code + 1 in 1 … 256.
    assert to_llm_ids(codes, llm_vocab_size=32000, codebook_size=256).tolist() == [[31999, 31872], [31745, 31744]]
    # The forward tail: id = token + vocab - V.
    forward = to_llm_ids(codes, llm_vocab_size=32000, codebook_size=256, order="forward")
    assert forward.tolist() == [[31744, 31871], [31998, 31999]]
    # openpi's FAST: paligemma_vocab - 1 - 128 - token.
    openpi = to_llm_ids([0, 2047], llm_vocab_size=257152, codebook_size=2048, skip=128)
    assert openpi.tolist() == [257152 - 1 - 128, 257152 - 1 - 128 - 2047]


@settings(deadline=None)
@given(
    st.integers(1, 300),
    st.integers(0, 50),
    st.integers(0, 1000),
    st.sampled_from(["reversed", "forward"]),
    st.lists(st.integers(0, 2**16), max_size=20),
)
def test_round_trip_stays_in_the_tail(size, skip, spare, order, values):
    codes = torch.tensor(values, dtype=torch.int64) % size
    options = {"llm_vocab_size": size + skip + spare, "codebook_size": size, "order": order, "skip": skip}
    ids = to_llm_ids(codes, **options)
    assert ids.dtype == torch.int64
    assert ((ids >= spare) & (ids < spare + size)).all()
    assert from_llm_ids(ids, **options).tolist() == codes.tolist()


@pytest.mark.parametrize("codes", [[-1], [256], [0, 300]])
def test_codes_out_of_range(codes):
    with pytest.raises(TokenError, match=r"codes must be in 0 … 255"):
        to_llm_ids(codes, llm_vocab_size=32000, codebook_size=256)


@pytest.mark.parametrize("order", ["reversed", "forward"])
@pytest.mark.parametrize("ids", [[31743], [32000], [-1], [31800, 2]])
def test_words_are_no_codes(ids, order):
    with pytest.raises(TokenError, match=r"31744 … 31999"):
        from_llm_ids(ids, llm_vocab_size=32000, codebook_size=256, order=order)


def test_other_mistakes():
    for call in (to_llm_ids, from_llm_ids):
        with pytest.raises(TokenError, match="argmax"):
            call(torch.tensor([1.5]), llm_vocab_size=10, codebook_size=4)
        with pytest.raises(TokenError, match="integers"):
            call("words", llm_vocab_size=10, codebook_size=4)
        with pytest.raises(ConfigError, match="do not fit"):
            call([1], llm_vocab_size=10, codebook_size=8, skip=3)
        with pytest.raises(ConfigError, match="order"):
            call([1], llm_vocab_size=10, codebook_size=8, order="backwards")
        with pytest.raises(ConfigError, match="skip"):
            call([1], llm_vocab_size=10, codebook_size=8, skip=-1)
