"""Tokens to train a generator on: made once from any data that a recipe can name, and kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import Dataset

from zoo import loading, resources
from zoo.checkpoint.atomic import writing
from zoo.checkpoint.fingerprint import fingerprint
from zoo.data import signals
from zoo.data.datamodule import DataModule, Split
from zoo.data.loader import SeededItems
from zoo.errors import CheckpointError, ConfigError
from zoo.generator.condition import first_frames
from zoo.modalities.action import ActionTokenizer
from zoo.tokenizer import Tokenizer

__all__ = ["TokenBatch", "TokenData", "TokenItems", "encoded"]

_FIELDS = {"speech": "waves", "image": "images", "video": "videos", "action": "actions"}
_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_FORMAT = "2"  # of the files; another number makes them anew


class TokenBatch(NamedTuple):
    """What `TokenData` gives a training step.

    Attributes:
        ids: (B, T) or (B, T, K) int64, 0 past each item's end.
        lengths: (B,) int64, tokens of each item.
        labels: (B,) int64, -1 where the class is unknown.
        prefix: (B, P) or (B, P, K) int64, the tokens of what is continued; None if nothing is.
    """

    ids: Tensor
    lengths: Tensor
    labels: Tensor
    prefix: Tensor | None


class TokenItems(Dataset[tuple[Tensor, int, Tensor | None]]):
    """Items as (ids (T,) or (T, K), label, prefix).

    Args:
        ids: (N,) or (N, K), all items' one after the other.
        lengths: (items,) tokens of each.
        labels: (items,).
        prefix: (items, P) or (items, P, K), or None.
        sizes: (items,) samples, commands, or pixels, of all frames of a clip that are its own, that each was made of.
    """

    def __init__(
        self, ids: Tensor, lengths: Tensor, labels: Tensor, prefix: Tensor | None = None, sizes: Tensor | None = None
    ) -> None:
        self.ids, self.lengths, self.labels, self.prefix = ids, lengths, labels, prefix
        self.sizes = torch.zeros_like(lengths) if sizes is None else sizes
        self._ends = lengths.cumsum(0)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> tuple[Tensor, int, Tensor | None]:
        end = int(self._ends[index])
        ids = self.ids[end - int(self.lengths[index]) : end].long()
        return ids, int(self.labels[index]), None if self.prefix is None else self.prefix[index].long()


class TokenData(DataModule):
    """The tokens of other data, made by a tokenizer when they are first needed and kept in the library's cache.

    What is kept belongs to the tokenizer's fingerprint and to the data: names, sizes and times of its files, and how
    they are read. If either changes, tokens are made anew. Items are read as in the first epoch: random crops and noise
    are drawn once, so recipes name transforms without chance.

    Args:
        tokenizer: A name, a folder or an `hf://` address, as `zoo.load` takes.
        source: The data, a `DataModule` such as `zoo.data.images.ImageData`. Its batch size is that of encoding.
        condition_frames: Of clips, how many of the first frames are continued, see `zoo.generator.first_frames`;
            nothing is if it is 0.
        device: Where the tokenizer encodes.
        batch_size: Items of a training batch of one process.
        eval_batch_size: Items of a batch in validation and testing; `batch_size` if None.
        num_workers: Processes that read; 0 reads in the training process. The result is the same.
        seed: Of the order, and of what reading the source draws.
        pin_memory: Put batches where they are copied to a GPU faster.

    Attributes:
        tokenizer: Name of the tokenizer.
    """

    def __init__(
        self,
        tokenizer: str,
        source: DataModule,
        condition_frames: int = 0,
        device: str = "cpu",
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, num_workers, seed, pin_memory)
        if condition_frames < 0:
            raise ConfigError(f"data: condition_frames must be at least 0, got {condition_frames}.")
        self.tokenizer = tokenizer
        self.source = source
        self.condition_frames = condition_frames
        self.device = device
        self._items: dict[str, TokenItems | None] = {}
        self._loaded: Tokenizer | None = None

    def prepare_data(self) -> None:
        """Make the tokens that are not there yet, in one process of each machine."""
        for split in _SPLITS:
            self.dataset(split)

    def dataset(self, split: Split) -> TokenItems | None:
        """Return the tokens of a split, and make them if they are not there; None if the source has none.

        Raises:
            CheckpointError: The file of tokens is damaged.
            ZooError: What loading the tokenizer, reading the source and encoding raise.
        """
        if split not in self._items:
            self._items[split] = self._found(split)
        return self._items[split]

    def fingerprint(self) -> str:
        """Return the fingerprint of the tokenizer, without its decoder."""
        return fingerprint(self._load(), decoder=False)

    def collate(self, items: list[tuple[Tensor, int, Tensor | None]]) -> TokenBatch:
        """Pad items to the longest."""
        ids, labels, prefixes = zip(*items, strict=True)
        return TokenBatch(
            torch.nn.utils.rnn.pad_sequence(list(ids), batch_first=True),
            torch.tensor([len(each) for each in ids]),
            torch.tensor(labels),
            None if prefixes[0] is None else torch.stack(prefixes),
        )

    def _load(self) -> Tokenizer:
        if self._loaded is None:
            self._loaded = loading.load(self.tokenizer, decoder=False, device=self.device)
        return self._loaded

    def _found(self, split: Split) -> TokenItems | None:
        source = self.source.dataset(split)
        if source is None:
            return None
        digest = hashlib.sha256(f"{_FORMAT} {self.fingerprint()} {self.seed} {self.condition_frames}".encode())
        _add(digest, source, set())
        path = resources.cache() / "tokens" / f"{digest.hexdigest()[:24]}.safetensors"
        if not path.is_file():
            tokenizer = self._load()
            rank_zero_info(f"making the {split} tokens of {tokenizer.name}, kept in {path}")
            items = encoded(tokenizer, self.source, source, seed=self.seed, condition_frames=self.condition_frames)
            self._write(path, items)
        return _read(path)

    def _write(self, path: Path, items: TokenItems) -> None:
        tensors = {"ids": items.ids, "lengths": items.lengths, "labels": items.labels, "sizes": items.sizes}
        if items.prefix is not None:
            tensors["prefix"] = items.prefix
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path, overwrite=True) as file:
            file.write(save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def encoded(
    tokenizer: Tokenizer, module: DataModule, dataset: Dataset[Any], *, seed: int = 0, condition_frames: int = 0
) -> TokenItems:
    """Return the tokens of a data set.

    Args:
        tokenizer: What encodes.
        module: What batches are made by; its batch size is that of encoding.
        dataset: Of that module.
        seed: Of what reading draws.
        condition_frames: As of `TokenData`.

    Raises:
        ConfigError: The tokenizer takes another modality than the data is of.
    """
    modality = tokenizer.spec.modality
    ids, lengths, labels, prefixes, sizes = [], [], [], [], []
    for batch in _batches(module, dataset, seed):
        signal = getattr(batch, _FIELDS[modality], None)
        if signal is None:
            raise ConfigError(f"{tokenizer.name} tokenizes {modality}, and {type(module).__name__} gives none.")
        has_lengths = signals.of(modality).padding is not None
        counts = batch.lengths if has_lengths else None
        tokens = tokenizer.encode(signal, counts, **_options(tokenizer, signal)).to("cpu")
        ids += [row[:length] for row, length in zip(tokens.ids.int(), tokens.lengths.tolist(), strict=True)]
        lengths.append(tokens.lengths)
        labels.append(getattr(batch, "labels", torch.full((len(signal),), -1)))
        step = signal[0, 0, 0].numel() if modality == "video" else 1  # pixels of a frame
        sizes.append(torch.full((len(signal),), signal[0, 0].numel()) if counts is None else counts.cpu() * step)
        if condition_frames:
            if modality != "video":
                raise ConfigError(f"condition_frames is of videos, and {tokenizer.name} tokenizes {modality}.")
            prefix = first_frames(tokenizer, signal, condition_frames, signal.shape[2])
            prefixes.append(prefix.ids.cpu().int())
    conditions = torch.cat(prefixes) if prefixes else None
    return TokenItems(torch.cat(ids), torch.cat(lengths), torch.cat(labels), conditions, torch.cat(sizes))


def _options(tokenizer: Tokenizer, signal: Tensor) -> Mapping[str, Any]:
    return tokenizer.at_rest(signal[:, 0]) if isinstance(tokenizer, ActionTokenizer) else {}


def _batches(module: DataModule, dataset: Dataset[Any], seed: int) -> Iterator[Any]:
    items, total = SeededItems(dataset, seed), len(dataset)  # type: ignore[arg-type]
    for first in range(0, total, module.batch_size):
        yield module.collate([items[0, place] for place in range(first, min(total, first + module.batch_size))])


def _read(path: Path) -> TokenItems:
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        items = TokenItems(found["ids"], found["lengths"], found["labels"], found.get("prefix"), found["sizes"])
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): delete it, and its tokens are made anew.") from error
    if int(items.lengths.sum()) != len(items.ids):
        raise CheckpointError(f"{path} is damaged: delete it, and its tokens are made anew.")
    return items


def _add(digest: Any, value: Any, seen: set[int]) -> None:
    """Take into a digest what a data set is: values, arrays, and files by size and time."""
    digest.update(f"{type(value).__qualname__}(".encode())
    if isinstance(value, Path):
        digest.update(os.fsencode(value))
        if value.is_file():
            status = value.stat()
            digest.update(f" {status.st_size} {status.st_mtime_ns}".encode())
    elif isinstance(value, (Tensor, np.ndarray)):
        array = value.numpy() if isinstance(value, Tensor) else value
        digest.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    elif value is None or isinstance(value, (str, int, float, bytes, range)):
        digest.update(repr(value).encode())
    elif isinstance(value, (Mapping, list, tuple)):
        for part in value.items() if isinstance(value, Mapping) else value:
            _add(digest, part, seen)
    elif isinstance(value, (type, ModuleType, FunctionType)):
        digest.update(value.__name__.encode())
    elif id(value) not in seen:
        seen.add(id(value))
        state = {field.name: getattr(value, field.name) for field in fields(value)} if is_dataclass(value) else None
        _add(digest, getattr(value, "__dict__", {}) if state is None else state, seen)
    digest.update(b")")
