"""A metric that keeps the tokens of a data set, for measures that compare utterances with each other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from zoo.errors import InputError
from zoo.metrics.tokens.streams import Units, one_stream


class TokenCorpus(Metric):
    """Keeps utterances with labels; subclasses compute.

    Names are kept as numbers made of them, since states that travel between processes are tensors.

    Args:
        num_labels: L, numbers kept of each utterance.
    """

    is_differentiable = False
    full_state_update = False
    ids: list[Tensor]
    lengths: list[Tensor]
    labels: list[Tensor]

    def __init__(self, num_labels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_labels = num_labels
        for name in ("ids", "lengths", "labels"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def _add(self, streams: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]) -> None:
        """Add N utterances and their labels [N, L]."""
        self._append(
            torch.tensor([token for stream in streams for token in stream], dtype=torch.int64),
            torch.tensor([len(stream) for stream in streams], dtype=torch.int64),
            torch.tensor(labels, dtype=torch.int64).reshape(-1, self.num_labels),
        )

    def _append(self, *states: Tensor) -> None:
        for kept, state in zip((self.ids, self.lengths, self.labels), states, strict=True):
            kept.append(state.to(self.device))

    def _items(self) -> tuple[list[list[int]], list[list[int]]]:
        """Return the ids and the labels of all utterances."""
        if not len(self.lengths):
            return [], []
        ids, lengths, labels = (dim_zero_cat(state).cpu() for state in (self.ids, self.lengths, self.labels))
        parts = torch.split(ids, lengths.tolist())
        return [part.tolist() for part in parts], labels.tolist()

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        # torchmetrics would send floating-point nothing for a process that has seen nothing, and turn all ids to that.
        if not len(self.lengths):
            self._add([], [])
        super()._sync_dist(*args, **kwargs)  # type: ignore[no-untyped-call, unused-ignore]


def key(name: str) -> int:
    """Return a number for a name, the same in every process: 63 bits of its SHA-256."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1


def labelled(units: Units, vocab_size: int | None = None, **columns: Sequence[Any]) -> list[list[int]]:
    """Return the streams of utterances after a check that there are as many of everything.

    Raises:
        InputError: A column has another number of entries than there are utterances.
        TokenError: As `one_stream`.
    """
    streams = one_stream(units, vocab_size)
    for name, column in columns.items():
        if isinstance(column, str) or len(column) != len(streams):
            raise InputError(f"there are {len(streams)} utterances: give as many {name}, got {column!r:.80}.")
    return streams
