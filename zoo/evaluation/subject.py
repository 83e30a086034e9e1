"""One thing of what a STAB-style suite measures: a speech tokenizer of the zoo, or any callable.

A callable is given as `module:name` and is `tokenize(wave, sample_rate) -> ids`: wave is a NumPy array float32
(samples,), ids are integers [K, T], a NumPy array, a tensor or lists. Of itself it says, as attributes:

* `codebook_sizes`, K sizes
* `token_rate`, positions a second, or None if that varies
* `hop`, the least number of samples, at the suite's rate of 16 kHz, after which a token begins where another did, or
  None: 640 for 25 a second, and for 75 a second, three of which begin on every 640th sample
* `is_deterministic`, whether equal waves get equal ids
* `remark`, if people are to be told something, such as that weights are random
* `fit`, if it learns from data: `fit(waves, sample_rate, seed)` is given the suite's training recordings and returns
  the callable to measure

        def tokenize(wave, sample_rate):
            ...
        tokenize.codebook_sizes, tokenize.token_rate, tokenize.hop, tokenize.is_deterministic = (512,), 25.0, 640, True
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo import config
from zoo.checkpoint.fingerprint import fingerprint
from zoo.data.audio import change_rate
from zoo.errors import ConfigError, TokenError, near_matches, shown
from zoo.evaluation.adversarial import Vectors, vectors_of
from zoo.evaluation.items import load_for
from zoo.metrics.tokens.streams import joint_stream
from zoo.tokenizer import Tokenizer

__all__ = ["LARGEST_TABLE", "Stream", "Subject", "read_subject", "seen_only"]

LARGEST_TABLE = 2**20
"""Of larger vocabularies no table of counts is made."""

_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_BATCH_SECONDS = 60


@dataclass(frozen=True)
class Stream:
    """One sequence of ids among those that a tokenizer gives.

    Args:
        name: What follows the tokenizer's name; "" if this is all it gives.
        codebook_sizes: What an id stands for.
        codebook: Its number; None if ids are tuples of all.
    """

    name: str
    codebook_sizes: tuple[int, ...]
    codebook: int | None = None

    @property
    def vocab_size(self) -> int:
        """V, the product of sizes."""
        return math.prod(self.codebook_sizes)


@dataclass
class Subject:
    """What is measured.

    Args:
        name: For people.
        codebook_sizes: K sizes.
        token_rate: Positions a second, None if it varies.
        hop: Samples at the suite's rate after which tokens are aligned anew, None if never.
        is_deterministic: Whether equal waves get equal ids.
        encode: Waves (samples,) at the suite's rate → ids [T, K] of each, int64.
        settings: What tells it from others, as plain values.
        remark: For people.
        vectors: Wave (samples,) at the suite's rate → what is quantized (T, D), differentiable; None if it has none.
    """

    name: str
    codebook_sizes: tuple[int, ...]
    token_rate: float | None
    hop: int | None
    is_deterministic: bool
    encode: Callable[[Sequence[Tensor]], list[Tensor]]
    settings: dict[str, Any]
    remark: str = ""
    vectors: Vectors | None = None
    _known: dict[tuple[int, ...], int] = field(default_factory=dict, repr=False)

    @property
    def streams(self) -> list[Stream]:
        """What is measured apart: the only codebook, or the first, and the tuples of all."""
        sizes = self.codebook_sizes
        if len(sizes) == 1:
            return [Stream("", sizes, 0)]
        return [Stream("stream 1", sizes[:1], 0), Stream(f"tuples of {len(sizes)}", sizes)]

    def split(self, ids: Sequence[Tensor], stream: Stream) -> list[Tensor]:
        """Return a stream's ids [T].

        Tuples of more values than 63 bits hold are numbered as they come: they are compared for equality only.
        """
        if stream.codebook is not None:
            return [row[:, stream.codebook] for row in ids]
        if stream.vocab_size < 2**63:
            return joint_stream(ids, stream.codebook_sizes)
        known = self._known
        return [torch.tensor([known.setdefault(tuple(i), len(known)) for i in row.tolist()]).long() for row in ids]


def seen_only(units: Sequence[Tensor], stream: Stream) -> tuple[list[Tensor], int]:
    """Return a stream's ids and how many there are, for tables: all of them, or those seen alone if there are too many.

    The latter are numbered in their order.
    """
    if stream.vocab_size <= LARGEST_TABLE:
        return list(units), stream.vocab_size
    ids = torch.cat([torch.zeros(0, dtype=torch.int64), *units])
    seen, numbers = torch.unique(ids, return_inverse=True)
    return list(torch.split(numbers, [len(row) for row in units])), max(1, len(seen))


def read_subject(name: str, sample_rate: int, waves: Callable[[], list[Tensor]], seed: int) -> Subject:
    """Make ready what is to be measured.

    Args:
        name: A model's name, a folder, a Hub address, or `module:name`.
        sample_rate: Of the suite's waves, in Hz.
        waves: Gives the training recordings, for what learns from them.
        seed: For what is drawn in learning.

    Raises:
        InputError: It is no speech tokenizer.
        ConfigError: A callable cannot be imported, or does not say of itself what it has to.
    """
    if _CALLABLE.fullmatch(name):
        return _from_callable(name, sample_rate, waves, seed)
    return _from_tokenizer(load_for(name, "speech"), sample_rate)


def _from_tokenizer(tokenizer: Tokenizer, sample_rate: int) -> Subject:
    spec = tokenizer.spec
    rate = int(spec.sample_rate or sample_rate)

    def encode(waves: Sequence[Tensor]) -> list[Tensor]:
        found: list[Tensor] = []
        for batch in _batches(waves, _BATCH_SECONDS * sample_rate):
            if rate != sample_rate:  # resampling overshoots
                batch = [change_rate(wave, sample_rate, rate).clamp(-1.5, 1.5) for wave in batch]
            tokens = tokenizer.encode(batch)
            for ids, length in zip(tokens.ids.cpu(), tokens.lengths.tolist(), strict=True):
                found.append(ids[:length].reshape(length, spec.num_codebooks))
        return found

    hop = None
    if spec.token_rate is not None:
        hop = (Fraction(spec.token_rate).limit_denominator(1000) / sample_rate).denominator
    return Subject(
        name=tokenizer.name,
        codebook_sizes=(spec.require_codebook(),) * spec.num_codebooks,
        token_rate=spec.token_rate,
        hop=hop,
        is_deterministic=True,
        encode=encode,
        settings={
            "fingerprint": fingerprint(tokenizer),
            "trained_on": tokenizer.trained_on,
            "config": config.to_dict(tokenizer.config),
        },
        vectors=vectors_of(tokenizer, sample_rate),
    )


def _batches(waves: Sequence[Tensor], most: int) -> Iterator[list[Tensor]]:
    """Yield consecutive waves of at most so many samples together, at least one at a time."""
    group: list[Tensor] = []
    for wave in waves:
        if group and sum(map(len, group)) + len(wave) > most:
            yield group
            group = []
        group.append(wave)
    if group:
        yield group


def _from_callable(name: str, sample_rate: int, waves: Callable[[], list[Tensor]], seed: int) -> Subject:
    tokenize = _imported(name)
    if hasattr(tokenize, "fit"):
        tokenize = tokenize.fit([wave.numpy() for wave in waves()], sample_rate, seed)
    if not callable(tokenize):
        raise ConfigError(f"{name} is a {type(tokenize).__name__}, and must be callable: tokenize(wave, sample_rate).")
    facts = {}
    for key in ("codebook_sizes", "token_rate", "hop", "is_deterministic"):
        if not hasattr(tokenize, key):
            raise ConfigError(
                f"{name} does not say its {key}: set the attributes codebook_sizes, such as (512,), token_rate, such "
                f"as 25.0 or None, hop, such as 640 samples at {sample_rate} Hz or None, and is_deterministic."
            )
        facts[key] = getattr(tokenize, key)
    sizes, token_rate, hop = facts["codebook_sizes"], facts["token_rate"], facts["hop"]
    if not isinstance(sizes, (tuple, list)) or not sizes or any(type(size) is not int or size < 1 for size in sizes):
        raise ConfigError(f"{name}: codebook_sizes must be integers of at least 1, such as (512,), got {shown(sizes)}.")
    for key in ("token_rate", "hop"):
        value = facts[key]
        if value is not None and (not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0):
            raise ConfigError(f"{name}: {key} must be a number above 0, or None, got {shown(value)}.")
    if hop is not None and (
        token_rate is None or type(hop) is not int or _per_hop(token_rate, hop, sample_rate) is None
    ):
        raise ConfigError(
            f"{name}: a hop of {shown(hop)} samples at {sample_rate} Hz must be whole and hold a whole number of "
            f"tokens at {shown(token_rate)} a second; give None if there is no such hop."
        )
    return Subject(
        name=name,
        codebook_sizes=tuple(sizes),
        token_rate=None if token_rate is None else float(token_rate),
        hop=hop,
        is_deterministic=bool(facts["is_deterministic"]),
        encode=lambda waves: [_called(name, tokenize, wave, sample_rate, tuple(sizes)) for wave in waves],
        settings=dict(getattr(tokenize, "settings", {})),
        remark=str(getattr(tokenize, "remark", "")),
    )


def _per_hop(token_rate: float, hop: int, sample_rate: int) -> int | None:
    tokens = token_rate * hop / sample_rate
    return round(tokens) if abs(tokens - round(tokens)) < 1e-6 and round(tokens) else None


def _imported(name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"{name}: the module {module_name} cannot be imported ({error}). Install it, or set PYTHONPATH to its "
            "folder."
        ) from error
    if not hasattr(module, attribute):
        raise ConfigError(f"{module_name} has no {attribute!r}; {near_matches(attribute, dir(module))}")
    return getattr(module, attribute)


def _called(name: str, tokenize: Any, wave: Tensor, sample_rate: int, sizes: tuple[int, ...]) -> Tensor:
    """Return the ids [T, K] of a wave."""
    found = tokenize(wave.numpy(), sample_rate)
    ids = found.detach().cpu().numpy() if isinstance(found, Tensor) else np.asarray(found)
    if ids.size == 0:
        ids = ids.astype(np.int64)
    if ids.ndim != 2 or len(ids) != len(sizes) or ids.dtype.kind not in "iu":
        raise TokenError(
            f"{name} must return integers [K, T] with K = {len(sizes)}, got {ids.dtype} {list(ids.shape)} for a wave "
            f"of {len(wave)} samples."
        )
    for book, (values, size) in enumerate(zip(ids, sizes, strict=True)):
        if values.size and not 0 <= values.min() <= values.max() < size:
            raise TokenError(
                f"{name}: ids of codebook {book} must lie in 0..{size - 1}, they span {values.min()}..{values.max()}."
            )
    return torch.from_numpy(ids.astype(np.int64)).T
