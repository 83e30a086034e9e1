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
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from zoo import config as configs
from zoo.checkpoint.atomic import writing
from zoo.errors import CheckpointError, ConfigError, MissingExtraError
from zoo.spec import TokenSpec
from zoo.strict import is_file
from zoo.tokenfile.content import Contents, TokenFile

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


def save(path: str | os.PathLike[str], file: TokenFile | Contents, *, overwrite: bool = False) -> Path:
    """Write what a token file holds as a table, all of it or nothing; the path's suffix says as what.

    It is written item by item, Parquet group by group, with nothing held beside what is given.

    Args:
        path: Where to; it ends in one of `SUFFIXES`.
        file: What `zoo.tokenfile.collect` or a `Spool` put together, or `zoo.tokenfile.load` read.
        overwrite: Replace a file that is there.

    Returns:
        The path.

    Raises:
        CheckpointError: The file exists and `overwrite` is not set, it cannot be written, or has another suffix.
        MissingExtraError: Parquet is asked for, and pyarrow is not installed.
    """
    target = Path(path)
    require_writable(target)
    contents = _contents(file)
    with writing(target, overwrite) as out:
        _WRITERS[target.suffix](out, contents)
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


def metadata(file: TokenFile | Contents) -> Metadata:
    """Return what is true of all items of a token file."""
    from zoo import __version__

    contents = _contents(file)
    origin = contents.origin
    return Metadata(
        format=_FORMAT,
        format_version=_FORMAT_VERSION,
        library_version=__version__,
        model=origin.model,
        source=origin.source,
        fingerprint=origin.fingerprint,
        codebook_size=origin.spec.require_codebook(),
        num_codebooks=origin.spec.num_codebooks,
        items=len(contents.lengths),
        tokens=contents.ids.size,
        grid=contents.grid,
        fast_dtype=origin.fast_name,
        spec=origin.spec,
    )


def read_metadata(path: str | os.PathLike[str]) -> Metadata:
    """Read the metadata of a table, and no ids.

    Raises:
        CheckpointError: There is no such file, it is damaged, or `save` did not write it.
        MissingExtraError: It is Parquet, and pyarrow is not installed.
    """
    source = Path(path)
    if not is_file(source):
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


def _contents(file: TokenFile | Contents) -> Contents:
    return file.contents() if isinstance(file, TokenFile) else file


def _rows(contents: Contents) -> Iterator[dict[str, Any]]:
    """Yield each item by the keys of all formats, None where something is unknown; ids as an array."""
    count = len(contents.lengths)
    signal = [None] * count if contents.signal_lengths is None else contents.signal_lengths.tolist()
    captions = contents.captions or [None] * count
    end = 0
    for name, length, signal_length, rate, caption in zip(
        contents.names, contents.lengths.tolist(), signal, contents.rates, captions, strict=True
    ):
        start, end = end, end + length
        yield {
            "name": name,
            "ids": contents.ids[start:end],
            "length": length,
            "signal_length": signal_length,
            "rate": rate,
            "caption": caption,
        }


def _write_json_lines(out: BinaryIO, contents: Contents) -> None:
    def write(value: dict[str, Any]) -> None:
        # In ASCII: readers that cut at every kind of line end would cut inside a string.
        out.write(json.dumps(value, allow_nan=False).encode() + b"\n")

    write({"metadata": configs.to_dict(metadata(contents))})
    for row in _rows(contents):
        write({key: value for key, value in (row | {"ids": row["ids"].tolist()}).items() if value is not None})


def _read_json_lines(path: Path) -> Any:
    with path.open("rb") as file:
        return json.loads(file.readline(_MAX_METADATA))["metadata"]


def _write_parquet(out: BinaryIO, contents: Contents) -> None:
    arrow, parquet = _pyarrow()
    ids = arrow.list_(arrow.from_numpy_dtype(contents.ids.dtype))
    columns = {
        "name": arrow.string(),
        "ids": ids if contents.ids.ndim == 1 else arrow.list_(ids),
        "length": arrow.int64(),
        "signal_length": arrow.int64(),
        "rate": arrow.float64(),
        "caption": arrow.string(),
    }
    schema = arrow.schema(list(columns.items()), metadata={_KEY: json.dumps(configs.to_dict(metadata(contents)))})
    with parquet.ParquetWriter(out, schema) as writer:
        group: list[dict[str, Any]] = []
        for number, row in enumerate(_rows(contents), 1):
            group.append(row if row["ids"].ndim == 1 else row | {"ids": list(row["ids"])})
            if len(group) == _ROWS or number == len(contents.lengths):
                writer.write_table(arrow.Table.from_pylist(group, schema))
                group = []


def _read_parquet(path: Path) -> Any:
    return json.loads(_pyarrow()[1].read_schema(path).metadata[_KEY.encode()])


def _write_npz(out: BinaryIO, contents: Contents) -> None:
    """Write what `numpy.savez_compressed` would, but for the padded ids, which it would want to have all at once."""
    facts = configs.to_dict(metadata(contents))
    arrays: dict[str, Any] = {"names": np.array(contents.names), "ids": None, "lengths": contents.lengths}
    if contents.signal_lengths is not None:
        arrays["signal_lengths"] = contents.signal_lengths
    if any(rate is not None for rate in contents.rates):
        arrays["rates"] = np.array([math.nan if rate is None else rate for rate in contents.rates])
    if contents.captions is not None:
        arrays["captions"] = np.array(contents.captions)
    arrays |= {key: np.array(facts[key]) for key in ("model", "fingerprint", "codebook_size")}
    arrays["metadata"] = np.array(json.dumps(facts))
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                if array is None:
                    _write_padded(member, contents)
                else:
                    np.lib.format.write_array(member, array, allow_pickle=False)


def _write_padded(out: Any, contents: Contents) -> None:
    """Write the ids of all items in `.npy` format, code 0 past the end of each."""
    dtype, shape = contents.ids.dtype, (contents.longest, *contents.ids.shape[1:])
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
    np.lib.format.write_array_header_1_0(out, {**described, "shape": (len(contents.lengths), *shape)})
    for row in _rows(contents):
        padded = np.zeros(shape, dtype)
        padded[: row["length"]] = row["ids"]
        out.write(padded.tobytes())


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


_WRITERS: dict[str, Callable[[BinaryIO, Contents], None]] = {
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
