"""What `zoo decode` and `zoo generate` share: tokens become files, all of them or none."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zoo.cli._inputs import as_flags
from zoo.cli._output import ticking
from zoo.errors import CheckpointError, InputError, TokenError
from zoo.spec import option_names

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.modalities.action import ActionTokenizer
    from zoo.tokenfile import TokenFile
    from zoo.tokenizer import Tokenizer
    from zoo.tokens import Tokens

__all__ = ["OWN_OPTIONS", "decode_to", "staged", "targets_of"]

OWN_OPTIONS = ("generator", "noise", "seed", "clamp", "sample_rate")
"""Options of decoding that commands decide: the noise by --seed, the range since what is out of it is counted, and the
rate since the file is to have that of the tokens."""


def targets_of(file: TokenFile, folder: Path, overwrite: bool) -> list[Path]:
    """Return the file that each item becomes.

    Raises:
        CheckpointError: One of them exists, or cannot be written.
        TokenError: Two items would become one file.
    """
    from zoo.data import signals

    signal = signals.of(file.spec.modality)
    end = signal.suffix
    known = (*signal.suffixes, end)
    short = [name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in known else name for name in file.names]
    times = Counter(short)
    # `talk.wav` becomes talk.wav again, unless there is also talk.mp3: then talk.wav.wav and talk.mp3.wav.
    chosen = [f"{name if times[stem] > 1 else stem}{end}" for name, stem in zip(file.names, short, strict=True)]
    if twice := [name for name, often in Counter(chosen).items() if often > 1]:
        raise TokenError(f"several items would be written to {twice[0]!r}: they have the same name in the token file.")
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file: give a folder.")
    targets = [folder / name for name in chosen]
    for target in targets:
        if target.is_dir():
            raise CheckpointError(f"{target}, where a file would be written, is a folder.")
        if os.path.lexists(target) and not overwrite:
            raise CheckpointError(f"{target} exists already: choose another folder, or pass --overwrite.")
    return targets


def decode_to(
    tokenizer: Tokenizer,
    file: TokenFile,
    batch_size: int,
    seed: int,
    frame_rate: float | None,
    paths: list[Path],
    given: Mapping[str, Any],
    first_commands: Tensor | None,
) -> int:
    """Decode and write all items; return how many values had to be clipped."""
    import torch

    from zoo.data import signals

    spec, kind = tokenizer.spec, signals.of(tokenizer.spec.modality)
    # Named like the tokenizer, which may be a copy of the model under another name.
    tokens = replace(file.tokens, model=tokenizer.name)
    known = option_names(tokenizer.decode_options)
    takes_generator = "generator" in known and "seed" not in known  # a seed is of each item's own noise
    clipped = 0
    with torch.no_grad(), ticking("decoding", len(tokens)) as ticker:
        # An item's noise must not depend on the others.
        for first, batch in _batches(tokens, 1 if takes_generator else batch_size):
            options: dict[str, Any] = {**given, **({"clamp": False} if "clamp" in known else {})}  # counted here
            if "seed" in known:
                options["seed"] = seed
            elif takes_generator:
                options["generator"] = torch.Generator(tokenizer.device).manual_seed(seed)
            if first_commands is not None:
                options |= cast("ActionTokenizer", tokenizer).at_rest(first_commands[first : first + len(batch)])
            decoded: Iterable[Tensor] = tokenizer.decode(batch, **options).cpu()
            if kind.padding is not None or batch.signal_lengths is not None:
                decoded = map(kind.cut, decoded, tokenizer.output_lengths(batch).tolist())
            for number, signal in enumerate(decoded, first):
                values, outside = kind.clipped(signal)
                rate = spec.sample_rate if kind.has_rate else frame_rate or file.rates[number] or spec.sample_rate
                try:
                    kind.write(paths[number], values, rate)
                except InputError as error:
                    raise InputError(as_flags(f"{file.names[number]}: {error}")) from error
                clipped += outside
            ticker.advance(len(batch))
    return clipped


def _batches(tokens: Tokens, batch_size: int) -> Iterator[tuple[int, Tokens]]:
    for first in range(0, len(tokens), batch_size):
        batch = tokens[first : first + batch_size]
        yield first, batch.truncate(int(batch.lengths.max()))  # padding for longer items elsewhere in the file


@contextmanager
def staged(folder: Path, targets: list[Path]) -> Iterator[list[Path]]:
    """Yield a temporary path for each target, and put all of them in place at the end, or none."""
    made: list[Path] = []
    placed: list[Path] = []
    try:
        _make(folder, made)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".decoding-") as scratch:
            scratches = [Path(scratch, f"{number}{target.suffix}") for number, target in enumerate(targets)]
            yield scratches
            for source, target in zip(scratches, targets, strict=True):
                _make(target.parent, made)
                is_new = not os.path.lexists(target)
                source.replace(target)
                placed += [target] * is_new
    except BaseException:
        for target in placed:
            target.unlink(missing_ok=True)
        for parent in reversed(made):
            with suppress(OSError):  # somebody else has put something there in the meantime
                parent.rmdir()
        raise


def _make(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it, and add them to `made`, outermost first."""
    for parent in (*reversed(folder.parents), folder):
        if not parent.exists():
            parent.mkdir()
            made.append(parent)
