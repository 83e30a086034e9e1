"""All STAB-style metrics on degenerate tokenizers, whose figures its specification tabulates (section 10).

They show why the metrics must be read together: a tokenizer that says nothing is the most robust of all.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from zoo.metrics.tokens.byte_pairs import byte_pair_efficiency
from zoo.metrics.tokens.compression import bitrate, huffman_efficiency
from zoo.metrics.tokens.robustness import overall_robustness, robustness
from zoo.metrics.tokens.speaker import speaker_invariance
from zoo.metrics.tokens.vocabulary import token_counts, vocabulary_use

VOCAB, SPEAKERS, TEXTS, RATE, PHONES = 256, 4, 60, 25, 16


def constant(phones, speaker, rng):
    return [7] * len(phones)


def random(phones, speaker, rng):
    return rng.integers(0, VOCAB, len(phones)).tolist()


def oracle(phones, speaker, rng):
    return phones


def relabelled(phones, speaker, rng):
    return [PHONES * speaker + phone for phone in phones]


def measure(tokenize):
    """Every text is some words of phones, read by every speaker; noise is another call with the same words."""
    rng = np.random.default_rng(0)
    words = (rng.permutation(5 * PHONES) % PHONES).reshape(20, 4).tolist()
    texts = [[phone for word in rng.integers(0, 20, 10) for phone in words[word]] for _ in range(TEXTS)]
    rows = [(number, speaker) for number in range(TEXTS) for speaker in range(SPEAKERS)]
    clean, noisy = ([tokenize(texts[number], speaker, rng) for number, speaker in rows] for _ in range(2))
    speakers = speaker_invariance(
        clean,
        [str(number) for number, _ in rows],
        [str(speaker) for _, speaker in rows],
        [1.6] * len(rows),
        max_pairs=3,
    )
    half = len(rows) // 2
    train, test = clean[:half], clean[half:]
    counts = token_counts(train, VOCAB), token_counts(test, VOCAB)
    changed = robustness(noisy[:half], clean[:half])["ned_collapsed"].item()
    return SimpleNamespace(
        index=speakers["index_collapsed"].item(),
        robustness=overall_robustness({"noise": [changed]}),
        bits=huffman_efficiency(*counts, token_rate=RATE)["bits_per_second"].item(),
        ratio=byte_pair_efficiency(train, test, vocab_size=VOCAB, token_rate=RATE)["ratio"].item(),
        coverage=vocabulary_use(sum(counts))["coverage"].item(),
    )


@pytest.fixture(scope="module")
def found():
    return {tokenize.__name__: measure(tokenize) for tokenize in (constant, random, oracle, relabelled)}


def test_a_constant_is_robust_and_cheap_and_says_nothing(found):
    one = found["constant"]
    assert math.isnan(one.index)
    assert (one.robustness, one.bits, one.coverage) == (1, 0, 1 / VOCAB)
    assert one.ratio > 10


def test_random_ids_are_none_of_it(found):
    one = found["random"]
    assert one.index == pytest.approx(0, abs=0.02)
    assert one.robustness == pytest.approx(0, abs=0.1)
    assert one.bits == pytest.approx(bitrate(RATE, [VOCAB]), rel=0.02)
    assert one.ratio == pytest.approx(1, abs=0.1)
    assert one.coverage > 0.99


def test_an_oracle_of_content_is_all_of_it(found):
    one = found["oracle"]
    assert (one.index, one.robustness) == (1, 1)
    assert one.bits < 0.6 * found["random"].bits
    assert one.ratio > 1.5
    assert one.coverage == PHONES / VOCAB


def test_an_oracle_with_ids_for_each_speaker_fails_at_speakers_only(found):
    one = found["relabelled"]
    assert one.index <= 0
    assert one.robustness == 1
    assert one.ratio > 1.5
    assert one.coverage == SPEAKERS * found["oracle"].coverage
    assert one.bits == pytest.approx(found["oracle"].bits + RATE * math.log2(SPEAKERS), rel=0.1)
