"""Tokens on their way into a file: each batch goes to disk at once, and a run that was cut off goes on where it was.

Beside the file that is to be made there is a folder while it is being made, `.encoding-` and its name, with the ids of
all batches as they are in memory, and a journal: a line for the run, and one for each batch, written after its ids. So
whatever ends the process, what the journal tells of is there, and a later run with the same settings and inputs takes
it over. The checksum of each batch finds out what a failing disk or machine has lost.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from zoo.checkpoint.atomic import beside, held
from zoo.errors import TokenError
from zoo.tokenfile.content import Contents, Origin, require_consistent
from zoo.tokenizer import Tokenizer
from zoo.tokens import Tokens, bits

__all__ = ["Spool", "spooling"]

_FORMAT = "tokenizer-zoo encoding 1"
_JOURNAL = "journal.jsonl"
_LISTS = ("names", "rates", "lengths", "signal_lengths", "captions", "state_lengths")
_FILES = ("ids", "states")


@contextmanager
def spooling(target: Path, tokenizer: Tokenizer, settings: Mapping[str, Any]) -> Iterator[Spool]:
    """Open the spool of a file that is to be made.

    It is gone afterwards if the context ends well, or if it holds nothing.

    Args:
        target: The file.
        tokenizer: What makes the tokens.
        settings: What else the ids depend on, as plain values.

    Raises:
        CheckpointError: Another process is making the same file.
        ConfigError: The tokenizer is continuous.
    """
    folder = beside(target, ".encoding-")
    spool = Spool(folder, tokenizer, settings)
    with held(folder):
        is_done = False
        try:
            yield spool
            is_done = True
        finally:
            spool.close()
            if is_done or (spool.is_begun and not spool.names):
                shutil.rmtree(folder, ignore_errors=True)


class Spool:
    """Batches of tokens in a folder, to which batches are added.

    Args:
        folder: Where; once `go_on` is called it exists, and nobody else writes there.
        tokenizer: What makes the tokens.
        settings: What else the ids depend on, as plain values.

    Attributes:
        names: Of all items so far.
        lengths: Positions of each.
        notes: What was noted of each batch.
        grid: Of all items.
        num_inputs: How many inputs are done with, be it that they are encoded or that they cannot be.
        is_begun: Whether `go_on` was called.
        is_anew: Whether something was there that could not be used: of another model, other settings or other inputs.
    """

    def __init__(self, folder: Path, tokenizer: Tokenizer, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.origin = Origin.of(tokenizer)
        self.is_begun = False
        self.is_anew = False
        self.notes: list[Any] = []
        self.num_inputs = 0
        self.grid: tuple[int, ...] | None = None
        self._tokenizer = tokenizer
        self._dtype = bits.smallest_dtype(self.origin.spec.require_codebook() - 1)
        self._run = _run(self.origin, settings)
        self._lists: dict[str, list[Any] | None] = {}
        self._width = 0
        self._inputs: Sequence[Callable[[], str]] = ()
        self._digest = hashlib.sha256()
        self._open: dict[str, Any] = {}

    @property
    def names(self) -> list[str]:
        """Names of all items so far."""
        return self._lists.get("names") or []

    @property
    def lengths(self) -> list[int]:
        """Positions of each."""
        return self._lists.get("lengths") or []

    def go_on(self, inputs: Sequence[Callable[[], str]]) -> int:
        """Take over what an earlier run has left, as far as it is of the same inputs, and say how many these are.

        Args:
            inputs: For each input in order what tells that it is the same: its name, its size, when it was changed.
        """
        self._inputs = inputs
        end = self._take_over()
        self.is_anew = not self.names and any(self.folder.iterdir())
        self.is_begun = True
        for name in _FILES:
            self._open[name] = _opened(self.folder / name, self._sizes()[name])
        self._open["journal"] = _opened(self.folder / _JOURNAL, end)
        if not end:
            self._open["journal"].write(_line({"format": _FORMAT, "run": self._run}))
        return self.num_inputs

    def append(
        self,
        tokens: Tokens,
        names: Sequence[str],
        rates: Sequence[float | None],
        *,
        inputs: int,
        note: Any = None,
    ) -> None:
        """Add a batch; once this returns, no end of the process loses it.

        Args:
            tokens: What the tokenizer has made.
            names: One an item.
            rates: One an item, None where unknown.
            inputs: How many inputs are done with now.
            note: Plain values that are to be in `notes`.

        Raises:
            TokenError: They are another tokenizer's, or cannot be in one file with those before.
        """
        tokens = self._tokenizer.as_tokens(tokens).to("cpu")
        ids = bits.shrink(tokens.ids[tokens.mask].numpy(), tokens.codebook_size)
        conditions = tokens.conditions
        arrays = {} if conditions is None else conditions.to_arrays()
        values = {"ids": ids, "states": arrays.get("condition_states", np.zeros((0, 0), np.float32))}
        line = {
            "names": list(names),
            "rates": [None if rate is None else float(rate) for rate in rates],
            "lengths": tokens.lengths.tolist(),
            "signal_lengths": None if tokens.signal_lengths is None else tokens.signal_lengths.tolist(),
            "captions": None if conditions is None or conditions.captions is None else list(conditions.captions),
            "state_lengths": arrays["condition_lengths"].tolist() if arrays else None,
            "grid": None if tokens.grid is None else list(tokens.grid),
            "width": values["states"].shape[1],
            "checksums": [zlib.crc32(values[name].tobytes()) for name in _FILES],
            "inputs": inputs,
            "digest": (digest := self._digest_of(inputs)).hexdigest(),
            "note": note,
        }
        self._require_alike(line)
        for name in _FILES:
            self._open[name].write(values[name].tobytes())
            self._open[name].flush()
        self._open["journal"].write(_line(line))
        self._open["journal"].flush()
        self._take(line, digest)

    def contents(self) -> Contents:
        """Return what is there now, to be written as a file.

        Raises:
            TokenError: It cannot be in one file.
        """
        rates, signal, captions, state_lengths = (
            self._lists[name] for name in ("rates", "signal_lengths", "captions", "state_lengths")
        )
        books = self.origin.spec.num_codebooks
        states = {}
        if state_lengths is not None:
            states["condition_states"] = self._map("states", np.dtype(np.float32), self._width)
            states["condition_lengths"] = np.array(state_lengths, np.int64)
        contents = Contents(
            self.origin,
            tuple(self.names),
            tuple(rates or ()),
            self.grid,
            np.array(self.lengths, np.int64),
            self._map("ids", self._dtype, *([books] if books > 1 else [])),
            None if signal is None else np.array(signal, np.int64),
            None if captions is None else tuple(captions),
            states,
        )
        require_consistent(contents.names, contents.rates, contents.grid, len(contents.lengths), contents.longest)
        return contents

    def close(self) -> None:
        """Close the files."""
        while self._open:
            with suppress(OSError):  # of a full disk, which was told when a batch did not get there
                self._open.popitem()[1].close()

    def _map(self, name: str, dtype: np.dtype, *rest: int) -> np.ndarray:
        """Return what is in a file as an array that is read when it is looked at."""
        shape = (self._sizes()[name] // (dtype.itemsize * math.prod(rest)), *rest)
        if 0 in shape:  # which cannot be mapped
            return np.zeros(shape, dtype)
        return np.memmap(self.folder / name, dtype, "r", shape=shape)

    def _sizes(self) -> dict[str, int]:
        """Return how many bytes of each file there are."""
        books = self.origin.spec.num_codebooks
        states = sum(self._lists.get("state_lengths") or ())
        return {"ids": sum(self.lengths) * books * self._dtype.itemsize, "states": states * self._width * 4}

    def _digest_of(self, inputs: int) -> Any:
        """Return the digest of the first inputs, of which it goes on with those that are new."""
        digest = self._digest.copy()
        for tell in self._inputs[self.num_inputs : inputs]:
            digest.update(tell().encode("utf-8", "surrogateescape") + b"\n")
        return digest

    def _require_alike(self, line: dict[str, Any]) -> None:
        """Raise `TokenError` if a batch cannot be in one file with those before."""
        if not self._lists:
            return
        grid = None if line["grid"] is None else tuple(line["grid"])
        if grid != self.grid and None not in (grid, self.grid):
            first, other = self.names[0], line["names"][0]
            raise TokenError(
                f"a token file has one grid, these items differ: {self.grid} ({first}) and {grid} ({other}). Encode "
                "them apart."
            )
        if any((self._lists[name] is None) != (line[name] is None) for name in ("captions", "state_lengths")) or (
            line["width"] != self._width
        ):
            raise TokenError("only tokens with conditions of one kind can be joined: captions, states of one width.")

    def _take(self, line: dict[str, Any], digest: Any) -> None:
        """Count a batch that is on disk."""
        is_first = not self._lists
        for name in _LISTS:
            known = self._lists.setdefault(name, [])
            if known is None or line[name] is None:  # a signal's length that is unknown of one item is so of the file
                self._lists[name] = None
            else:
                known += line[name]
        grid = None if line["grid"] is None else tuple(line["grid"])
        self.grid = grid if is_first or grid == self.grid else None  # which the items do not have in common
        self._width = line["width"]
        self._digest, self.num_inputs = digest, line["inputs"]
        self.notes.append(line["note"])

    def _take_over(self) -> int:
        """Take the batches that an earlier run has left, and return up to where its journal can be used."""
        end = 0
        # What a killed process did not write as a whole is no line, and what others wrote there is none of ours.
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError), ExitStack() as stack:
            journal = stack.enter_context((self.folder / _JOURNAL).open("rb"))
            first = journal.readline()
            if json.loads(first) != {"format": _FORMAT, "run": self._run}:
                return 0
            end = len(first)
            files = {name: stack.enter_context((self.folder / name).open("rb")) for name in _FILES}
            for text in journal:
                line = json.loads(text)
                digest = self._digest_of(line["inputs"])
                if not text.endswith(b"\n") or digest.hexdigest() != line["digest"] or not self._is_whole(line, files):
                    break
                self._take(line, digest)
                end += len(text)
        return end

    def _is_whole(self, line: dict[str, Any], files: Mapping[str, Any]) -> bool:
        """Whether the values of the next batch are there."""
        sizes = {
            "ids": sum(line["lengths"]) * self.origin.spec.num_codebooks * self._dtype.itemsize,
            "states": sum(line["state_lengths"] or ()) * line["width"] * 4,
        }
        read = [files[name].read(sizes[name]) for name in _FILES]
        return [len(values) for values in read] == list(sizes.values()) and (
            [zlib.crc32(values) for values in read] == line["checksums"]
        )


def _run(origin: Origin, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be the same for a run to go on, as JSON has it."""
    from zoo import __version__

    facts = {"library_version": __version__, "fingerprint": origin.fingerprint, "fast_dtype": origin.fast_name}
    plain: dict[str, Any] = json.loads(json.dumps({**facts, "model": origin.model, "settings": dict(settings)}))
    return plain


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _opened(path: Path, size: int) -> Any:
    """Open a file to add to what it has up to `size` bytes."""
    file = path.open("ab")
    file.truncate(size)
    return file
