"""Ids for programs that know nothing of this library: JSON lines, Parquet and NumPy's `.npz`.

All three hold the items of a token file, in order, and once what is true of all of them: the metadata, a JSON object
with the keys `format`, `format_version`, `library_version`, `model`, `source`, `fingerprint`, `codebook_size` (V),
`num_codebooks` (K), `items`, `tokens`, `grid`, `fast_dtype` and `spec`, the fields of `zoo.TokenSpec`.

* `.jsonl`: the first line is `{"metadata": {…}}`, and every other one an item: `name`; `ids`, a list of T integers or,
  for K > 1 codebooks, of T lists of K; `length`, T; and, where known, `signal_length`, in samples, frames or commands,
  `rate`, of them a second, and `caption`.
* `.parquet`: the same keys are columns, null where unknown; ids are lists of the smallest unsigned integers that hold
  V - 1. The metadata is that of the schema, under the key `tokenizer-zoo`.
* `.npz`: arrays, without pickled objects. `names`, strings (B,); `ids`, (B, T) or (B, T, K), in the smallest unsigned
  integers, with code 0 past an item's end; `lengths`, int64 (B,), the valid positions of each item; where known,
  `signal_lengths`, int64 (B,), `rates`, float64 (B,), NaN for those that are not, and `captions`, strings (B,);
  `metadata`, one string; and of it `model`, `fingerprint` and `codebook_size` alone.

They cannot be decoded from, since nothing protects them from damage: for that there is the `.zoo` file.
"""

from __future__ import annotations

import importlib
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from zoo import config as configs
from zoo.checkpoint.atomic import writing
from zoo.errors import CheckpointError, ConfigError, MissingExtraError
from zoo.spec import TokenSpec
from zoo.tokenfile.content import TokenFile
from zoo.tokens import bits

__all__ = ["SUFFIXES", "Metadata", "metadata", "read_metadata", "require_writable", "save"]

_FORMAT = "tokenizer-zoo ids"
_FORMAT_VERSION = 1
_KEY = "tokenizer-zoo"
_ROWS = 1024
"""Items in a row group of a Parquet file, which is what is in memory of it at a time."""

_MAX_METADATA = 2**20


@dataclass(frozen=True)
class Metadata:
    """What a table says once of all its items; see the top of this module."""

    format: str
    format_version: int
    library_version: str
    model: str
    source: str
    fingerprint: str
    codebook_size: int
    num_codebooks: int
    items: int
    tokens: int
    grid: tuple[int, ...] | None
    fast_dtype: str | None
    spec: TokenSpec

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, with what the spec says of bits."""
        return {**configs.to_dict(self), "spec": self.spec.to_dict()}


def save(path: str | os.PathLike[str], file: TokenFile, *, overwrite: bool = False) -> Path:
    """Write what a token file holds as a table, all of it or nothing; the path's suffix says as what.

    JSON lines and Parquet are written item by item and group by group, with nothing held beside the tokens.

    Args:
        path: Where to; it ends in one of `SUFFIXES`.
        file: What `zoo.tokenfile.collect` put together, or `zoo.tokenfile.load` read.
        overwrite: Replace a file that is there.

    Returns:
        The path.

    Raises:
        CheckpointError: The file exists and `overwrite` is not set, it cannot be written, or has another suffix.
        MissingExtraError: Parquet is asked for, and pyarrow is not installed.
    """
    target = Path(path)
    require_writable(target)
    with writing(target, overwrite) as out:
        _WRITERS[target.suffix](out, file)
    return target


def require_writable(path: Path) -> None:
    """Find out before the work what `save` would raise after it.

    Raises:
        CheckpointError: The suffix is none of `SUFFIXES`.
        MissingExtraError: Parquet is asked for, and pyarrow is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path} names no table of ids: it must end in {', '.join(SUFFIXES)}.")
    if path.suffix == ".parquet":
        _pyarrow()


def metadata(file: TokenFile) -> Metadata:
    """Return what is true of all items of a token file."""
    from zoo import __version__

    return Metadata(
        format=_FORMAT,
        format_version=_FORMAT_VERSION,
        library_version=__version__,
        model=file.model,
        source=file.source,
        fingerprint=file.fingerprint,
        codebook_size=file.tokens.codebook_size,
        num_codebooks=file.tokens.num_codebooks,
        items=len(file.tokens),
        tokens=int(file.tokens.lengths.sum()) * file.tokens.num_codebooks,
        grid=file.tokens.grid,
        fast_dtype=file.fast_name,
        spec=file.spec,
    )


def read_metadata(path: str | os.PathLike[str]) -> Metadata:
    """Read the metadata of a table, and no ids.

    Raises:
        CheckpointError: There is no such file, it is damaged, or `save` did not write it.
        MissingExtraError: It is Parquet, and pyarrow is not installed.
    """
    source = Path(path)
    if not source.is_file():
        what = "is not a file" if os.path.lexists(source) else "does not exist"
        raise CheckpointError(f"{source} {what}: give a file as `zoo encode` writes them.")
    if source.suffix not in SUFFIXES:
        raise CheckpointError(f"{source} is no table of ids: their names end in {', '.join(SUFFIXES)}.")
    try:
        values = _READERS[source.suffix](source)
    except (MissingExtraError, MemoryError):
        raise
    except Exception as error:  # of the file system, JSON, zip files, NumPy and Arrow
        raise CheckpointError(
            f"{source} has no metadata of ids; it is truncated, damaged, or was not written by `zoo encode` ({error})."
        ) from error
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise CheckpointError(f"{source} was not written by `zoo encode`: its metadata is not of {_FORMAT!r}.")
    if values.get("format_version") != _FORMAT_VERSION:
        raise CheckpointError(
            f"{source} has the format version {values.get('format_version')!r:.80}, this library reads "
            f"{_FORMAT_VERSION}: update it (pip install -U tokenizer-zoo)."
        )
    try:
        return configs.from_dict(Metadata, values, "metadata")
    except ConfigError as error:
        raise CheckpointError(f"{source}: {error}") from error


def _rows(file: TokenFile) -> Iterator[dict[str, Any]]:
    """Yield each item by the keys of all formats, None where something is unknown; ids as an array."""
    tokens = file.tokens
    signal = [None] * len(tokens) if tokens.signal_lengths is None else tokens.signal_lengths.tolist()
    captions = (None if tokens.conditions is None else tokens.conditions.captions) or [None] * len(tokens)
    lengths = tokens.lengths.tolist()
    for row, name, length, signal_length, rate, caption in zip(
        tokens.ids, file.names, lengths, signal, file.rates, captions, strict=True
    ):
        ids = bits.shrink(row[:length].numpy(), tokens.codebook_size)
        yield {
            "name": name,
            "ids": ids,
            "length": length,
            "signal_length": signal_length,
            "rate": rate,
            "caption": caption,
        }


def _write_json_lines(out: BinaryIO, file: TokenFile) -> None:
    def write(value: dict[str, Any]) -> None:
        # In ASCII: readers that cut at every kind of line end would cut inside a string.
        out.write(json.dumps(value, allow_nan=False).encode() + b"\n")

    write({"metadata": configs.to_dict(metadata(file))})
    for row in _rows(file):
        write({key: value for key, value in (row | {"ids": row["ids"].tolist()}).items() if value is not None})


def _read_json_lines(path: Path) -> Any:
    with path.open("rb") as file:
        return json.loads(file.readline(_MAX_METADATA))["metadata"]


def _write_parquet(out: BinaryIO, file: TokenFile) -> None:
    arrow, parquet = _pyarrow()
    ids = arrow.list_(arrow.from_numpy_dtype(bits.smallest_dtype(file.tokens.codebook_size - 1)))
    columns = {
        "name": arrow.string(),
        "ids": ids if file.tokens.ids.ndim == 2 else arrow.list_(ids),
        "length": arrow.int64(),
        "signal_length": arrow.int64(),
        "rate": arrow.float64(),
        "caption": arrow.string(),
    }
    schema = arrow.schema(list(columns.items()), metadata={_KEY: json.dumps(configs.to_dict(metadata(file)))})
    with parquet.ParquetWriter(out, schema) as writer:
        group: list[dict[str, Any]] = []
        for number, row in enumerate(_rows(file), 1):
            group.append(row if row["ids"].ndim == 1 else row | {"ids": list(row["ids"])})
            if len(group) == _ROWS or number == len(file.tokens):
                writer.write_table(arrow.Table.from_pylist(group, schema))
                group = []


def _read_parquet(path: Path) -> Any:
    return json.loads(_pyarrow()[1].read_schema(path).metadata[_KEY.encode()])


def _write_npz(out: BinaryIO, file: TokenFile) -> None:
    tokens, facts = file.tokens, configs.to_dict(metadata(file))
    arrays: dict[str, Any] = {"names": np.array(file.names), "ids": tokens.numpy(), "lengths": tokens.lengths.numpy()}
    if tokens.signal_lengths is not None:
        arrays["signal_lengths"] = tokens.signal_lengths.numpy()
    if any(rate is not None for rate in file.rates):
        arrays["rates"] = np.array([math.nan if rate is None else rate for rate in file.rates])
    if tokens.conditions is not None and tokens.conditions.captions is not None:
        arrays["captions"] = np.array(tokens.conditions.captions)
    alone: dict[str, Any] = {key: np.array(facts[key]) for key in ("model", "fingerprint", "codebook_size")}
    np.savez_compressed(out, **arrays, **alone, metadata=np.array(json.dumps(facts)))


def _read_npz(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as file:  # which reads an array once it is asked for
        return json.loads(str(file["metadata"]))


def _pyarrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtraError(
            "Parquet needs pyarrow: pip install 'tokenizer-zoo[actions]', or choose .jsonl or .npz."
        ) from error


_WRITERS: dict[str, Callable[[BinaryIO, TokenFile], None]] = {
    ".jsonl": _write_json_lines,
    ".parquet": _write_parquet,
    ".npz": _write_npz,
}
_READERS: dict[str, Callable[[Path], Any]] = {
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
    ".npz": _read_npz,
}
SUFFIXES = tuple(_WRITERS)
"""What the names of tables end in, and what they are written as."""
