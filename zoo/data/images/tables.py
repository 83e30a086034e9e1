"""Pictures in tables: Parquet files, and the Arrow files that Hugging Face's `datasets` saves.

The column of pictures holds encoded files, as bytes, or as `{bytes, path}`, which is how `datasets` keeps them.
"""

from __future__ import annotations

import bisect
import itertools
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.data._source import unreadable
from zoo.data.collection import facts
from zoo.data.images.pictures import COLUMNS, Picture, Pictures
from zoo.errors import InputError, MissingExtraError, near_matches, shown

__all__ = ["ArrowPictures", "ParquetPictures"]


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("Pictures in tables need pyarrow: pip install 'tokenizer-zoo[actions]'.") from error
    return pyarrow


class _TablePictures(Pictures):
    """Rows of several files, each of which is read in blocks of rows.

    Args:
        files: The files, of one schema.
        columns: Names of the columns, where they are none of `COLUMNS`.

    Raises:
        InputError: A file is damaged or has no column of pictures, or a named column is missing.
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, files: Sequence[Path], columns: Mapping[str, str]) -> None:
        self.files = [str(file) for file in files]
        self.origin = self.files[0] if len(files) == 1 else f"{self.files[0]} and {len(files) - 1} more files"
        self._columns: dict[str, str] = {}
        rows: list[int] = []
        self._blocks: list[tuple[int, int]] = []  # file and block in it
        for number, file in enumerate(self.files):
            with unreadable(file, self.kind):
                schema, counts = self._open(file)
            found = _choose(schema, columns, file)
            if number and found != self._columns:
                raise InputError(f"{file} has other columns than {self.files[0]}: {found} and {self._columns}.")
            self._columns = found
            rows += counts
            self._blocks += [(number, block) for block in range(len(counts))]
        self._starts = [0, *itertools.accumulate(rows)]
        self._cache: OrderedDict[int, Any] = OrderedDict()
        if not len(self):
            raise InputError(f"{self.origin} has no rows.")

    kind: str
    kept: int  # blocks that stay open

    @abstractmethod
    def _open(self, file: str) -> tuple[Any, list[int]]:
        """Return the schema of a file, and how many rows its blocks have."""

    @abstractmethod
    def _load(self, file: str, block: int, columns: list[str]) -> Any:
        """Return a block of a file as a table."""

    def __len__(self) -> int:
        return self._starts[-1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": OrderedDict()}

    def name(self, index: int) -> str:
        """Return the file and the number of the row."""
        block = bisect.bisect_right(self._starts, index) - 1
        file = self._blocks[block][0]
        first = bisect.bisect_left(self._blocks, (file, 0))
        return f"{self.files[file]}, row {index - self._starts[first]}"

    def read(self, index: int) -> Picture:
        """Read a row."""
        block = bisect.bisect_right(self._starts, index) - 1
        file = self.files[self._blocks[block][0]]
        if block not in self._cache:
            with unreadable(file, self.kind):
                self._cache[block] = self._load(file, self._blocks[block][1], list(self._columns.values()))
            while len(self._cache) > self.kept:
                self._cache.popitem(last=False)
        self._cache.move_to_end(block)
        table, row = self._cache[block], index - self._starts[block]
        values = {field: table.column(name)[row].as_py() for field, name in self._columns.items()}
        label, caption = facts(values, self.name(index))
        return Picture(self._content(values["image"], Path(file).parent, index), label, caption)

    def sources(self) -> Sequence[str] | None:
        """Return the column of sources, if there is one."""
        if "source" not in self._columns:
            return None
        found: list[str] = []
        for file, block in self._blocks:
            with unreadable(self.files[file], self.kind):
                table = self._load(self.files[file], block, [self._columns["source"]])
            found += [value or "" for value in table.column(0).to_pylist()]
        return found

    def _content(self, value: Any, folder: Path, index: int) -> Path | bytes:
        if isinstance(value, dict):
            path, value = value.get("path"), value.get("bytes")
            if value is None and isinstance(path, str) and path:
                return folder / path
        if isinstance(value, bytes):
            return value
        raise InputError(f"{self.name(index)} holds no picture: {shown(value)}.")


class ParquetPictures(_TablePictures):
    """Pictures in Parquet files.

    A row is read with all its row group, of which the last two are kept: shuffled, row groups of many pictures cost as
    many reads. Files of small row groups, `datasets` folders and tar shards do not have that cost.
    """

    kind = "Parquet"
    kept = 2

    def _open(self, file: str) -> tuple[Any, list[int]]:
        with _pyarrow().parquet.ParquetFile(file) as table:
            groups = [table.metadata.row_group(number).num_rows for number in range(table.metadata.num_row_groups)]
            return table.schema_arrow, groups

    def _load(self, file: str, block: int, columns: list[str]) -> Any:
        with _pyarrow().parquet.ParquetFile(file) as table:
            return table.read_row_group(block, columns=columns).combine_chunks()


class ArrowPictures(_TablePictures):
    """Pictures in the Arrow files of a folder that `datasets` saved (`save_to_disk`), mapped into memory."""

    kind = "a file of Hugging Face's datasets"
    kept = 64

    def _open(self, file: str) -> tuple[Any, list[int]]:
        table = self._map(file)
        return table.schema, [table.num_rows]

    def _load(self, file: str, block: int, columns: list[str]) -> Any:
        return self._map(file).select(columns)

    @staticmethod
    def _map(file: str) -> Any:
        arrow = _pyarrow()
        return arrow.ipc.open_stream(arrow.memory_map(file)).read_all()


def _choose(schema: Any, columns: Mapping[str, str], file: str) -> dict[str, str]:
    """Return which column holds what."""
    arrow = _pyarrow()
    chosen = {}
    for field, names in COLUMNS.items():
        if field in columns:
            if columns[field] not in schema.names:
                raise InputError(
                    f"{file} has no column {shown(columns[field])}; {near_matches(columns[field], schema.names)}"
                )
            chosen[field] = columns[field]
        elif (name := next((name for name in names if name in schema.names), None)) is not None:
            chosen[field] = name
    kinds = {name: schema.field(name).type for name in schema.names}
    if "image" not in chosen:
        fitting = [name for name, kind in kinds.items() if arrow.types.is_struct(kind)]
        if len(fitting) != 1:
            raise InputError(
                f"{file} has no column of pictures named {' or '.join(COLUMNS['image'][:2])}: name it with "
                f"data.columns, as {{image: …}}; it has {', '.join(map(repr, schema.names))}."
            )
        chosen["image"] = fitting[0]
    kind = kinds[chosen["image"]]
    if not (arrow.types.is_struct(kind) or arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind)):
        raise InputError(
            f"the column {shown(chosen['image'])} of {file} must hold encoded pictures, as bytes or as "
            f"{{bytes, path}}, not {kind}."
        )
    # A label is often there as a name or a list; what the column's own name did not ask for is not a reason to stop.
    if "label" in chosen and "label" not in columns and not arrow.types.is_integer(kinds[chosen["label"]]):
        del chosen["label"]
    for field in ("caption", "source"):
        if field in chosen and field not in columns and not _is_text(arrow, kinds[chosen[field]]):
            del chosen[field]
    return chosen


def _is_text(arrow: Any, kind: Any) -> bool:
    return bool(arrow.types.is_string(kind) or arrow.types.is_large_string(kind))
