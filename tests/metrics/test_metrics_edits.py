"""Edit distances against the plain table, torchmetrics, and what StableToken's specification works out by hand."""

from __future__ import annotations

import doctest
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.text import char_error_rate as reference_cer
from torchmetrics.functional.text import edit_distance as reference_distance
from torchmetrics.functional.text import word_error_rate as reference_wer

from zoo import Tokens
from zoo.errors import InputError
from zoo.metrics.tokens import edits
from zoo.metrics.tokens.edits import (
    CharacterErrorRate,
    WordErrorRate,
    character_error_rate,
    edit_distance,
    normalize_text,
    unit_edit_distance,
    unit_edits,
    word_error_rate,
)

ids = st.lists(st.integers(0, 3), max_size=12)


def plain(a, b):
    table = {(i, 0): i for i in range(len(a) + 1)} | {(0, j): j for j in range(len(b) + 1)}
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            substitution = table[i - 1, j - 1] + (a[i - 1] != b[j - 1])
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, substitution)
    return table[len(a), len(b)]


class TestDistance:
    @given(a=ids, b=ids)
    @settings(max_examples=400, deadline=None)
    def test_it_is_that_of_the_plain_table(self, a, b):
        assert edit_distance(a, b) == edit_distance(b, a) == plain(a, b)

    def test_long_sequences(self):
        draw = random.Random(0)
        for size in (63, 64, 65, 300):
            a = [draw.randrange(8) for _ in range(size)]
            b = [x for x in a if draw.random() < 0.9]
            b = [draw.randrange(8) if draw.random() < 0.2 else x for x in b] + [1, 2]
            assert edit_distance(a, b) == plain(a, b)

    @given(a=st.text("abc", max_size=10), b=st.text("abc", max_size=10))
    @settings(max_examples=50, deadline=None)
    def test_torchmetrics_agrees(self, a, b):
        assert edit_distance(a, b) == reference_distance(a, b)


class TestUnits:
    def test_nothing_changed(self):
        assert unit_edit_distance([[1, 2, 3], [4]], [[1, 2, 3], [4]]) == 0

    def test_long_utterances_weigh_more(self):
        """The mean of the utterances' rates would be 25 %."""
        clean = [list(range(10)), list(range(90))]
        noisy = [[*range(5), *[99] * 5], list(range(90))]
        assert unit_edit_distance(noisy, clean) == 5
        assert unit_edits(noisy, clean).tolist() == [[5, 10], [0, 90]]

    def test_repeated_ids_count(self):
        assert unit_edit_distance([[1, 2]], [[1, 1, 2]]).item() == pytest.approx(100 / 3)

    def test_it_can_exceed_a_hundred(self):
        assert unit_edit_distance([[1, 2, 3, 4]], [[5]]) == 400
        assert unit_edit_distance([[]], [[5, 6]]) == 100

    def test_languages_weigh_alike(self):
        noisy, clean = [[1] * 10, [0] * 90, [1] * 2], [[0] * 10, [0] * 90, [0] * 2]
        assert unit_edit_distance(noisy, clean, ["en", "en", "zh"]).item() == pytest.approx((10 + 100) / 2)
        assert unit_edit_distance(noisy, clean).item() == pytest.approx(100 * 12 / 102)

    def test_nothing_to_compare_with_is_nan(self):
        assert unit_edit_distance([], []).isnan()
        assert unit_edit_distance([[1]], [[]]).isnan()
        assert unit_edit_distance([], [], []).isnan()

    def test_padding_of_tokens_does_not_count(self):
        clean = Tokens(torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([3, 1]), 8)
        noisy = Tokens(torch.tensor([[1, 2, 7, 5], [4, 6, 0, 0]]), torch.tensor([3, 1]), 8)
        assert unit_edits(noisy, clean).tolist() == [[1, 3], [0, 1]]

    def test_codebooks_are_added_up(self):
        clean = torch.tensor([[[1, 5], [2, 6], [3, 7]]])
        noisy = torch.tensor([[[1, 5], [2, 9], [4, 9]]])
        one = Tokens(clean, torch.tensor([3]), 16)
        assert unit_edits(Tokens(noisy, torch.tensor([3]), 16), one).tolist() == [[3, 6]]
        assert unit_edits(noisy, clean).tolist() == [[3, 6]]
        with pytest.raises(InputError, match="utterance 0 has 1 and 2 codebooks"):
            unit_edits([[1, 2]], clean)

    def test_bad_arguments(self):
        with pytest.raises(InputError, match="2 items to compare with 1 reference"):
            unit_edits([[1], [2]], [[1]])
        with pytest.raises(InputError, match="1 languages for 2 items"):
            unit_edit_distance([[1], [2]], [[1], [2]], ["en"])
        with pytest.raises(InputError, match="integers"):
            unit_edits([torch.ones(3)], [torch.ones(3)])


class TestText:
    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            ("Hello,   WORLD!\n", "hello world"),
            ("don't won’t", "dont wont"),
            ("state-of-the-art — yes", "state of the art yes"),
            ("ÉCOLE e\u0301cole", "école école"),
            ("你好，世界。", "你好 世界"),
            ("ＡＢＣ１２３", "abc123"),
            ("C++ costs $5", "c costs 5"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("a\u200bb\u00adc", "abc"),
            ("हिन्दी।", "हिन्दी"),
            ("s\u200c\u0327", "\u015f"),
            ("…", ""),
        ],
    )
    def test_normalization(self, text, wanted):
        assert normalize_text(text) == wanted

    @given(text=st.text(max_size=20))
    @settings(max_examples=300, deadline=None)
    def test_normalization_is_done_once(self, text):
        assert normalize_text(normalize_text(text)) == normalize_text(text)

    @given(
        texts=st.lists(st.tuples(st.text("ab c", max_size=12), st.text("ab c", max_size=12)), min_size=1, max_size=4)
    )
    @settings(max_examples=100, deadline=None)
    def test_torchmetrics_agrees(self, texts):
        hypotheses, references = map(list, zip(*texts, strict=True))
        if any(text.split() for text in references):
            wanted = 100 * reference_wer(hypotheses, references).item()
            assert word_error_rate(hypotheses, references).item() == pytest.approx(wanted, rel=1e-5)
            joined = [[text.replace(" ", "") for text in side] for side in (hypotheses, references)]
            wanted = 100 * reference_cer(*joined).item()
            assert character_error_rate(hypotheses, references).item() == pytest.approx(wanted, rel=1e-5)
        else:
            assert word_error_rate(hypotheses, references).isnan()

    def test_by_hand(self):
        assert word_error_rate(["The cat sat."], ["the cat sat down"]) == 25
        assert character_error_rate(["你好 世 界"], ["你好，世间"]) == 25
        assert word_error_rate(["a", "b"], ["a", "c"], ["en", "fr"]) == 50

    def test_a_bare_text_is_refused(self):
        for arguments in (("a b", ["a b"]), (["a b"], "a b"), ("a b", "a b")):
            with pytest.raises(InputError, match=r"write \[text\]"):
                word_error_rate(*arguments)


TEXTS = (["a b c", "d d", "", "e e", "f"], ["a b", "d d d", "g", "e e", "h"])
LANGUAGES = ["en", "en", "zh", "zh", "en"]
METRICS = {
    "word": (WordErrorRate, word_error_rate, TEXTS),
    "character": (CharacterErrorRate, character_error_rate, TEXTS),
}


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("languages", [None, LANGUAGES])
class TestMetrics:
    def make(self, name, languages, **options):
        return METRICS[name][0](("en", "zh", "fr") if languages else (), **options)

    def feed(self, metric, name, languages, start, stop):
        noisy, clean = METRICS[name][2]
        metric.update(noisy[start:stop], clean[start:stop], languages and languages[start:stop])
        return metric

    def wanted(self, name, languages):
        return METRICS[name][1](*METRICS[name][2], languages)

    def test_parts_equal_the_whole(self, name, languages):
        metric = self.make(name, languages)
        for start, stop in ((0, 2), (2, 2), (2, 5)):
            self.feed(metric, name, languages, start, stop)
        assert metric.compute() == self.wanted(name, languages)
        metric.reset()
        assert self.feed(metric, name, languages, 0, 5).compute() == self.wanted(name, languages)

    def test_two_processes_equal_one(self, name, languages):
        """The state of a second metric stands in for another process, through torchmetrics' own synchronisation."""
        there = self.feed(self.make(name, languages), name, languages, 2, 5)
        options = {
            "dist_sync_fn": lambda mine, group: [mine, there.counts],
            "distributed_available_fn": lambda: True,
        }
        here = self.feed(self.make(name, languages, **options), name, languages, 0, 2)
        assert here.compute() == self.wanted(name, languages)

    def test_nothing_seen_is_nan(self, name, languages):
        assert self.feed(self.make(name, languages), name, languages, 0, 0).compute().isnan()


def test_a_metric_with_languages_wants_them():
    metric = WordErrorRate(("en", "zh"))
    with pytest.raises(InputError, match="give the items' languages"):
        metric.update(["a"], ["a"])
    with pytest.raises(InputError, match="'de' is not declared"):
        metric.update(["a"], ["a"], ["de"])


def test_docstring_examples():
    result = doctest.testmod(edits)
    assert (result.attempted, result.failed) == (2, 0)
