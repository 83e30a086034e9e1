"""What was counted of the pictures of one system, and the figures that are made of it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from zoo.evaluation.figures import row_interval
from zoo.evaluation.items import Bootstrap
from zoo.evaluation.report import Figure
from zoo.evaluation.suites.image.config import Group
from zoo.evaluation.suites.image.judges import Judges
from zoo.metrics.feature_distance import feature_rows, frechet_distance_of_rows, paired_distance
from zoo.metrics.rows import Row, mean_of
from zoo.metrics.tokens.vocabulary import expected_coverage, vocabulary_use
from zoo.spec import TokenSpec
from zoo.tokens import Tokens

__all__ = ["Quality", "Tally"]

_NO_NUMBER = "it is no finite number for some pictures"


@dataclass
class Quality:
    """What the judges said of one way to make pictures.

    Args:
        rows: Of each picture, by measure.
        pairs: Of each batch the features of what was made and of the originals, (B, 2, D).
    """

    rows: list[Row] = field(default_factory=list)
    pairs: list[Tensor] = field(default_factory=list)

    def add(self, rows: Sequence[Row], pairs: Tensor | None) -> None:
        """Count a batch."""
        self.rows += rows
        if pairs is not None:
            self.pairs.append(pairs)

    def figures(self, judges: Judges, bootstrap: Bootstrap, chosen: Sequence[int] | None = None) -> dict[str, Figure]:
        """Return the figures of all pictures, or of those of these numbers."""
        numbers = range(len(self.rows)) if chosen is None else chosen
        rows: list[dict[str, float]] = [dict(self.rows[number]) for number in numbers]
        figures: dict[str, Figure] = {}
        if self.pairs:
            pairs = torch.cat(self.pairs)[list(numbers)]
            table = feature_rows(pairs[:, 0], pairs[:, 1])
            for row, pair in zip(rows, table, strict=True):
                row["feature_distance"] = paired_distance(pair[None])
            if "frechet_distance" not in judges.missing:
                # Without an interval: resampled pictures are fewer, and sets of fewer pictures are further apart.
                enough = len(table) > 1
                figures["frechet_distance"] = (
                    Figure(frechet_distance_of_rows(table)) if enough else Figure.missing("there is only one picture")
                )
        names = [*judges.names, *(["feature_distance"] if self.pairs else [])]
        figures |= {
            name: row_interval([{name: row[name]} for row in rows], mean_of(name), bootstrap, _NO_NUMBER)
            for name in names
        }
        figures |= {name: Figure.missing(reason) for name, reason in judges.missing.items()}
        return {name: found for name, found in figures.items() if name in judges.measures}


@dataclass
class Tally:
    """What was counted of one system.

    Args:
        quality: Of all pictures.
        facts: Of each picture's code.
        seconds: By what was done.
        prefixes: Of ordered tokenizers, by number of tokens.
        ids: Of each batch those that count, (N, K).
        peak_memory: Bytes of an accelerator beside weights; None if there is none.
    """

    quality: Quality = field(default_factory=Quality)
    facts: list[dict[str, float]] = field(default_factory=list)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    prefixes: dict[int, Quality] = field(default_factory=dict)
    ids: list[Tensor] = field(default_factory=list)
    peak_memory: int | None = None

    def add_tokens(self, tokens: Tokens) -> None:
        """Count the ids of a batch."""
        ids = tokens.ids[tokens.mask].cpu()
        self.ids.append(ids.reshape(len(ids), -1))

    def figures(
        self,
        judges: Judges,
        bootstrap: Bootstrap,
        groups: Sequence[Group],
        sources: Sequence[str],
        pixels: int,
        spec: TokenSpec | None,
    ) -> dict[str, Figure]:
        """Return the figures of a system.

        Args:
            judges: What was measured.
            bootstrap: How intervals are made.
            groups: Of which figures are given apart, as `measure@group`.
            sources: Of each picture.
            pixels: Of a picture.
            spec: Of the tokenizer, if it is one.
        """
        figures = self.quality.figures(judges, bootstrap)
        for group in groups:
            members = [number for number, source in enumerate(sources) if source in group.sources]
            if members:
                found = self.quality.figures(judges, bootstrap, members)
                figures |= {f"{name}@{group.name}": figure for name, figure in found.items()}
        for length, quality in self.prefixes.items():
            found = quality.figures(judges, bootstrap)
            figures |= {f"{name}@{length} tokens": figure for name, figure in found.items()}
        return figures | self._code(pixels, spec) | self._speed()

    def _code(self, pixels: int, spec: TokenSpec | None) -> dict[str, Figure]:
        """Return what is known of the codes."""
        figures = {name: Figure(_mean([row[name] for row in self.facts])) for name in self.facts[0]}
        if "bits" in figures:
            figures["bits_per_pixel"] = Figure(figures["bits"].estimate / pixels)
        if self.ids and spec is not None:
            figures |= _use(torch.cat(self.ids), spec.require_codebook())
        return figures

    def _speed(self) -> dict[str, Figure]:
        count = len(self.facts)
        figures = {f"{name}_per_second": Figure(count / seconds) for name, seconds in self.seconds.items() if seconds}
        if self.peak_memory is not None:
            figures["peak_memory"] = Figure(self.peak_memory / 2**20)
        return figures


def _use(ids: Tensor, size: int) -> dict[str, Figure]:
    """Return how much of the codebooks (N, K) ids use: means over codebooks."""
    if not len(ids):
        return {}
    use = [vocabulary_use(torch.unique(column, return_counts=True)[1]) for column in ids.T]
    return {
        "codebook_use": Figure(100 * _mean([float(found["num_used"]) / size for found in use])),
        "codebook_use_even": Figure(100 * expected_coverage(size, len(ids))),
        "perplexity": Figure(_mean([float(found["perplexity"]) for found in use])),
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
