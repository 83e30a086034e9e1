"""The `.zoo` token file: the tokens of many items, and everything that is needed to decode them.

A `.zoo` file is a safetensors file (https://huggingface.co/docs/safetensors, "Format"): 8 bytes with the length N of a
header, unsigned and little-endian; N bytes of header, which is JSON; then the values of the tensors, little-endian and
row-major. The header gives dtype, shape and place of each tensor, and strings under `__metadata__`.

Tensors, for B ≥ 1 items of S positions together, K codebooks of V codes each:

* `ids`, U8, U16, U32 or U64, (S,) if K = 1, else (S, K): the ids of all items one after the other, without padding,
  each in 0 … V - 1. Written in the smallest of these dtypes that holds V - 1, read in any.
* `lengths`, I64, (B,): positions of each item, 0 or more; they add up to S. Item i has the rows from sum(lengths[:i])
  up to sum(lengths[:i + 1]).
* `signal_lengths`, I64, (B,), only if known: samples (speech), frames (video) or commands (action) of the signal that
  each item was made from.

Metadata:

* `facts`: a JSON object with exactly the keys below.
* `sha256`: hexadecimal SHA-256 of the UTF-8 bytes of `facts`, followed by the values of `ids`, `lengths` and, if it is
  there, `signal_lengths`, in this order, as they lie in the file.

Keys of `facts`:

* `format`, string: "tokenizer-zoo tokens".
* `format_version`, integer: 1. A reader refuses any other; a key is only ever added together with a new version.
* `library_version`, string: what wrote the file, for people.
* `model`, string: name of the tokenizer, `family.variant`.
* `source`, string: where it can be had: `hf://owner/repo@commit`, a name of the registry, the absolute path of a folder
  on the machine that wrote the file, or "" if it was never stored.
* `fingerprint`, string: SHA-256 of its weights and settings, see `fingerprint`.
* `spec`, object: the fields of `zoo.TokenSpec`, of which `codebook_size` is V and `num_codebooks` is K.
* `grid`, list of integers or null: arrangement of an item's positions, row-major; the product is the largest length.
* `base`, integer: 0. Ids are those of the tokenizer, not shifted into another vocabulary.
* `names`, list of B strings: of each item, such as the name of its input file; relative paths with `/`, without `..`.
* `rates`, list of B numbers and nulls, or null: samples, frames or commands a second of each signal, where known.
* `captions`, list of B strings, or null or absent: what each item is decoded with. What a text encoder made of them, if
  it is kept, is two tensors more: `condition_states`, F32 (sum of condition_lengths, D), and `condition_lengths`, I64
  (B,).
* `fast_dtype`, string, or null or absent: "bfloat16" and the like, of the weights of a tokenizer in fast mode
  (`zoo.load(…, exact=False)`), whose ids may depend in a few places on the batch they were in. Absent in exact mode.

For programs that know nothing of it, `zoo.tokenfile.tables` writes the same as JSON lines, Parquet or NumPy arrays.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import numpy, safe_open

from zoo import config as configs
from zoo.checkpoint.atomic import writing
from zoo.checkpoint.fingerprint import fingerprint
from zoo.components.exact.modes import FAST_DTYPES
from zoo.errors import CheckpointError, ConfigError, TokenError, ZooError
from zoo.spec import TokenSpec
from zoo.strict import is_file
from zoo.tokenfile.content import Contents, TokenFile, check_name, collect, require_consistent
from zoo.tokenizer import Tokenizer
from zoo.tokens import Conditions, Tokens
from zoo.tokens.checks import require_lengths, require_padding

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "SUFFIX",
    "Contents",
    "TokenFile",
    "check_name",
    "collect",
    "fingerprint",
    "load",
    "save",
    "write",
]

FORMAT = "tokenizer-zoo tokens"
FORMAT_VERSION = 1
SUFFIX = ".zoo"

_TENSORS = ("ids", "lengths", "signal_lengths", "condition_states", "condition_lengths")
_MAX_HEADER_BYTES = 100_000_000  # what readers of safetensors accept
_FAST_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in FAST_DTYPES}


@dataclass(frozen=True)
class _Facts:
    """What `facts` holds; see the top of this module."""

    format: str
    format_version: int
    library_version: str
    model: str
    source: str
    fingerprint: str
    spec: TokenSpec
    grid: tuple[int, ...] | None
    base: int
    names: tuple[str, ...]
    rates: tuple[float | None, ...] | None
    captions: tuple[str, ...] | None = None
    fast_dtype: str | None = None


def save(
    path: str | os.PathLike[str],
    tokens: Tokens,
    tokenizer: Tokenizer,
    names: Sequence[str] | None = None,
    *,
    rates: Sequence[float | None] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write tokens and the facts that decoding needs as a `.zoo` file, all of it or nothing.

    Args:
        path: Where to.
        tokens: What `tokenizer.encode` returned.
        tokenizer: The tokenizer that made them.
        names: One relative path an item, `/` between folders, stored as given; numbered ones if None.
        rates: Samples, frames or commands a second of each signal, None where unknown.
        overwrite: Replace a file that is there.

    Returns:
        The path.

    Raises:
        TokenError: Another tokenizer's tokens, shifted ones, none at all, names or rates that do not fit, or items so
            unequal in length that nobody could read the file.
        CheckpointError: The file exists and `overwrite` is not set, or it cannot be written.
    """
    return write(path, collect(tokens, tokenizer, names, rates=rates).contents(), overwrite=overwrite)


def write(path: str | os.PathLike[str], contents: Contents, *, overwrite: bool = False) -> Path:
    """Write what was collected, in memory or on disk, as a `.zoo` file, all of it or nothing.

    Args:
        path: Where to.
        contents: What `TokenFile.contents` or `Spool.contents` returned.
        overwrite: Replace a file that is there.

    Returns:
        The path.

    Raises:
        TokenError: Items so unequal in length, or names so many, that nobody could read the file.
        CheckpointError: The file exists and `overwrite` is not set, or it cannot be written.
    """
    from zoo import __version__

    target = Path(path)
    origin = contents.origin
    facts = _Facts(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        library_version=__version__,
        model=origin.model,
        source=origin.source,
        fingerprint=origin.fingerprint,
        spec=origin.spec,
        grid=contents.grid,
        base=0,
        names=contents.names,
        rates=None if set(contents.rates) == {None} else contents.rates,
        captions=contents.captions,
        fast_dtype=origin.fast_name,
    )
    arrays = {"ids": contents.ids, "lengths": contents.lengths, **contents.states}
    if contents.signal_lengths is not None:
        arrays["signal_lengths"] = contents.signal_lengths
    require_padding(math.prod((len(contents.lengths), contents.longest, *contents.ids.shape[1:])), contents.ids.size)
    require_lengths(facts.spec, contents.lengths, contents.signal_lengths)
    stated = configs.to_dict(facts)
    for late in ("captions", "fast_dtype"):
        if stated[late] is None:
            del stated[late]  # so that versions of the library that do not know it can read the file
    text = json.dumps(stated, allow_nan=False, separators=(",", ":"))
    order, header = _header(arrays, {"facts": text, "sha256": _digest(text, arrays)})
    with writing(target, overwrite) as file:
        file.write(header)
        for name in order:
            file.write(_values(arrays[name]))
    return target


def load(path: str | os.PathLike[str]) -> TokenFile:
    """Read a `.zoo` file, checking all of it.

    Raises:
        CheckpointError: There is no such file, or it is truncated, damaged, of another format or a newer version.
        TokenError: What it holds contradicts itself: ids out of range, lengths that do not add up, unsafe names.
    """
    source = Path(path)
    try:
        if not is_file(source):
            what = "is not a file" if os.path.lexists(source) else "does not exist"
            raise CheckpointError(f"{source} {what}: give a token file, as `zoo encode` writes them.")
        arrays, metadata = _read(source)
    except (ZooError, MemoryError):
        raise
    except Exception as error:  # of the file system, of safetensors, and of NumPy for dtypes that it lacks
        raise CheckpointError(
            f"{source} cannot be read as a token file; it is truncated, damaged, or of another format ({error})."
        ) from error
    facts = _read_facts(source, metadata, arrays)
    try:
        tokens = _tokens(arrays, facts)
        require_consistent(facts.names, facts.rates, facts.grid, len(tokens), int(tokens.lengths.max()))
    except TokenError as error:
        raise TokenError(f"{source}: {error}") from error
    rates = facts.rates or (None,) * len(tokens)
    fast = None if facts.fast_dtype is None else _FAST_DTYPES[facts.fast_dtype]
    return TokenFile(tokens, facts.model, facts.source, facts.fingerprint, facts.spec, facts.names, rates, fast)


def _digest(text: str, arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in _TENSORS:
        if name in arrays:
            digest.update(_values(arrays[name]))
    return digest.hexdigest()


def _values(array: np.ndarray) -> memoryview:
    """Return the bytes of an array, which are not read before they are used if it is a memory map."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _header(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> tuple[list[str], bytes]:
    """Return the order in which tensors lie, which is that of safetensors' own writer, and what stands before them.

    The metadata are in order too, which that writer shuffles: equal tokens should give equal files.
    """
    empty = numpy.save({name: array[:0] for name, array in arrays.items()})
    entries = json.loads(empty[8 : 8 + int.from_bytes(empty[:8], "little")])
    start = 0
    for name, entry in entries.items():
        end = start + arrays[name].nbytes
        entry |= {"shape": list(arrays[name].shape), "data_offsets": [start, end]}
        start = end
    header = {"__metadata__": dict(sorted(metadata.items())), **entries}
    text = json.dumps(header, separators=(",", ":")).encode()
    if len(text) > _MAX_HEADER_BYTES:
        raise TokenError(f"the names of so many items take {len(text)} bytes, more than can be read again: split them.")
    text += b" " * (-len(text) % 8)  # the format aligns the values
    return list(entries), len(text).to_bytes(8, "little") + text


def _read(source: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    with safe_open(source, framework="numpy") as file:
        metadata = file.metadata() or {}
        names = set(file.keys())
        if "facts" not in metadata or not {"ids", "lengths"} <= names <= set(_TENSORS):
            raise CheckpointError(
                f"{source} is a safetensors file, but not a token file: its tensors are "
                f"{', '.join(sorted(names))[:200] or 'none'}. Expected one that `zoo encode` wrote."
            )
        return {name: file.get_tensor(name) for name in names}, metadata


def _read_facts(source: Path, metadata: dict[str, str], arrays: dict[str, np.ndarray]) -> _Facts:
    try:
        values = json.loads(metadata["facts"])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{source} is damaged: its facts are not JSON ({error}).") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise CheckpointError(f"{source} is not a token file: its format is not {FORMAT!r}.")
    version = values.get("format_version")
    if version != FORMAT_VERSION or type(version) is not int:
        raise CheckpointError(
            f"{source} has the format version {version!r:.80}, this library reads {FORMAT_VERSION}: it was written by "
            f"version {values.get('library_version')!r:.80}; update (pip install -U tokenizer-zoo)."
        )
    if _digest(metadata["facts"], arrays) != metadata.get("sha256"):
        raise CheckpointError(f"{source} is damaged: its content does not have the SHA-256 it states. Copy it again.")
    try:
        return configs.from_dict(_Facts, values, "facts")
    except ConfigError as error:
        raise TokenError(f"{source}: {error}") from error


def _tokens(arrays: dict[str, np.ndarray], facts: _Facts) -> Tokens:
    """Return the tokens of a file padded, after checking everything that a stranger could have written."""
    ids, lengths, signal, states, state_lengths = (arrays.get(name) for name in _TENSORS)
    assert ids is not None
    assert lengths is not None
    books, size = facts.spec.num_codebooks, facts.spec.codebook_size
    if size is None:
        raise TokenError("the tokenizer that the file names is continuous, and has no ids.")
    for name, counts in (("lengths", lengths), ("signal_lengths", signal)):
        if counts is None:
            continue
        if counts.dtype != np.int64 or counts.shape != lengths.shape or counts.ndim != 1 or not counts.size:
            raise TokenError(f"{name} must be I64 of one shape (B,), B ≥ 1, got {counts.dtype} {counts.shape}.")
        if int(counts.min()) < 0:
            raise TokenError(f"{name} must be 0 or more, got {int(counts.min())}.")
    if ids.dtype.kind != "u" or ids.ndim != 1 + (books > 1) or ids.shape[1:] not in ((), (books,)):
        shape = "(S,)" if books == 1 else f"(S, {books})"
        raise TokenError(f"ids must be unsigned integers {shape}, got {ids.dtype} {ids.shape}.")
    total = sum(lengths.tolist())  # in Python, where no sum overflows
    if total != len(ids):
        raise TokenError(f"the lengths add up to {total}, but there are {len(ids)} ids.")
    if ids.size and int(ids.max()) >= size:
        raise TokenError(f"ids must be in 0 … {size - 1}, got {int(ids.max())}.")
    if facts.fast_dtype not in (None, *_FAST_DTYPES):
        raise TokenError(f"fast_dtype must be one of {', '.join(_FAST_DTYPES)}, got {facts.fast_dtype!r:.80}.")
    if facts.base != 0:
        raise TokenError(f"base must be 0, got {facts.base}.")
    longest = int(lengths.max())
    padded = math.prod((len(lengths), longest, books))
    require_padding(padded, ids.size)
    require_lengths(facts.spec, lengths, signal)
    rows = np.zeros((len(lengths), longest, *ids.shape[1:]), dtype=np.int64)
    rows[np.arange(longest) < lengths[:, None]] = ids
    return Tokens(
        torch.from_numpy(rows),
        torch.from_numpy(lengths),
        size,
        facts.model,
        facts.grid,
        None if signal is None else torch.from_numpy(signal),
        0,
        Conditions.from_arrays(facts.captions, states, state_lengths, len(lengths)),
    )
