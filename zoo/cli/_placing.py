"""Files on their way into a folder: each is there as soon as it is whole, and a run that was cut off goes on.

In the folder there is another one while a run is at work, `.decoding-` and the name of the token file, with the file
that is being written and a journal: a line for the run, and one for each file, written before the file gets its name.
So whatever ends the process, a file under its name is whole, and the journal tells which are this run's. A later run
with the same tokens and settings leaves those as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from zoo.errors import CheckpointError

__all__ = ["Placed", "placing", "require_free", "require_writable"]

_FORMAT = "tokenizer-zoo decoding 1"
_JOURNAL = "journal.jsonl"


@contextmanager
def placing(
    folder: Path, targets: Sequence[Path], tokens: str, run: Mapping[str, Any], overwrite: bool
) -> Iterator[Placed]:
    """Open a folder to put files in, which is made if it is not there.

    What a run notes is gone afterwards if the context ends well. If it does not and no file is there, nothing is left.

    Args:
        folder: Where to.
        targets: All files of the run, in the folder or below.
        tokens: Path of the token file.
        run: What the files depend on, as plain values.
        overwrite: Replace files that are there.

    Raises:
        CheckpointError: A file is there and neither `overwrite` is set nor an earlier run of the same kind made it, or
            another process is at work on the same.
    """
    from zoo.checkpoint.atomic import held  # imports torch

    made: list[Path] = []
    try:
        _make(folder, made)
        notes = _notes(folder, tokens)
        with held(notes):
            placed = Placed(notes, targets, run, overwrite, made)
            is_done = False
            try:
                placed.open()
                yield placed
                is_done = True
            finally:
                placed.close()
                if is_done or (placed.is_begun and not placed.clipped):
                    shutil.rmtree(notes, ignore_errors=True)
                else:
                    with suppress(OSError):  # not empty: there is something to go on from
                        notes.rmdir()
    except BaseException:
        for parent in reversed(made):
            with suppress(OSError):  # not empty
                parent.rmdir()
        raise


def require_free(folder: Path, targets: Sequence[Path], tokens: str, overwrite: bool) -> None:
    """Find out early what would end a run that has nothing to go on from.

    Raises:
        CheckpointError: A file cannot be written, or is there and must not be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file: give a folder.")
    may_go_on = _notes(folder, tokens).is_dir()
    for target in targets:
        if target.is_dir():
            raise CheckpointError(f"{target}, where a file would be written, is a folder.")
        if not may_go_on:
            _require_free(target, overwrite)


def require_writable(*files: str | None) -> None:
    """Find out before the work what would make writing its result impossible after it.

    Args:
        files: Where to write, None for nowhere; folders above are made if they are not there, and files replaced.

    Raises:
        CheckpointError: One cannot be written.
    """
    for file in map(Path, filter(None, files)):
        if file.is_dir():
            raise CheckpointError(f"{file} is a folder: give the path of a file.")
        folder = next(parent for parent in file.absolute().parents if os.path.lexists(parent))
        if not folder.is_dir():
            raise CheckpointError(f"{file} cannot be written, since {folder} is no folder: choose another path.")
        if not os.access(file if file.exists() else folder, os.W_OK):
            raise CheckpointError(f"{file} cannot be written to: choose another path.")


class Placed:
    """Files that are there, to which files are added.

    Args:
        notes: Folder of the journal, which nobody else writes to.
        targets: All files of the run.
        run: What they depend on.
        overwrite: Replace files that are there.
        made: Gets the folders that are made.

    Attributes:
        clipped: For the number of each file that is there how many of its values were clipped.
        is_begun: Whether the journal is this run's.
    """

    def __init__(
        self, notes: Path, targets: Sequence[Path], run: Mapping[str, Any], overwrite: bool, made: list[Path]
    ) -> None:
        self.clipped: dict[int, int] = {}
        self.is_begun = False
        self._notes, self._targets, self._overwrite, self._made = notes, targets, overwrite, made
        self._first = {"format": _FORMAT, "run": json.loads(json.dumps(dict(run)))}
        self._journal: Any = None

    def open(self) -> None:
        """Take over what an earlier run has left.

        Raises:
            CheckpointError: A file that is not its is there and must not be replaced.
        """
        end = self._take_over()
        for number, target in enumerate(self._targets):
            if number not in self.clipped:
                _require_free(target, self._overwrite)
        self._journal = (self._notes / _JOURNAL).open("ab")
        self._journal.truncate(end)
        self.is_begun = True
        if not end:
            self._add(self._first)

    @contextmanager
    def file(self, number: int, clipped: Callable[[], int]) -> Iterator[Path]:
        """Yield the path where to write a file, which gets its name if the context ends well.

        Args:
            number: Of its target.
            clipped: Says how many of its values were clipped, and is asked when the file is whole.

        Raises:
            CheckpointError: Somebody else has put a file there meanwhile, which must not be replaced.
        """
        target = self._targets[number]
        staged = self._notes / f"{number}{target.suffix}"
        try:
            yield staged
            _make(target.parent, self._made)
            _require_free(target, self._overwrite)  # it may have come meanwhile
            count = clipped()
            self._add({"number": number, "digest": _digest(staged), "clipped": count})
            staged.replace(target)
            self.clipped[number] = count
        except BaseException:
            staged.unlink(missing_ok=True)
            raise

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            with suppress(OSError):  # of a full disk, which was told when a line did not get there
                self._journal.close()

    def _add(self, line: Mapping[str, Any]) -> None:
        self._journal.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._journal.flush()

    def _take_over(self) -> int:
        """Count the files that an earlier run has made and that are as it made them; return where its journal ends."""
        end = 0
        # What a killed process did not write as a whole is no line, and what others wrote there is none of ours.
        with (
            suppress(OSError, ValueError, KeyError, TypeError, IndexError),
            (self._notes / _JOURNAL).open("rb") as file,
        ):
            first = file.readline()
            if json.loads(first) != self._first:
                return 0
            end = len(first)
            for text in file:
                line = json.loads(text)
                if not text.endswith(b"\n"):
                    break
                number, digest, clipped = int(line["number"]), line["digest"], int(line["clipped"])
                with suppress(FileNotFoundError):  # the run ended before it got its name, or somebody has removed it
                    if _digest(self._targets[number]) == digest:
                        self.clipped[number] = clipped
                end += len(text)
        return end


def _notes(folder: Path, tokens: str) -> Path:
    from zoo.checkpoint.atomic import beside

    return beside(folder / Path(tokens).name, ".decoding-")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_free(target: Path, overwrite: bool) -> None:
    if os.path.lexists(target) and not overwrite:
        raise CheckpointError(f"{target} exists already: choose another folder, or pass --overwrite.")


def _make(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it, and add them to `made`, outermost first."""
    for parent in (*reversed(folder.parents), folder):
        if not parent.exists():
            parent.mkdir()
            made.append(parent)
