"""How many tokens of the same speech change with its place in what a tokenizer sees.

An extension to context invariance. Something is put before a clip, or its start is cut off, or its halves are encoded
alone, and what is left of the clip's own tokens is compared with those it had: edits in the tokens that hold any of the
speech, over the number that there were. Where nothing but the place of speech changed, 0 is what one would like; off
the grid of tokens speech may reach into one more than before, which is an edit.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.evaluation.figures import Sheet, row_interval
from zoo.evaluation.report import Column, Report
from zoo.evaluation.subject import Stream, Subject
from zoo.evaluation.suites.stab.config import Place, StabSuite
from zoo.evaluation.suites.stab.corpus import Recording
from zoo.metrics.rows import Row, ratio
from zoo.metrics.tokens.edits import edit_distance
from zoo.metrics.tokens.streams import key
from zoo.process.random import derive_seed

__all__ = ["PlaceTally", "place_columns"]

_TITLES = {"silence": "{} s of silence before", "noise": "{} s of noise before", "cut": "the first {} s cut off"}


@dataclass(frozen=True)
class _Move:
    """A clip somewhere else.

    Args:
        name: Of the condition.
        waves: What is encoded, each alone; their tokens are put together.
        shift: Samples that were put before the clip, or, if negative, cut off it.
    """

    name: str
    waves: tuple[Tensor, ...]
    shift: int = 0


class PlaceTally:
    """Collects what becomes of the tokens of clips, for all streams of a tokenizer."""

    def __init__(self, subject: Subject, suite: StabSuite, place: Place) -> None:
        self._subject, self._suite, self._place = subject, suite, place
        self._rows: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)

    def update(self, clip: Recording) -> None:
        """Move a clip in all ways."""
        subject, rate = self._subject, self._suite.data.sample_rate
        if subject.token_rate is None:
            return
        seed = derive_seed(self._suite.seed, key(clip.key), key("place"))
        wave = clip.wave[: round(self._place.max_seconds * rate)]
        found = list(moves(wave, self._place, rate, subject.hop or 1, torch.Generator().manual_seed(seed)))
        ids = subject.encode([wave, *(part for move in found for part in move.waves)])
        for stream in subject.streams:
            clean, *rest = (row.tolist() for row in subject.split(ids, stream))
            for move in found:
                count = len(move.waves)
                made, rest = [token for row in rest[:count] for token in row], rest[count:]
                gone = math.floor(abs(move.shift) * subject.token_rate / rate + 1e-6)
                expected = clean[gone:] if move.shift < 0 else clean
                edits = edit_distance(made[gone:] if move.shift > 0 else made, expected)
                self._rows[stream.name, move.name].append({"edits": edits, "tokens": len(expected)})

    def figures(self, stream: Stream) -> Sheet:
        """Return the figures of a stream."""
        reason = "no clip is long enough"
        if self._subject.token_rate is None:
            reason = "the tokens have no fixed rate"
        return {
            f"place@{name}": row_interval(
                self._rows[stream.name, name], ratio("edits", "tokens"), self._suite.bootstrap, reason
            )
            for name in self._place.names
        }


def moves(wave: Tensor, place: Place, sample_rate: int, hop: int, generator: torch.Generator) -> Iterator[_Move]:
    """Yield a clip (samples,) moved in each way that it is long enough for."""
    longest = max((round(seconds * sample_rate) for seconds in place.noise), default=0)
    noise = torch.randn(longest, dtype=torch.float32, generator=generator, device="cpu")
    noise *= 10 ** (place.noise_level / 20)
    for kind in ("silence", "noise"):
        for seconds in getattr(place, kind):
            count = round(seconds * sample_rate)
            # What stands right before the speech is the same whatever stands before that.
            before = noise[longest - count :] if kind == "noise" else wave.new_zeros(count)
            yield _Move(f"{kind} {seconds:g}", (torch.cat([before, wave]),), count)
    for seconds in place.cut:
        count = round(seconds * sample_rate)
        if len(wave) >= 2 * count:
            yield _Move(f"cut {seconds:g}", (wave[count:],), -count)
    middle = len(wave) // (2 * hop) * hop
    if place.halves and middle:
        yield _Move("halves", (wave[:middle], wave[middle:]))


def place_columns(report: Report) -> Sequence[Column]:
    """Return the rows of a report's table that are of places."""
    settings = report.data["suite"].get("place")
    if settings is None:
        return ()
    titles = {
        f"{kind} {seconds:g}": title.format(f"{seconds:g}")
        for kind, title in _TITLES.items()
        for seconds in settings[kind]
    }
    if settings["halves"]:
        titles["halves"] = "halves alone"
    return [Column(f"place@{name}", f"place: tokens changed, {title}", "{:.1%}") for name, title in titles.items()]
