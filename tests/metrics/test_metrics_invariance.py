"""Invariance to speaker and language: toy tokenizers whose figures STAB's specification (section 10) knows."""

from __future__ import annotations

import doctest
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import InputError, TokenError
from zoo.metrics.bootstrap import bootstrap_interval
from zoo.metrics.tokens import language
from zoo.metrics.tokens.language import bag_similarity, language_invariance, retrieval
from zoo.metrics.tokens.similarity import normalized_edit_distance
from zoo.metrics.tokens.speaker import speaker_invariance, speaker_similarities

few = settings(max_examples=30, deadline=None)


def content(text, count=12):
    """Ids of what is said: its own for each text, no two alike in a row."""
    return [10 * text + i % 5 for i in range(count)]


NUMBERS = [(text, speaker) for text in range(4) for speaker in range(3)]
TEXTS = [f"t{text}" for text, _ in NUMBERS]
SPEAKERS = ["a", "b", "c"] * 4


class TestSpeaker:
    def measure(self, units, **options):
        found = speaker_invariance(units, TEXTS, SPEAKERS, [1.0] * 12, **options)
        return {name: value.item() for name, value in found.items()}

    def test_speakers_with_ids_of_their_own(self):
        found = self.measure([[1000 * speaker + token for token in content(text)] for text, speaker in NUMBERS])
        assert found["similarity_collapsed"] == found["similarity_raw"] == found["similarity_ngram"] == 0

    def test_content_only(self):
        found = self.measure([content(text) for text, _ in NUMBERS])
        assert found["num_texts"] == 4
        for name in ("collapsed", "raw", "ngram"):
            assert found[f"similarity_{name}"] == found[f"index_{name}"] == pytest.approx(1)
            assert found[f"floor_{name}"] == 0
            assert math.isnan(found[f"repeated_{name}"])

    def test_a_constant_says_nothing(self):
        found = self.measure([[7] * 5 for _ in NUMBERS])
        assert found["similarity_collapsed"] == found["floor_collapsed"] == 1
        assert math.isnan(found["index_collapsed"])

    def test_every_other_position(self):
        units = [
            [token if i % 2 else 1000 * (speaker + 1) + i for i, token in enumerate(content(text))]
            for text, speaker in NUMBERS
        ]
        assert normalized_edit_distance(units[0], units[1]) == 0.5
        assert self.measure(units)["similarity_raw"] == 0.5

    def test_texts_weigh_alike(self):
        """Fifteen speakers who share nothing in one text, two who share all in another."""
        units = [[number] for number in range(15)] + [[99], [99]]
        texts, speakers = ["many"] * 15 + ["few"] * 2, [str(number) for number in range(17)]
        found = speaker_similarities(units, texts, speakers)
        assert sorted(found[:, 0].tolist()) == [0, 1]
        assert bootstrap_interval(found[:, 0]).estimate == 0.5
        assert speaker_invariance(units, texts, speakers, [1.0] * 17)["similarity_collapsed"] == 0.5

    def test_names_of_speakers_do_not_matter(self):
        units = [torch.randint(5, (9,), generator=torch.Generator().manual_seed(n)) for n in range(12)]
        found = speaker_similarities(units, TEXTS, SPEAKERS)
        torch.testing.assert_close(speaker_similarities(units, TEXTS, ["c", "a", "b"] * 4), found)

    def test_takes_of_one_speaker_are_an_anchor_not_a_pair(self):
        found = speaker_invariance([[1, 2], [1, 2], [3, 4]], ["t"] * 3, ["a", "a", "b"], [1.0] * 3)
        assert (found["repeated_raw"], found["similarity_raw"]) == (1, 0)
        assert found["floor_raw"].isnan()

    def test_the_floor_is_of_similar_durations(self):
        """Texts share ids only with what is a fifth longer than they are, or more."""
        units, texts, speakers = [[1], [2], [1], [2]], ["t", "u", "v", "w"], ["a", "b", "c", "d"]
        close = speaker_invariance(units, texts, speakers, [1.0, 1.25, 2.0, 2.5])
        assert close["floor_raw"] == 0  # 1 with 1.25, 2 with 2.5
        assert speaker_invariance(units, texts, speakers, [1.0, 2.0, 1.25, 2.5])["floor_raw"] == 1
        assert speaker_invariance(units, texts, speakers, [1.0, 1.26, 2.0, 2.6])["floor_raw"].isnan()
        assert speaker_invariance(units, texts, ["a"] * 4, [1.0] * 4)["floor_raw"].isnan()

    def test_pairs_are_drawn(self):
        units = [[number % 2] for number in range(20)]
        texts, speakers = ["t"] * 20, [str(number) for number in range(20)]
        whole = speaker_similarities(units, texts, speakers)[0, 0].item()
        assert whole == pytest.approx(90 / 190)
        drawn = {speaker_similarities(units, texts, speakers, max_pairs=20, seed=n)[0, 0].item() for n in range(40)}
        assert len(drawn) > 3
        assert sum(drawn) / len(drawn) == pytest.approx(whole, abs=0.1)
        assert all(share * 20 == pytest.approx(round(share * 20)) for share in drawn)
        order = torch.randperm(20, generator=torch.Generator().manual_seed(0)).tolist()
        shuffled = [[column[i] for i in order] for column in (units, texts, speakers)]
        assert torch.equal(
            speaker_similarities(*shuffled, max_pairs=20), speaker_similarities(units, texts, speakers, max_pairs=20)
        )

    def test_nothing_to_compare(self):
        for arguments in (([], [], [], []), ([[1]], ["t"], ["a"], [1.0])):
            found = speaker_invariance(*arguments)
            assert found.pop("num_texts") == 0
            assert all(value.isnan() for value in found.values())
        assert speaker_similarities([], [], []).shape == (0, 3)
        assert speaker_invariance([[], []], ["t"] * 2, ["a", "b"], [1.0] * 2)["similarity_raw"] == 1

    def test_bad_arguments(self):
        with pytest.raises(InputError, match="1 utterances: give as many texts"):
            speaker_similarities([[1]], [], ["a"])
        with pytest.raises(InputError, match="as many speakers"):
            speaker_similarities([[1]], ["t"], "a")
        with pytest.raises(InputError, match="durations must be seconds above 0"):
            speaker_invariance([[1]], ["t"], ["a"], [0.0])
        with pytest.raises(InputError, match="max_pairs"):
            speaker_similarities([[1]], ["t"], ["a"], max_pairs=0)


def sentences(count=20, size=12, vocab=8, seed=0):
    return torch.randint(vocab, (count, size), generator=torch.Generator().manual_seed(seed)).tolist()


class TestLanguage:
    def measure(self, first, second, vocab=16):
        return {name: value.item() for name, value in language_invariance(first, second, vocab_size=vocab).items()}

    def test_the_same_tokens(self):
        found = self.measure(sentences(), sentences())
        for name in ("bag", "bag_raw", "bag_index", "top1", "reciprocal_rank", "distribution"):
            assert found[name] == pytest.approx(1), name
        assert found["kl"] == found["kl_back"] == 0
        assert found["chance"] == 1 / 20

    def test_tokens_of_each_languages_own(self):
        found = self.measure(sentences(), [[token + 8 for token in ids] for ids in sentences()])
        assert found["distribution"] == pytest.approx(0, abs=1e-9)
        assert found["bag"] == found["bag_index"] == 0
        assert found["top1"] == pytest.approx(found["chance"])
        assert found["reciprocal_rank"] == pytest.approx(sum(1 / rank for rank in range(1, 21)) / 20)

    def test_wrong_translations(self):
        """They share an inventory, not a meaning."""
        found = self.measure(sentences(), sentences()[1:] + sentences()[:1])
        assert found["distribution"] == pytest.approx(1)
        assert found["bag_index"] == pytest.approx(0, abs=0.1)
        assert found["top1"] == 0

    def test_runs(self):
        found = self.measure([[1, 1, 1, 2], [3]], [[2, 2, 1], [4]])
        assert found["bag"] == (1 + 0) / 2
        assert found["bag_raw"] == pytest.approx((2 / 5 + 0) / 2)
        assert found["bag_floor"] == 0

    @given(a=st.lists(st.integers(0, 3), max_size=9), b=st.lists(st.integers(0, 3), max_size=9))
    @few
    def test_bags(self, a, b):
        found = bag_similarity(a, b)
        vectors = [[ids.count(token) for token in range(4)] for ids in (a, b)]
        common, either = (sum(map(f, *vectors)) for f in (min, max))
        assert found == (common / either if either else 1)
        assert found == bag_similarity(b, a) == bag_similarity(sorted(a), b)

    def test_retrieval_by_hand(self):
        """The first finds itself; the second's answer is as good as the third's, and the third's has nothing of it."""
        found = retrieval([[1], [2], [3]], [[1], [2], [2]], max_order=1)
        assert found["top1"].item() == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
        reciprocal = (1 + (1 + 1 / 2) / 2 + (1 + 1 / 2 + 1 / 3) / 3) / 3
        assert found["reciprocal_rank"].item() == pytest.approx(reciprocal)

    def test_rare_ngrams_weigh_more(self):
        """All answers have 1; that with the query's rare id comes first."""
        found = retrieval([[1, 2], [1, 3]], [[1, 2], [1, 3]], max_order=1)
        assert found["top1"] == 1
        swapped = retrieval([[1, 2], [1, 3]], [[1, 3], [1, 2]], max_order=1)
        assert (swapped["top1"], swapped["reciprocal_rank"]) == (0, 0.5)

    def test_order_is_heard_by_longer_ngrams(self):
        questions = [[1, 2, 3], [3, 2, 1]]
        assert retrieval(questions, questions, max_order=1)["top1"] == 0.5
        assert retrieval(questions, questions, max_order=2)["top1"] == 1

    def test_nothing_to_measure(self):
        found = self.measure([], [])
        assert all(math.isnan(value) for value in found.values())
        one = self.measure([[1]], [[1]])
        assert (one["bag"], one["top1"], one["chance"]) == (1, 1, 1)
        assert math.isnan(one["bag_floor"])
        assert math.isnan(one["bag_index"])
        assert self.measure([[]], [[]])["top1"] == 1

    def test_bad_arguments(self):
        with pytest.raises(InputError, match="1 items to compare with 2"):
            retrieval([[1]], [[1], [2]])
        with pytest.raises(InputError, match="max_order"):
            retrieval([[1]], [[1]], max_order=0)
        with pytest.raises(InputError, match="max_pairs"):
            language_invariance([[1]], [[1]], vocab_size=2, max_pairs=0)
        with pytest.raises(TokenError, match=r"0\.\.1"):
            language_invariance([[2]], [[1]], vocab_size=2)

    @pytest.mark.parametrize("most", [1, 7, 20, 99])
    def test_floors_are_of_different_sentences(self, most):
        pairs = language._mismatched(5, most, 0).tolist()
        assert len(pairs) == len({*map(tuple, pairs)}) == min(most, 20)
        assert all(i != j and 0 <= i < 5 and 0 <= j < 5 for i, j in pairs)


def test_docstring_examples():
    result = doctest.testmod(language)
    assert (result.attempted, result.failed) == (1, 0)
