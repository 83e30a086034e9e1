"""Streams and similarities against what STAB's specification works out by hand (section 10) and against brute force."""

from __future__ import annotations

import doctest
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo import Tokens
from zoo.errors import InputError, TokenError
from zoo.metrics.tokens import similarity, streams
from zoo.metrics.tokens.edits import edit_distance, unit_edit_distance
from zoo.metrics.tokens.similarity import (
    chance_corrected,
    ngram_f_score,
    normalized_edit_distance,
    similarities,
)
from zoo.metrics.tokens.streams import collapse_runs, joint_stream, one_stream

ids = st.lists(st.integers(0, 3), max_size=12)


class TestStreams:
    def test_padding_does_not_count(self):
        tokens = Tokens(torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([3, 1]), 8)
        assert one_stream(tokens) == [[1, 2, 3], [4]]
        assert one_stream([torch.tensor([5, 5]), torch.tensor([], dtype=torch.int64)]) == [[5, 5], []]
        assert one_stream([[], [3]]) == [[], [3]]

    @pytest.mark.parametrize("bad", [torch.ones(3), torch.ones(3, 2, dtype=torch.int64), [1.5], ["a"], [True]])
    def test_other_than_one_stream_of_integers_is_refused(self, bad):
        with pytest.raises(TokenError, match="utterance 1: ids of one stream are integers"):
            one_stream([[1], bad])

    def test_the_vocabulary_is_kept(self):
        assert one_stream([[0, 7]], 8) == [[0, 7]]
        for bad in ([0, 8], [-1, 0]):
            with pytest.raises(TokenError, match=r"must lie in 0\.\.7"):
                one_stream([bad], 8)

    @given(data=st.data(), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3))
    @settings(max_examples=50, deadline=None)
    def test_a_joint_id_stands_for_one_tuple(self, data, sizes):
        rows = data.draw(st.lists(st.tuples(*(st.integers(0, size - 1) for size in sizes)), min_size=1, max_size=9))
        joint = joint_stream([torch.tensor(rows)], sizes)[0].tolist()
        assert len(set(joint)) == len(set(rows))
        assert sorted(zip(joint, rows, strict=True)) == sorted(zip(joint, rows, strict=True), key=lambda pair: pair[1])
        assert 0 <= min(joint) <= max(joint) < math.prod(sizes)

    def test_joint_streams_that_cannot_be(self):
        with pytest.raises(TokenError, match="below 2"):
            joint_stream([torch.zeros(1, 2, dtype=torch.int64)], [2**32, 2**32])
        with pytest.raises(TokenError, match=r"integers \[T, 2\]"):
            joint_stream([torch.zeros(4, dtype=torch.int64)], [2, 2])
        with pytest.raises(TokenError, match="outside its codebooks"):
            joint_stream([torch.tensor([[0, 2]])], [3, 2])

    @given(a=ids)
    def test_collapsing(self, a):
        collapsed = collapse_runs(a)
        assert all(x != y for x, y in itertools.pairwise(collapsed))
        assert collapse_runs(collapsed) == collapsed == collapse_runs([x for token in a for x in (token, token)])


class TestEditDistance:
    def test_by_hand(self):
        assert edit_distance([1, 2, 3], [1, 3]) == 1
        assert edit_distance("kitten", "sitting") == 3
        assert edit_distance([4, 5, 6], []) == 3
        assert normalized_edit_distance([0, 1, 2], [3, 4, 5]) == 1
        assert normalized_edit_distance([], []) == 0
        assert normalized_edit_distance([], [1]) == 1

    def test_symmetric_unlike_ued(self):
        x, y = [1], [1, 2, 3, 4]
        assert normalized_edit_distance(x, y) == normalized_edit_distance(y, x) == 0.75
        assert unit_edit_distance([y], [x]) == 300
        assert unit_edit_distance([x], [y]) == 75

    def test_ids_are_not_digits(self):
        assert edit_distance([1, 12], [11, 2]) == 2

    @given(a=ids, b=ids, suffix=ids)
    def test_properties(self, a, b, suffix):
        ned = normalized_edit_distance(a, b)
        assert 0 <= ned <= 1
        assert ned == normalized_edit_distance(b, a)
        assert (ned == 0) == (a == b)
        assert edit_distance(a + suffix, b + suffix) <= edit_distance(a, b)

    @pytest.mark.parametrize(("vocab", "wanted"), [(2, 0.31), (4, 0.53), (16, 0.83), (100, 0.98), (8192, 1.0)])
    def test_unrelated_streams_depend_on_the_vocabulary(self, vocab, wanted):
        draw = torch.Generator().manual_seed(vocab)
        pairs = torch.randint(vocab, (8, 2, 250), generator=draw).tolist()
        mean = sum(normalized_edit_distance(a, b) for a, b in pairs) / len(pairs)
        assert mean == pytest.approx(wanted, abs=0.02)


class TestOthers:
    def test_ngrams_by_hand(self):
        assert ngram_f_score([1, 2, 3], [1, 2, 4], max_order=2) == pytest.approx(0.583333, abs=1e-6)
        assert ngram_f_score([1, 2, 3, 4], [1, 2, 3, 5]) == pytest.approx(0.479167, abs=1e-6)
        assert ngram_f_score([1, 2], [3, 4]) == 0
        assert (ngram_f_score([], []), ngram_f_score([], [1])) == (1, 0)

    def test_recall_weighs_more_with_beta(self):
        """Precision 1 and recall ½: F is 2/3 at β = 1, and nears the recall with β."""
        assert ngram_f_score([1], [1, 2]) == pytest.approx(2 / 3)
        assert ngram_f_score([1], [1, 2], beta=100) == pytest.approx(0.5, abs=1e-3)
        assert ngram_f_score([1], [1, 2], beta=0.01) == pytest.approx(1, abs=1e-3)
        for arguments in ({"max_order": 0}, {"beta": 0.0}, {"beta": math.nan}):
            with pytest.raises(InputError, match="max_order must be at least 1"):
                ngram_f_score([1], [1], **arguments)

    @given(a=ids, b=ids)
    def test_ngram_properties(self, a, b):
        score = ngram_f_score(a, b)
        assert 0 <= score <= 1
        assert score == pytest.approx(ngram_f_score(b, a))
        assert ngram_f_score(a, a) == pytest.approx(1)

    def test_runs_matter_to_raw_only(self):
        collapsed, raw, _ = similarities([1, 1, 1, 2], [1, 2, 2, 2])
        assert (collapsed, raw) == (1, 0.5)

    def test_chance(self):
        assert chance_corrected(0.3, 0.3) == 0
        assert chance_corrected(1, 0.3) == 1
        assert chance_corrected(0.1, 0.2) == pytest.approx(-0.125)
        assert math.isnan(chance_corrected(1, 1))


@pytest.mark.parametrize(("module", "count"), [(similarity, 2), (streams, 2)])
def test_docstring_examples(module, count):
    result = doctest.testmod(module)
    assert (result.attempted, result.failed) == (count, 0)
