"""What one stream of tokens costs, and how much of its vocabulary it uses."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from zoo.evaluation.figures import Sheet, figure, row_interval
from zoo.evaluation.report import Figure
from zoo.evaluation.subject import LARGEST_TABLE, Stream, seen_only
from zoo.evaluation.suites.stab.config import StabSuite
from zoo.metrics.rows import ratio
from zoo.metrics.tokens.byte_pairs import apply_merges, byte_pair_costs, learn_merges
from zoo.metrics.tokens.compression import bitrate, conditional_entropy, huffman_efficiency, huffman_lengths
from zoo.metrics.tokens.streams import one_stream
from zoo.metrics.tokens.vocabulary import expected_coverage, subsample_counts, token_counts, vocabulary_use

__all__ = ["codes"]

_NO_TABLE = "the vocabulary is too large for a table"
_ONE_TOKEN = "there is one token only"
_HUFFMAN = ("bits_per_token", "entropy", "entropy_efficiency", "fixed_ratio", "saving")


def codes(
    train: Sequence[Tensor],
    test: Sequence[Tensor],
    *,
    stream: Stream,
    token_rate: float | None,
    seconds: float,
    suite: StabSuite,
) -> Sheet:
    """Return compressibility, vocabulary use and bitrate.

    Args:
        train: Ids of recordings that codes are made of.
        test: Ids of recordings that they are measured on.
        stream: Whose ids.
        token_rate: Tokens a second, as the tokenizer says; as counted in `test` if None.
        seconds: Of the recordings of `test`.
        suite: What is measured.
    """
    units = [row.tolist() for row in test]
    total = sum(map(len, units))
    rate = token_rate or (total / seconds if seconds else math.nan)
    sheet: Sheet = {
        "test_tokens": Figure(total),
        "tokens_per_second": figure(total / seconds if seconds else math.nan, "there is nothing to measure on"),
    }
    if not rate > 0:
        return sheet | _all_missing("there are no test recordings, and the rate of tokens is unknown")
    sheet["bits_per_second"] = Figure(bitrate(rate, stream.codebook_sizes))
    if not total or not any(len(row) for row in train):
        return sheet | _all_missing("the manifest has no recordings for the parts 'train' and 'test'")
    counts = token_counts(*seen_only(test, stream))
    return (
        sheet
        | _huffman(train, units, stream, rate, suite)
        | _byte_pairs(train, units, stream, rate, suite)
        | _use(counts, stream, suite)
    )


def _huffman(
    train: Sequence[Tensor], test: Sequence[Sequence[int]], stream: Stream, rate: float, suite: StabSuite
) -> Sheet:
    sheet: Sheet = {"first_order_bits_per_second": figure(rate * conditional_entropy(test), "no two tokens follow")}
    if stream.vocab_size > LARGEST_TABLE:
        names = ("bits_per_second", *_HUFFMAN)
        return sheet | {f"huffman_{name}": Figure.missing(_NO_TABLE) for name in names}
    made, measured = token_counts(train, stream.vocab_size), token_counts(test, stream.vocab_size)
    found = {key: float(value) for key, value in huffman_efficiency(made, measured, token_rate=rate).items()}
    sheet |= {f"huffman_{name}": figure(found[name], _ONE_TOKEN) for name in _HUFFMAN}
    cost = Figure(found["bits_per_second"])
    if found["bits_per_token"]:
        lengths = huffman_lengths(made + 1)
        rows = [{"bits": int(lengths[list(row)].sum()), "tokens": len(row)} for row in test if row]
        cost = row_interval(rows, ratio("bits", "tokens", rate), suite.bootstrap, _ONE_TOKEN)
    return sheet | {"huffman_bits_per_second": cost}


def _byte_pairs(
    train: Sequence[Tensor], test: Sequence[Sequence[int]], stream: Stream, rate: float, suite: StabSuite
) -> Sheet:
    """Return what is left after as many merges as there are ids, and after a number that is the same for all."""
    numbers = {"bpe": stream.vocab_size, "bpe_fixed": suite.num_merges}
    if stream.vocab_size > LARGEST_TABLE:
        del numbers["bpe"]
    learned = learn_merges(one_stream(train), stream.vocab_size, max(numbers.values()))
    sheet: Sheet = {}
    for prefix, number in numbers.items():
        merges = learned[:number]
        rows = [{"before": len(row), "after": len(apply_merges(row, stream.vocab_size, merges))} for row in test if row]
        before, after = (sum(row[name] for row in rows) for name in ("before", "after"))
        costs = byte_pair_costs(before, after, num_merges=len(merges), vocab_size=stream.vocab_size, token_rate=rate)
        sheet |= {f"{prefix}_{name}": figure(value, _ONE_TOKEN) for name, value in costs.items()}
        sheet[f"{prefix}_ratio"] = row_interval(rows, ratio("before", "after"), suite.bootstrap, _ONE_TOKEN)
    if "bpe" not in numbers:
        names = ("ratio", "tokens_per_second", "num_merges", "bits_per_second", "gain")
        sheet |= {f"bpe_{name}": Figure.missing("so many merges as there are ids are never learned") for name in names}
    return sheet


def _use(counts: Tensor, stream: Stream, suite: StabSuite) -> Sheet:
    """Return vocabulary use of all tokens, and of a number of them that is the same for all tokenizers."""
    sheet = _one_use(counts, stream, "")
    ending = "_equal"
    if int(counts.sum()) < suite.num_tokens:
        reason = f"there are {int(counts.sum())} tokens only"
        return sheet | {f"{key}{ending}": Figure.missing(reason) for key in sheet}
    return sheet | _one_use(subsample_counts(counts, suite.num_tokens, suite.seed), stream, ending)


def _one_use(counts: Tensor, stream: Stream, ending: str) -> Sheet:
    found = {key: float(value) for key, value in vocabulary_use(counts).items()}
    size, bits = stream.vocab_size, math.log2(stream.vocab_size)
    # Counts may be of the ids that were seen alone, and shares are of all that there are.
    known = math.log2(len(counts))
    shares = {
        "coverage": found["num_used"] / size,
        "entropy_share": found["entropy"] / bits if bits else math.nan,
        "renyi_efficiency": found["renyi_efficiency"] * known / bits if bits and known else math.nan,
        "expected_coverage": expected_coverage(size, int(found["num_tokens"])),
    }
    return {f"vocabulary_{key}{ending}": figure(value, _ONE_TOKEN) for key, value in {**found, **shares}.items()}


def _all_missing(reason: str) -> Sheet:
    costs = [f"huffman_{name}" for name in ("bits_per_second", *_HUFFMAN)]
    costs += [f"{prefix}_ratio" for prefix in ("bpe", "bpe_fixed")]
    use = [
        f"vocabulary_{name}{ending}"
        for name in ("coverage", "entropy", "entropy_share", "renyi_efficiency")
        for ending in ("", "_equal")
    ]
    return {key: Figure.missing(reason) for key in ("first_order_bits_per_second", *costs, *use)}
