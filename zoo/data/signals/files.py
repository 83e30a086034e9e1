"""Signals that people keep in files of one item each, in folders."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from zoo.data.folders import files_in
from zoo.data.signals.base import Reading, Recording, Signal
from zoo.errors import InputError
from zoo.spec import TokenSpec
from zoo.strict import expanded

__all__ = ["FileSignal"]


class FileSignal(Signal):
    """A modality of which a file holds one item."""

    @abstractmethod
    def read_file(self, file: Path, spec: TokenSpec, reading: Reading) -> tuple[Tensor, float | None]:
        """Read an item that fits `spec`, without a batch dimension, and its rate if it has one.

        Raises:
            InputError: It cannot be read, or only fits if `reading` allows what it does not.
        """

    def find(
        self,
        inputs: Sequence[str],
        spec: TokenSpec,
        reading: Reading,
        keep_folders: bool,
        note: Callable[[str], None],
        **selection: str | None,
    ) -> list[Recording]:
        """Return the files that are named, and those of the modality in folders that are, in natural order."""
        files = [file for text in inputs for file in self._files(text, note)]
        names = [file.name for file in files]
        if keep_folders:
            paths = [file.absolute() for file in files]
            common = os.path.commonpath([path.parent for path in paths])
            names = [path.relative_to(common).as_posix() for path in paths]
        return [
            Recording(name, lambda file=file: self._read_named(file, spec, reading))  # type: ignore[misc]
            for name, file in zip(names, files, strict=True)
        ]

    def _files(self, text: str, note: Callable[[str], None]) -> list[Path]:
        path = expanded(text, InputError)
        if not path.is_dir():
            if not path.exists():
                raise InputError(f"{text!r} does not exist.")
            return [path]
        found = files_in(path)
        wanted = [file for file in found if file.suffix.lower() in self.suffixes]
        if not wanted:
            raise InputError(f"the folder {text!r} has no files of {self.name} ({', '.join(self.suffixes)}).")
        if others := set(found) - set(wanted):
            suffixes = sorted({file.suffix.lower() or "no suffix" for file in others})
            left_out = f"{len(others):,} file{'s' * (len(others) > 1)}"
            note(f"left out {left_out} of {text}, since only files of {self.name} are taken: {', '.join(suffixes)}.")
        return wanted

    def _read_named(self, file: Path, spec: TokenSpec, reading: Reading) -> tuple[Tensor, float | None]:
        try:
            return self.read_file(file, spec, reading)
        except InputError as error:
            if str(file) in str(error):
                raise
            raise InputError(f"{file}: {error}") from error
