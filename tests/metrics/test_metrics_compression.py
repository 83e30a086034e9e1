"""Huffman codes, byte pairs and the use of a vocabulary: STAB's specification (section 10), bounds, brute force."""

from __future__ import annotations

import doctest
import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import InputError, TokenError
from zoo.metrics.tokens import byte_pairs, compression
from zoo.metrics.tokens.byte_pairs import (
    apply_merges,
    byte_pair_efficiency,
    learn_merges,
)
from zoo.metrics.tokens.compression import (
    bitrate,
    conditional_entropy,
    huffman_efficiency,
    huffman_lengths,
)

counts = st.lists(st.integers(0, 40), min_size=1, max_size=9)
corpora = st.lists(st.lists(st.integers(0, 2), max_size=12), min_size=1, max_size=4)
few = settings(max_examples=40, deadline=None)


def efficiency(weights, token_rate=1.0):
    """Of a code made of what it is measured on."""
    weights = torch.tensor(weights)
    found = huffman_efficiency(weights, weights, token_rate=token_rate, smoothing=0)
    return {name: value.item() for name, value in found.items()}


def words(lengths):
    """Canonical words of a code with these lengths, by id."""
    found, code, last = {}, 0, 0
    for length, token in sorted((length, token) for token, length in enumerate(lengths) if length):
        code <<= length - last
        found[token], code, last = f"{code:0{length}b}", code + 1, length
    return found


class TestHuffman:
    @pytest.mark.parametrize(
        ("weights", "bits", "entropy", "share"),
        [
            ([4, 2, 1, 1], 1.75, 1.75, 1.0),
            ([9, 1], 1.0, 0.468996, 0.468996),
            ([1, 1, 1], 5 / 3, math.log2(3), 0.951),
            ([4, 3, 2, 1], 1.9, 1.84644, 0.9718),
            ([1] * 8, 3.0, 3.0, 1.0),
        ],
    )
    def test_by_hand(self, weights, bits, entropy, share):
        found = efficiency(weights, token_rate=25)
        assert found["bits_per_token"] == pytest.approx(bits)
        assert found["bits_per_second"] == pytest.approx(25 * bits)
        assert found["entropy"] == pytest.approx(entropy, abs=1e-5)
        assert found["entropy_efficiency"] == pytest.approx(share, abs=1e-4)
        assert found["fixed_ratio"] == pytest.approx(math.log2(len(weights)) / bits)
        assert found["saving"] == pytest.approx(1 - bits / math.log2(len(weights)))

    def test_probabilities_do(self):
        assert huffman_lengths(torch.tensor([0.5, 0.25, 0.125, 0.125])).tolist() == [1, 2, 3, 3]
        assert efficiency([4, 2, 1, 1])["fixed_ratio"] == pytest.approx(1.142857, abs=1e-6)

    @given(weights=counts)
    @few
    def test_bounds_and_krafts_equality(self, weights):
        lengths = huffman_lengths(torch.tensor(weights)).tolist()
        used = [length for length, weight in zip(lengths, weights, strict=True) if weight]
        assert all(length == 0 for length, weight in zip(lengths, weights, strict=True) if not weight)
        if len(used) > 1:
            assert sum(2.0**-length for length in used) == 1
            found = efficiency(weights)
            assert found["entropy"] - 1e-9 <= found["bits_per_token"] < found["entropy"] + 1

    @given(weights=st.lists(st.integers(1, 20), min_size=2, max_size=5))
    @few
    def test_no_prefix_code_is_shorter(self, weights):
        best = min(
            sum(weight * length for weight, length in zip(weights, lengths, strict=True))
            for lengths in itertools.product(range(1, len(weights)), repeat=len(weights))
            if sum(2.0**-length for length in lengths) <= 1
        )
        lengths = huffman_lengths(torch.tensor(weights)).tolist()
        assert sum(weight * length for weight, length in zip(weights, lengths, strict=True)) == best

    @given(weights=counts, seed=st.integers(0, 99))
    @few
    def test_names_of_ids_do_not_matter(self, weights, seed):
        order = np.random.default_rng(seed).permutation(len(weights))
        assert efficiency([weights[i] for i in order]) == pytest.approx(efficiency(weights), nan_ok=True)

    @given(stream=st.lists(st.integers(0, 6), min_size=2, max_size=30).filter(lambda ids: len(set(ids)) > 1))
    @few
    def test_a_text_of_these_words_can_be_read(self, stream):
        lengths = huffman_lengths(torch.bincount(torch.tensor(stream)))
        book = words(lengths.tolist())
        text = "".join(book[token] for token in stream)
        assert len(text) == sum(int(lengths[token]) for token in stream)
        ids, read, start = {word: token for token, word in book.items()}, [], 0
        for end in range(1, len(text) + 1):
            if text[start:end] in ids:
                read.append(ids[text[start:end]])
                start = end
        assert read == stream

    def test_unseen_ids_have_words(self):
        found = huffman_efficiency(torch.tensor([7, 0, 0, 0]), torch.tensor([0, 0, 0, 2]), token_rate=2)
        assert found["bits_per_token"] == 2
        bare = huffman_efficiency(torch.tensor([7, 1, 0]), torch.tensor([1, 0, 1]), token_rate=2, smoothing=0)
        assert bare["bits_per_second"] == math.inf

    def test_one_id_only_costs_nothing(self):
        found = huffman_efficiency(torch.tensor([0, 9, 0]), torch.tensor([0, 4, 0]), token_rate=50)
        assert (found["bits_per_token"], found["bits_per_second"], found["saving"]) == (0, 0, 1)
        assert found["entropy_efficiency"].isnan()
        assert found["fixed_ratio"].isnan()
        other = huffman_efficiency(torch.tensor([9, 0, 0]), torch.tensor([0, 4, 0]), token_rate=50)
        assert other["bits_per_token"] == 2

    def test_an_empty_test_split_is_nan(self):
        found = huffman_efficiency(torch.tensor([3, 1]), torch.tensor([0, 0]), token_rate=50)
        assert all(value.isnan() for value in found.values())
        assert huffman_lengths(torch.tensor([0, 0])).tolist() == [0, 0]

    def test_bad_arguments(self):
        one = torch.ones(3)
        for arguments in ((one, torch.ones(2)), (one.reshape(1, 3), one.reshape(1, 3)), (-2 * one, one)):
            with pytest.raises(InputError, match="counts"):
                huffman_efficiency(*arguments, token_rate=1)
        for rate in (0, -1, math.inf):
            with pytest.raises(InputError, match="token_rate must be above 0"):
                huffman_efficiency(one, one, token_rate=rate)
        with pytest.raises(InputError, match="too large"):
            huffman_lengths(torch.zeros(2**20 + 1))


class TestEntropy:
    def test_a_cycle_tells_the_next(self):
        assert conditional_entropy([[0, 1, 2] * 5]) == 0

    def test_by_hand(self):
        """After 0 come 0 and 1 alike, after 1 always 0: of 00, 01, 01, 10, 10, 00 two thirds are uncertain."""
        assert conditional_entropy([[0, 0, 1], [0, 1, 0], [1, 0, 0]]) == pytest.approx(2 / 3)

    def test_utterances_are_apart(self):
        assert math.isnan(conditional_entropy([[0], [1], []]))

    @given(corpus=corpora)
    @few
    def test_the_past_never_costs(self, corpus):
        pairs = [pair for stream in corpus for pair in itertools.pairwise(stream)]
        if pairs:
            seconds = Counter(second for _, second in pairs).values()
            plain = -sum(n / len(pairs) * math.log2(n / len(pairs)) for n in seconds)
            assert -1e-12 <= conditional_entropy(corpus) <= plain + 1e-9

    def test_bitrate(self):
        assert bitrate(12.5, [1024] * 8) == pytest.approx(1000)
        with pytest.raises(InputError, match="at least 1"):
            bitrate(25, [])
        with pytest.raises(InputError, match="token_rate"):
            bitrate(math.nan, [2])


def learn_plainly(corpus, vocab_size, max_merges):
    """Count all pairs anew for each merge."""
    corpus, merges = [list(stream) for stream in corpus], []
    for new in range(vocab_size, vocab_size + max_merges):
        found = {
            pair: sum(len(stream) - len(join(stream, pair, new)) for stream in corpus)
            for stream in corpus
            for pair in itertools.pairwise(stream)
        }
        best = min(found, key=lambda pair: (-found[pair], pair), default=None)
        if best is None or found[best] < 2:
            break
        merges.append(best)
        corpus = [join(stream, best, new) for stream in corpus]
    return merges, corpus


def join(stream, pair, new):
    result = []
    for token in stream:
        if result and (result[-1], token) == pair:
            result[-1] = new
        else:
            result.append(token)
    return result


def lengths_by_merges(stream, vocab_size):
    merges = learn_merges([stream], vocab_size, 100)
    return [len(apply_merges(stream, vocab_size, merges[:number])) for number in range(1, len(merges) + 1)]


class TestBytePairs:
    def test_by_hand(self):
        assert lengths_by_merges([0, 1] * 16, 2) == [16, 8, 4, 2]
        assert lengths_by_merges([7] * 16, 8) == [8, 4, 2]

    def test_a_sequence_without_repeated_pairs(self):
        """A linear de Bruijn sequence of order 2 over 8 ids: every pair at most once."""
        stream = [token for i in range(8) for j in range(i, 8) for token in ((i,) if i == j else (i, j))]
        assert len(stream) == 64
        assert max(Counter(itertools.pairwise(stream)).values()) == 1
        found = byte_pair_efficiency([stream], [stream], vocab_size=8, token_rate=50)
        assert (found["num_merges"], found["ratio"], found["gain"], found["tokens_per_second"]) == (0, 1, 1, 50)

    def test_merges_do_not_cross_utterances(self):
        assert learn_merges([[0], [1]] * 100, 2, 10) == []

    @given(corpus=corpora, max_merges=st.integers(0, 6))
    @few
    def test_it_is_the_plain_algorithm(self, corpus, max_merges):
        merges, joined = learn_plainly(corpus, 3, max_merges)
        assert learn_merges(corpus, 3, max_merges) == merges
        assert [apply_merges(stream, 3, merges) for stream in corpus] == joined

    @given(corpus=corpora)
    @few
    def test_more_merges_leave_no_more_tokens(self, corpus):
        ratios = [
            byte_pair_efficiency(corpus, corpus, vocab_size=3, token_rate=1, max_merges=m)["ratio"].item()
            for m in range(5)
        ]
        if any(corpus):
            assert ratios[0] == 1
            assert ratios == sorted(ratios)
        else:
            assert all(map(math.isnan, ratios))

    def test_figures_by_hand(self):
        """Two ids, one merge: 8 tokens become 4 of three ids."""
        found = byte_pair_efficiency([[0, 1] * 4], [[0, 1] * 4], vocab_size=2, token_rate=50, max_merges=1)
        assert found["ratio"] == 2
        assert found["tokens_per_second"] == 25
        assert found["bits_per_second"].item() == pytest.approx(25 * math.log2(3))
        assert found["gain"].item() == pytest.approx(2 / math.log2(3))
        assert byte_pair_efficiency([[0, 1] * 16], [], vocab_size=2, token_rate=50)["num_merges"] == 2

    def test_a_gain_can_be_a_loss(self):
        """What was learned does not occur in the test split, whose codes are longer now."""
        found = byte_pair_efficiency([[0, 1] * 9], [[2, 3, 3, 2]], vocab_size=4, token_rate=50)
        assert found["ratio"] == 1
        assert found["gain"] < 1

    def test_one_token(self):
        found = byte_pair_efficiency([[0]], [[0]], vocab_size=1, token_rate=50)
        assert (found["ratio"], found["bits_per_second"]) == (1, 0)
        assert found["gain"].isnan()

    def test_bad_arguments(self):
        with pytest.raises(InputError, match="max_merges must be at least 0"):
            learn_merges([[1]], 2, -1)
        with pytest.raises(TokenError, match=r"0\.\.1"):
            learn_merges([[2]], 2, 1)
        with pytest.raises(InputError, match="token_rate"):
            byte_pair_efficiency([[0]], [[0]], vocab_size=2, token_rate=0)


@pytest.mark.parametrize(("module", "count"), [(compression, 2), (byte_pairs, 0)])
def test_docstring_examples(module, count):
    result = doctest.testmod(module)
    assert (result.attempted, result.failed) == (count, 0)
