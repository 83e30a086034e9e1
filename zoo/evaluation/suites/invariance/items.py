"""The items that a tokenizer encodes in several ways: files or episodes of its modality."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.data import signals
from zoo.data._source import local_path
from zoo.data.actions import read_actions
from zoo.data.folders import files_in
from zoo.data.manifest import Utterance, read_manifest
from zoo.data.media import read_image, read_video
from zoo.data.signals.speech import SpeechSignal
from zoo.errors import InputError
from zoo.evaluation.suites.invariance.config import InvarianceSuite
from zoo.evaluation.utterances import choose
from zoo.strict import is_file
from zoo.tokenizer import Tokenizer

__all__ = ["Items", "has_lengths", "padded_batches", "read_items", "tensor"]


@dataclass(frozen=True)
class Items:
    """What there is of a modality.

    Args:
        file: Name of the data.
        made_by: The command that makes it.
        sources: Paths of files, utterances, or arrays (T, D).
        sha256: Of their contents.
        is_reference: Whether the published figures are of these.
        utterances: All that the manifest lists, not only what was chosen; none of other data.
    """

    file: str
    made_by: str
    sources: tuple[Any, ...]
    sha256: str
    is_reference: bool
    utterances: tuple[Utterance, ...] = ()

    def tensors(self, tokenizer: Tokenizer) -> list[Tensor]:
        """Return each item as the tokenizer takes it, without the batch dimension."""
        return [tensor(tokenizer, source) for source in self.sources]


def tensor(tokenizer: Tokenizer, source: Any) -> Tensor:
    """Return an item of `Items.sources`, or an utterance, as the tokenizer takes it, without the batch dimension.

    Pictures are scaled to cover the size that it takes, and the middle is cut out; so are videos, of which two windows
    and a frame are taken, or what there is.
    """
    item = source.read() if isinstance(source, Utterance) else source
    modality, size = tokenizer.spec.modality, tokenizer.spec.input_size
    if modality == "image" and isinstance(source, Path) and size is not None:
        item = read_image(source, size=(size[0], size[1]), on_white=True)
    elif modality == "video" and isinstance(source, Path) and size is not None:
        item = read_video(source, size=(size[1], size[2]), on_white=True)[0][:, : 2 * size[0] + 1]
    return tokenizer.as_batch([item], resample=True)[0][0]


def read_items(suite: InvarianceSuite, modality: str, path: Path) -> Items:
    """Choose the items of a modality.

    Raises:
        ConfigError: The suite names no data of this modality.
        InputError: There are none, or they cannot be read.
    """
    source, path = suite.data.of(modality, path)
    utterances: list[Utterance] = []
    found: Sequence[Any]
    if modality == "action":
        found = read_actions(path, split=source.split or None).episodes
    elif modality == "speech" and (manifest := _manifest(path, source.manifest)):
        utterances = read_manifest(manifest)
        found = choose(utterances, manifest.parent, suite.max_items)
    else:
        found = _files(path, modality) if path.is_dir() else [path]
    if not found:
        raise InputError(f"{path} holds nothing to encode: point --data at a folder of {modality} files.")
    step = max(1.0, len(found) / (suite.max_items or len(found)))
    sources = tuple(found[int(number * step)] for number in range(min(len(found), suite.max_items or len(found))))
    digest = hashlib.sha256()
    for item in sources:
        file = item.path if isinstance(item, Utterance) else item
        digest.update(local_path(file).read_bytes() if isinstance(file, Path) else file.tobytes())
        if isinstance(item, Utterance) and item.offset:
            digest.update(f"{item.offset!r} {item.duration!r}".encode())
    found_digest = digest.hexdigest()
    is_reference = found_digest == source.sha256
    return Items(path.resolve().name, source.made_by, sources, found_digest, is_reference, tuple(utterances))


def _files(folder: Path, modality: str) -> list[Path]:
    """Return the files of a modality in a folder; all, if none is called as such files are."""
    files, suffixes = files_in(folder), signals.of(modality).suffixes
    return [file for file in files if file.suffix.lower() in suffixes] or files


def _manifest(path: Path, name: str) -> Path | None:
    """Return the manifest that a path of speech is, or that lies in it under this name."""
    if path.is_file():
        return None if path.suffix.lower() in SpeechSignal.suffixes else path
    return path / name if is_file(path / name) else None


def has_lengths(tokenizer: Tokenizer) -> bool:
    """Return whether items of one batch may differ in length and are padded."""
    return signals.of(tokenizer.spec.modality).padding is not None


def padded_batches(
    items: Sequence[Tensor], size: int, *, lengths: bool, padding: bool, generator: torch.Generator, axis: int = 0
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield consecutive items as batches of a size.

    Args:
        items: Without the batch dimension.
        size: Items a batch. Where they have no lengths, a batch also ends where their shape changes.
        lengths: Whether items are padded to the longest, with noise, since what it holds must not matter.
        padding: Whether there is as much padding again as the longest is long.
        generator: Of the noise.
        axis: That of time in an item.
    """
    start = 0
    while start < len(items):
        batch = list(items[start : start + size])
        if not lengths:
            same = next((n for n, item in enumerate(batch) if item.shape != batch[0].shape), len(batch))
            batch = batch[:same]
            yield torch.stack(batch), None
        else:
            counts = [item.shape[axis] for item in batch]
            shape = list(batch[0].shape)
            shape[axis] = max(counts) * (2 if padding else 1)
            noise = torch.randn(len(batch), *shape, generator=generator)
            values = (0.3 * noise).clamp(-1, 1).to(batch[0].device)
            for row, item, count in zip(values, batch, counts, strict=True):
                row.narrow(axis, 0, count).copy_(item)
            yield values, torch.tensor(counts)
        start += len(batch)
