"""How many tokens change where long speech is cut otherwise than `encode` cuts it.

A token may depend on all that is encoded with it. Compared with `encode(wave)` are, token by token, segments that
overlap, chunks with surroundings, and, to see what a cut alone does, segments that begin later.

A clip is what one speaker of the manifest says, utterance after utterance, until it is long enough.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from zoo.data.manifest import Utterance
from zoo.evaluation.figures import row_interval
from zoo.evaluation.items import Bootstrap
from zoo.evaluation.report import Figure
from zoo.evaluation.suites.invariance.config import Chunking
from zoo.evaluation.suites.invariance.items import tensor
from zoo.metrics.rows import Row, ratio
from zoo.spec import option_names
from zoo.tokenizer import Tokenizer
from zoo.tokens import Tokens

__all__ = ["CUTS", "chunking", "clips"]

_OVERLAPS = (2.0, 5.0)
_CHUNKS = (2.0, 5.0, 10.0)
_SURROUNDINGS = (0.0, 1.0, 2.0, 5.0)
_LATER = 15

CUTS = {
    "later": f"segments that begin {_LATER} s later",
    **{f"overlap_{seconds:g}": f"segments that overlap by {seconds:g} s" for seconds in _OVERLAPS},
    **{
        f"chunk_{chunk:g}_{around:g}": f"chunks of {chunk:g} s, {around:g} s on either side"
        for chunk in _CHUNKS
        for around in _SURROUNDINGS
    },
}
"""How speech is cut, and what it is called."""


@runtime_checkable
class Chunked(Protocol):
    """A tokenizer that gives tokens chunk by chunk."""

    def encode_chunks(self, x: Any, *, chunk: float, left: float, right: float) -> Iterator[Tokens]:
        """Turn a wave into the tokens of consecutive chunks."""


def clips(tokenizer: Tokenizer, utterances: Sequence[Utterance], wanted: Chunking) -> dict[str, Tensor]:
    """Return waves (samples,) by speaker, each at least as long as wanted, speakers with most speech first."""
    said: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        if not utterance.source.startswith(wanted.without):
            said[utterance.speaker].append(utterance)
    amounts = {speaker: sum(each.seconds() for each in listed) for speaker, listed in said.items()}
    enough = sorted((s for s, amount in amounts.items() if amount >= wanted.seconds), key=lambda s: (-amounts[s], s))
    waves = {}
    for speaker in enough[: wanted.num_clips]:
        parts, total = [], 0.0
        for utterance in said[speaker]:
            if total < wanted.seconds:
                parts.append(tensor(tokenizer, utterance))
                total += utterance.seconds()
        waves[speaker] = torch.cat(parts)
    return waves


def chunking(
    tokenizer: Tokenizer, utterances: Sequence[Utterance], wanted: Chunking, bootstrap: Bootstrap
) -> dict[str, Figure]:
    """Return the share of ids that change with each cut, nothing for tokenizers that do not give chunks."""
    if not isinstance(tokenizer, Chunked):
        return {}
    waves = list(clips(tokenizer, utterances, wanted).values())
    reason = f"no speaker of the manifest has {wanted.seconds:g} s"
    plain = [_ids(tokenizer.encode(wave)) for wave in waves]
    figures = {}
    for cut, encode in _cuts(tokenizer, tokenizer).items():
        rows: list[Row] = []
        for wave, whole in zip(waves, plain, strict=True):
            ids = encode(wave)
            expected = whole[len(whole) - len(ids) :] if cut == "later" else whole
            shared = min(len(ids), len(expected))
            differ = int((ids[:shared] != expected[:shared]).sum()) + abs(len(ids) - len(expected))
            rows.append({"changed": differ, "ids": len(expected)})
        figures[f"cut@{cut}"] = row_interval(rows, ratio("changed", "ids"), bootstrap, reason)
    return figures


def _ids(tokens: Tokens) -> Tensor:
    return tokens.ids[0, : int(tokens.lengths[0])].cpu()


def _cuts(tokenizer: Tokenizer, chunked: Chunked) -> dict[str, Callable[[Tensor], Tensor]]:
    rate = int(tokenizer.spec.sample_rate or 1)

    def overlapped(seconds: float) -> Callable[[Tensor], Tensor]:
        return lambda wave: _ids(tokenizer.encode(wave, **{"overlap": seconds}))

    def in_chunks(chunk: float, around: float) -> Callable[[Tensor], Tensor]:
        return lambda wave: torch.cat(
            [_ids(part) for part in chunked.encode_chunks(wave, chunk=chunk, left=around, right=around)]
        )

    cuts: dict[str, Callable[[Tensor], Tensor]] = {"later": lambda wave: _ids(tokenizer.encode(wave[_LATER * rate :]))}
    if "overlap" in option_names(tokenizer.encode_options):
        cuts |= {f"overlap_{seconds:g}": overlapped(seconds) for seconds in _OVERLAPS}
    return cuts | {
        f"chunk_{chunk:g}_{around:g}": in_chunks(chunk, around) for chunk in _CHUNKS for around in _SURROUNDINGS
    }
