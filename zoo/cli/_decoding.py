"""What `zoo decode` and `zoo generate` share: tokens become files, each as soon as it is whole."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zoo.cli._inputs import as_flags
from zoo.cli._output import count, note, ticking
from zoo.cli._placing import placing
from zoo.errors import ConfigError, InputError, TokenError
from zoo.process.progress import listening
from zoo.spec import option_names

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.cli._output import Ticker
    from zoo.cli._placing import Placed
    from zoo.data.signals import Signal
    from zoo.modalities.action import ActionTokenizer
    from zoo.spec import TokenSpec
    from zoo.tokenfile import TokenFile
    from zoo.tokenizer import Tokenizer
    from zoo.tokens import Tokens

__all__ = ["OWN_OPTIONS", "check_decoding", "decode_into", "targets_of"]

OWN_OPTIONS = ("generator", "noise", "seed", "clamp", "sample_rate")
"""Options of decoding that commands decide: the noise by --seed, the range since what is out of it is counted, and the
rate since the file is to have that of the tokens."""


def targets_of(items: Sequence[str], modality: str, folder: Path, suffix: str | None = None) -> list[Path]:
    """Return the file that each item becomes, by its name, which ends in `suffix` or in what is usual.

    Raises:
        ConfigError: GIFs were asked for of what are no videos.
        TokenError: Two items would become one file.
    """
    from zoo.data import signals

    signal = signals.of(modality)
    if suffix is not None and signal.name != "video":
        raise ConfigError(f"the tokens are of {signal.name}, only videos are written as GIF: leave --gif out.")
    end = suffix or signal.suffix
    known = (*signal.suffixes, end)
    short = [name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in known else name for name in items]
    times = Counter(short)
    # `talk.wav` becomes talk.wav again, unless there is also talk.mp3: then talk.wav.wav and talk.mp3.wav.
    chosen = [f"{name if times[stem] > 1 else stem}{end}" for name, stem in zip(items, short, strict=True)]
    if twice := [name for name, often in Counter(chosen).items() if often > 1]:
        raise TokenError(f"several items would be written to {twice[0]!r}: they have the same name in the token file.")
    return [folder / name for name in chosen]


def check_decoding(
    tokenizer: Tokenizer,
    tokens: Tokens | None,
    targets: Sequence[Path],
    names: Sequence[str],
    rates: Sequence[float | None],
    frame_rate: float | None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Find out before the work what would end it, in the middle or after it.

    Args:
        tokenizer: What is to decode.
        tokens: What; None if there is nothing yet.
        targets: The file of each item.
        names: Of the items.
        rates: Theirs, as far as known.
        frame_rate: Of videos; their own if None.
        options: Of `decode`.

    Raises:
        InputError: A file cannot be written so.
        ZooError: As of `Tokenizer.check_decode`.
    """
    from zoo.data import signals

    kind, spec = signals.of(tokenizer.spec.modality), tokenizer.spec
    tokenizer.check_decode(tokens, **(options or {}))
    for name, target, rate in zip(names, targets, rates, strict=True):
        try:
            kind.check_writing(target, spec, _rate(kind, spec, rate, frame_rate))
        except InputError as error:
            raise InputError(as_flags(f"{name}: {error}")) from error


def _rate(kind: Signal, spec: TokenSpec, own: float | None, frame_rate: float | None) -> float | None:
    """Return samples or frames a second of what is written."""
    return spec.sample_rate if kind.has_rate else frame_rate or own or spec.sample_rate


def decode_into(
    folder: Path,
    targets: list[Path],
    name: str,
    content: str,
    tokenizer: Tokenizer,
    file: TokenFile,
    *,
    batch_size: int,
    seed: int,
    frame_rate: float | None,
    overwrite: bool,
    options: Mapping[str, Any] | None = None,
    first_commands: Tensor | None = None,
) -> int:
    """Decode and write all items that an interrupted run of the same command has not written.

    Args:
        folder: Where to.
        targets: The file of each item, in the folder or below.
        name: What the run is called in the folder while it is at work: the path of the token file, or a name.
        content: A digest of the tokens.
        tokenizer: What decodes.
        file: The tokens, with names and rates.
        batch_size: Items decoded together.
        seed: Of the noise of each.
        frame_rate: Of videos; as the file says if None.
        overwrite: Replace files that are there.
        options: Of `decode`.
        first_commands: Commands before each item, (B, D), of action tokenizers that need them.

    Returns:
        How many values had to be clipped.
    """
    from zoo import __version__
    from zoo.checkpoint.fingerprint import fingerprint

    start = None if first_commands is None else hashlib.sha256(first_commands.cpu().numpy().tobytes()).hexdigest()
    run = {
        "library_version": __version__,
        "tokens": content,
        "fingerprint": fingerprint(tokenizer),
        "start": start,
        "seed": seed,
        "frame_rate": frame_rate,
        "options": dict(options or {}),
    }
    with placing(folder, targets, name, run, overwrite) as placed:
        if placed.clipped:
            done = f"{len(placed.clipped):,} of {count(len(targets), 'item')}"
            note(f"going on after {done}, which an interrupted run has decoded.")
        try:
            _decode(tokenizer, file, batch_size, seed, frame_rate, placed, options or {}, first_commands)
        except BaseException:
            if placed.clipped:
                made = count(len(placed.clipped), "decoded item")
                note(f"{made} kept in {folder}: the same command goes on from there.")
            raise
    return sum(placed.clipped.values())


def _decode(
    tokenizer: Tokenizer,
    file: TokenFile,
    batch_size: int,
    seed: int,
    frame_rate: float | None,
    placed: Placed,
    given: Mapping[str, Any],
    first_commands: Tensor | None,
) -> None:
    import torch

    from zoo.data import signals
    from zoo.modalities.video import VideoTokenizer

    spec, kind = tokenizer.spec, signals.of(tokenizer.spec.modality)
    # Named like the tokenizer, which may be a copy of the model under another name.
    tokens = replace(file.tokens, model=tokenizer.name)
    known = option_names(tokenizer.decode_options)
    takes_generator = "generator" in known and "seed" not in known  # a seed is of each item's own noise
    left = [number for number in range(len(tokens)) if number not in placed.clipped]
    with torch.no_grad(), ticking("decoding", len(tokens)) as ticker:
        ticker.advance(len(tokens) - len(left))
        # An item's noise must not depend on the others.
        for numbers, batch in _batches(tokens, left, 1 if takes_generator else batch_size):
            options: dict[str, Any] = {**given, **({"clamp": False} if "clamp" in known else {})}  # counted here
            if "seed" in known:
                options["seed"] = seed
            elif takes_generator:
                options["generator"] = torch.Generator(tokenizer.device).manual_seed(seed)
            if first_commands is not None:
                options |= cast("ActionTokenizer", tokenizer).at_rest(first_commands[numbers])
            if isinstance(tokenizer, VideoTokenizer):
                parts = [tokenizer.decode_chunks(one, **options) for one in batch]
            else:
                with listening(partial(_partly, ticker, len(batch))):
                    decoded: Iterable[Tensor] = tokenizer.decode(batch, **options)
                if kind.padding is not None or batch.signal_lengths is not None:
                    decoded = map(kind.cut, decoded, tokenizer.output_lengths(batch).tolist())
                parts = [iter([signal]) for signal in decoded]
            lengths = tokenizer.output_lengths(batch).tolist() if isinstance(tokenizer, VideoTokenizer) else []
            for place, (number, signal) in enumerate(zip(numbers, parts, strict=True)):
                if lengths:
                    signal = _told(ticker, place, signal, lengths[place])
                rate = _rate(kind, spec, file.rates[number], frame_rate)
                inside = _Clipped(kind, signal)
                try:
                    with placed.file(number, inside.counted) as path:
                        kind.write_parts(path, inside, rate)
                except InputError as error:
                    raise InputError(as_flags(f"{file.names[number]}: {error}")) from error
            ticker.advance(len(batch))


def _partly(ticker: Ticker, count: int, share: float) -> None:
    """Show that a share of so many items is done."""
    ticker.partly(share * count)


def _told(ticker: Ticker, before: int, parts: Iterator[Tensor], length: int) -> Iterator[Tensor]:
    """Yield the parts of a video, and show how much of it has been made, behind some others of the batch."""
    seen = 0
    for part in parts:
        yield part
        seen += part.shape[1]
        ticker.partly(before + min(1.0, seen / max(1, length)))


class _Clipped:
    """Parts of a signal within the range, and a count of values that were out of it."""

    def __init__(self, kind: Signal, parts: Iterator[Tensor]) -> None:
        self.kind, self.parts, self.count = kind, parts, 0

    def __iter__(self) -> Iterator[Tensor]:
        for part in self.parts:
            values, outside = self.kind.clipped(part.cpu())
            self.count += outside
            yield values

    def counted(self) -> int:
        """Return the count so far."""
        return self.count


def _batches(tokens: Tokens, numbers: list[int], batch_size: int) -> Iterator[tuple[list[int], Tokens]]:
    for first in range(0, len(numbers), batch_size):
        part = numbers[first : first + batch_size]
        batch = tokens[part]
        yield part, batch.truncate(int(batch.lengths.max()))  # padding for longer items elsewhere in the file
