"""Runs a suite of invariance: every item alone on one thread, then in each other way, and ids are compared."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

import zoo
from zoo import config
from zoo.data import signals
from zoo.errors import ConfigError
from zoo.evaluation.figures import row_interval
from zoo.evaluation.kinds import Progress, SuiteKind
from zoo.evaluation.report import Column, Figure, Report
from zoo.evaluation.suite import environment
from zoo.evaluation.suites.invariance.chunking import CUTS, chunking
from zoo.evaluation.suites.invariance.config import InvarianceSuite, Mode
from zoo.evaluation.suites.invariance.items import Items, has_lengths, padded_batches, read_items
from zoo.loading import family_of
from zoo.metrics.rows import Row, ratio
from zoo.tokenizer import Tokenizer

__all__ = ["INVARIANCE", "WAYS", "measure"]

Encode = Callable[[], list[Tensor]]

WAYS = {
    "loaded": "fast, alone",
    "batch_2": "batches of 2",
    "batch_7": "batches of 7",
    "batch_32": "batches of 32",
    "padded": "as much padding again",
    "shuffled": "shuffled",
    "threads_2": "2 threads, alone",
    "threads_2_batch_32": "2 threads, batches of 32",
    "saved": "saved and loaded",
}
"""How items are encoded again, and what it is called."""

_COLUMNS = (
    Column("items", "items", "{:.0f}"),
    Column("ids", "ids", "{:.0f}"),
    *(
        column
        for way, title in WAYS.items()
        for column in (
            Column(f"share@{way}", f"share of ids changed: {title}", "{:.2%}"),
            Column(f"changed@{way}", f"ids changed: {title}", "{:.0f}"),
        )
    ),
    *(Column(f"cut@{cut}", f"share of ids changed: {title}", "{:.1%}") for cut, title in CUTS.items()),
)


def measure(suite: InvarianceSuite, models: Sequence[str] | None, path: Path, progress: Progress) -> Report:
    """Run an invariance suite. See `zoo.evaluation.run`."""
    names = list(dict.fromkeys(suite.models if models is None else models))
    if not names:
        raise ConfigError("there is nothing to measure: name at least one model.")
    for name in names:
        family_of(name)  # an unknown name is told at once
    read: dict[str, Items] = {}
    figures: dict[str, dict[str, Figure]] = {}
    settings = {}
    for number, name in enumerate(names):
        progress(f"measuring {name}", number, len(names))
        exact = zoo.load(name)
        modality = exact.spec.modality
        if modality not in read:
            read[modality] = read_items(suite, modality, path)
        with _one_thread():
            tensors = read[modality].tensors(exact)
            alone = _encode(exact, tensors, 1)
            figures[name] = _changes(exact, exact, None, tensors, alone, suite)
            if suite.chunking is not None:
                figures[name] |= chunking(exact, read[modality].utterances, suite.chunking, suite.bootstrap)
            settings[name] = {"config": config.to_dict(exact.config)}
            for mode in suite.modes if exact.fast_modules else ():
                row = f"{name}, {mode.name}"
                figures[row] = _changes(exact, zoo.load(name, **mode.load_options()), mode, tensors, alone, suite)
                settings[row] = settings[name] | {"mode": config.to_dict(mode)}
    progress("measured", len(names), len(names))
    digests = {modality: items.sha256 for modality, items in sorted(read.items())}
    digest = next(iter(digests.values()))
    if len(digests) > 1:
        digest = hashlib.sha256("".join(digests.values()).encode()).hexdigest()
    return Report(
        suite=suite.kind,
        title=suite.title,
        protocol=(
            "Every item is encoded alone on one thread, then again in each other way; ids are compared one by one, ids "
            "that one side lacks count as changed. What pads is noise. 0 is what the library promises, but "
            "for fast mode, which is measured where it is named. "
            f"Intervals of {suite.bootstrap.confidence:.0%} from resampling items."
        ),
        data={
            "file": ", ".join(items.file for items in read.values()),
            "sha256": digest,
            "is_reference": all(items.is_reference for items in read.values()),
            "made_by": "; ".join(items.made_by for items in read.values() if items.made_by),
            "digests": digests,
            "items": {modality: len(items.sources) for modality, items in read.items()},
        },
        environment=environment(),
        models=figures,
        settings=settings,
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _changes(
    exact: Tokenizer,
    tokenizer: Tokenizer,
    mode: Mode | None,
    tensors: Sequence[Tensor],
    alone: Sequence[Tensor],
    suite: InvarianceSuite,
) -> dict[str, Figure]:
    """Compare the ids that a tokenizer gives in each way with those of exact mode, `alone`."""
    figures = {"items": Figure(len(tensors)), "ids": Figure(sum(ids.numel() for ids in alone))}
    for way, encode in _ways(exact, tokenizer, mode, tensors, suite).items():
        if isinstance(encode, str):
            figures |= {f"{kind}@{way}": Figure.missing(encode) for kind in ("share", "changed")}
            continue
        rows: list[Row] = [
            {"ids": a.numel(), "changed": _num_changed(a, b)} for a, b in zip(alone, encode(), strict=True)
        ]
        figures[f"share@{way}"] = row_interval(rows, ratio("changed", "ids"), suite.bootstrap, "there are no ids")
        figures[f"changed@{way}"] = Figure(sum(row["changed"] for row in rows))
    return figures


def _ways(
    exact: Tokenizer, tokenizer: Tokenizer, mode: Mode | None, items: Sequence[Tensor], suite: InvarianceSuite
) -> dict[str, Encode | str]:
    """Return each way of encoding, or why there is none, by its name in `WAYS`."""

    def shuffled() -> list[Tensor]:
        order = torch.randperm(len(items), generator=torch.Generator().manual_seed(suite.seed)).tolist()
        found = _encode(tokenizer, [items[place] for place in order], 32, seed=suite.seed)
        return [ids for _, ids in sorted(zip(order, found, strict=True), key=lambda pair: pair[0])]

    def saved() -> list[Tensor]:
        with tempfile.TemporaryDirectory() as folder:
            again = zoo.load(zoo.save(exact, Path(folder) / "saved"), **({} if mode is None else mode.load_options()))
            return _encode(again, items, 32, seed=suite.seed)

    def batched(size: int, *, padding: bool = False, threads: int = 1) -> Encode:
        def encode() -> list[Tensor]:
            torch.set_num_threads(threads)
            try:
                return _encode(tokenizer, items, size, padding=padding, seed=suite.seed)
            finally:
                torch.set_num_threads(1)

        return encode

    ways: dict[str, Encode | str] = {} if mode is None else {"loaded": batched(1)}
    ways |= {f"batch_{size}": batched(size) for size in (2, 7, 32)}
    one_size = f"{tokenizer.spec.modality} is not padded"
    return ways | {
        "padded": batched(7, padding=True) if has_lengths(tokenizer) else one_size,
        "shuffled": shuffled,
        "threads_2": batched(1, threads=2),
        "threads_2_batch_32": batched(32, threads=2),
        "saved": saved,
    }


def _encode(
    tokenizer: Tokenizer, items: Sequence[Tensor], size: int, *, padding: bool = False, seed: int = 0
) -> list[Tensor]:
    """Return the ids of each item, (T,) or (T, K), encoded in batches."""
    generator = torch.Generator().manual_seed(seed)
    found: list[Tensor] = []
    for batch, lengths in padded_batches(
        items,
        size,
        lengths=has_lengths(tokenizer),
        padding=padding,
        generator=generator,
        axis=signals.of(tokenizer.spec.modality).time_axis or 0,
    ):
        tokens = tokenizer.encode(batch) if lengths is None else tokenizer.encode(batch, lengths)
        found += [ids[:length].cpu() for ids, length in zip(tokens.ids, tokens.lengths.tolist(), strict=True)]
    return found


def _num_changed(a: Tensor, b: Tensor) -> int:
    shared = min(len(a), len(b))
    return int((a[:shared] != b[:shared]).sum()) + a[shared:].numel() + b[shared:].numel()


INVARIANCE = SuiteKind(InvarianceSuite, measure, _COLUMNS)
