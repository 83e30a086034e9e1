"""`zoo decode`: turn tokens back into files."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zoo.cli._declared import add_declared
from zoo.cli._inputs import add_action_arguments, as_flags
from zoo.cli._models import DEVICE_HELP, family_of, load_model
from zoo.cli._output import count, note, print_facts, print_json, ticking
from zoo.cli._parser import Parser, positive, positive_int, seed
from zoo.cli._placing import placing, require_free
from zoo.errors import CheckpointError, ConfigError, InputError, TokenError, ZooError
from zoo.spec import option_names

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.cli._placing import Placed
    from zoo.data.signals import Signal
    from zoo.modalities.action import ActionTokenizer
    from zoo.tokenfile import TokenFile
    from zoo.tokenizer import Tokenizer
    from zoo.tokens import Tokens

__all__ = ["decode", "main"]


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    parser = Parser(
        "decode",
        "TOKENS.zoo -o OUTDIR",
        "Turn the tokens in a token file back into files named after the inputs: speech\n"
        "into wav, images into png, videos into mp4, robot actions into npy files. Each is\n"
        "there as soon as it is whole, and the same command goes on where one that was\n"
        "interrupted has stopped.\n\n"
        "The token file says which model made it, and that model is loaded. A model with\n"
        "other weights or settings is refused, whatever its name.\n\n"
        "Models have options of their own: `zoo decode TOKENS.zoo --help` shows those of\n"
        "the one that made a file.",
        """
        zoo decode episodes.zoo -o decoded/
        zoo decode photos.zoo -o decoded/ --device cuda
        zoo decode episodes.zoo -o decoded/ --model ./my-robot
        zoo decode talks.zoo -o decoded/ --steps 10 --seed 3
        zoo decode episodes.zoo -o decoded/ --start episodes.npz
        """,
    )
    parser.add_argument("tokens", metavar="TOKENS.zoo", help="token file, as `zoo encode` writes it")
    parser.add_argument("-o", "--output", metavar="OUTDIR", required=True, help="folder to write files to (required)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    parser.add_argument("--device", default="cpu", metavar="NAME", help=DEVICE_HELP)
    parser.add_argument(
        "--batch-size", metavar="N", type=positive_int, default=16, help="items at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--model", metavar="MODEL", help="another copy of the model: name, folder or hf://owner/repo[@revision]"
    )
    parser.add_argument(
        "--force", action="store_true", help="decode although the model's weights or settings are different"
    )
    parser.add_argument(
        "--frame-rate", metavar="HZ", type=positive, help="frames a second of videos (default: that of the inputs)"
    )
    parser.add_argument("--gif", action="store_true", help="write videos as animated GIFs instead of mp4")
    parser.add_argument(
        "--seed", metavar="N", type=seed, default=0, help="for models that decode from noise (default: %(default)s)"
    )
    parser.add_argument(
        "--start",
        metavar="FILE",
        nargs="+",
        help="for models whose chunks continue the commands before: robot actions, such as those that were encoded, of "
        "which the first of each episode are taken for these",
    )
    parser.add_json()
    add_action_arguments(parser)
    names = add_declared(parser, arguments, partial(_family_of, arguments), "decode_options", _OWN)
    values = parser.values(arguments)
    decode(options={name: value for name in sorted(names) if (value := values.pop(name)) is not None}, **values)


# Options of decoding that are decided here: the noise by --seed, the range since what is out of it is counted, and the
# rate since the file is to have that of the tokens.
_OWN = ("generator", "noise", "seed", "clamp", "sample_rate")


def _family_of(arguments: Sequence[str], given: Sequence[str]) -> type[Tokenizer] | None:
    """Return the family of the model that is to decode a token file."""
    from zoo import tokenfile

    named = re.findall(r"^--model(?:=|\n)(.+)$", "\n".join(arguments), re.MULTILINE)
    is_file = Path(given[0]).suffix == tokenfile.SUFFIX
    source = named[-1] if named else tokenfile.load(given[0]).source if is_file else ""
    return family_of(source) if source else None


def decode(
    tokens: str,
    output: str,
    overwrite: bool,
    device: str,
    batch_size: int,
    model: str | None,
    force: bool,
    frame_rate: float | None,
    seed: int,
    json: bool,
    gif: bool = False,
    options: Mapping[str, Any] | None = None,
    start: Sequence[str] | None = None,
    column: str | None = None,
    key: str | None = None,
    split: str | None = None,
) -> None:
    """Decode a token file into a folder, and print what was written."""
    from zoo import tokenfile
    from zoo.tokenfile import tables

    if Path(tokens).suffix in tables.SUFFIXES:
        raise CheckpointError(f"{tokens} holds ids for other programs, which nothing checks: encode to a .zoo file.")
    file = tokenfile.load(tokens)
    folder = Path(output)
    targets = _targets(file, folder, ".gif" if gif else None)
    require_free(folder, targets, tokens, overwrite)
    tokenizer = _load(file, model, device, force)
    first = _first_commands(tokenizer, file, start, column=column, key=key, split=split)
    settings = {"seed": seed, "frame_rate": frame_rate, "options": dict(options or {})}
    run = _run(tokenizer, tokens, first, settings)
    with placing(folder, targets, tokens, run, overwrite) as placed:
        if placed.clipped:
            done = f"{len(placed.clipped):,} of {count(len(targets), 'item')}"
            note(f"going on after {done}, which an interrupted run has decoded.")
        try:
            _decode(tokenizer, file, batch_size, seed, frame_rate, placed, options or {}, first)
        except BaseException:
            if placed.clipped:
                made = count(len(placed.clipped), "decoded item")
                note(f"{made} kept in {folder}: the same command goes on from there.")
            raise
    if clipped := sum(placed.clipped.values()):
        note(f"{clipped:,} values of the decoded signals were out of range, and clipped to it.")
    if json:
        outputs = [str(target) for target in targets]
        print_json({"model": tokenizer.name, "items": len(targets), "clipped": clipped, "outputs": outputs})
        return
    ends = [str(target.relative_to(folder)) for target in (targets[0], targets[-1])]
    print_facts(
        f"{folder}: {count(len(targets), 'item')} decoded with {tokenizer.name}",
        {"files": ends[0] if len(targets) == 1 else " … ".join(ends)},
    )


def _targets(file: TokenFile, folder: Path, suffix: str | None = None) -> list[Path]:
    """Return the file that each item becomes, which ends in `suffix` or in what is usual.

    Raises:
        ConfigError: GIFs were asked for of what are no videos.
        TokenError: Two items would become one file.
    """
    from zoo.data import signals

    signal = signals.of(file.spec.modality)
    if suffix is not None and signal.name != "video":
        raise ConfigError(f"the tokens are of {signal.name}, only videos are written as GIF: leave --gif out.")
    end = suffix or signal.suffix
    known = (*signal.suffixes, end)
    short = [name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in known else name for name in file.names]
    times = Counter(short)
    # `talk.wav` becomes talk.wav again, unless there is also talk.mp3: then talk.wav.wav and talk.mp3.wav.
    chosen = [f"{name if times[stem] > 1 else stem}{end}" for name, stem in zip(file.names, short, strict=True)]
    if twice := [name for name, often in Counter(chosen).items() if often > 1]:
        raise TokenError(f"several items would be written to {twice[0]!r}: they have the same name in the token file.")
    return [folder / name for name in chosen]


def _run(
    tokenizer: Tokenizer, tokens: str, first_commands: Tensor | None, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what must be the same for an interrupted run to go on."""
    from zoo import __version__
    from zoo.checkpoint.fingerprint import fingerprint

    with Path(tokens).open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    start = None if first_commands is None else hashlib.sha256(first_commands.cpu().numpy().tobytes()).hexdigest()
    return {
        "library_version": __version__,
        "tokens": content,
        "fingerprint": fingerprint(tokenizer),
        "start": start,
        **settings,
    }


def _load(file: TokenFile, model: str | None, device: str, force: bool) -> Tokenizer:
    if model is None and not file.source:
        raise CheckpointError(
            f"the tokens were made by {file.model}, which was never stored: say where it is by --model."
        )
    if model is None and file.source.startswith("hf://"):
        note(f"the token file names {file.source}, which is downloaded unless it is there already.")
    try:
        tokenizer = load_model(file.source if model is None else model, device)
    except ZooError as error:
        if model is not None:
            raise
        raise CheckpointError(
            f"the tokens were made by {file.model}, which cannot be loaded from {file.source}: {error} If you have a "
            "copy elsewhere, name it by --model."
        ) from error
    if tokenizer.spec.modality != file.spec.modality:
        raise TokenError(f"{tokenizer.name} is for {tokenizer.spec.modality}, the tokens are of {file.spec.modality}.")
    if not force:
        try:
            file.require_made_by(tokenizer)
        except TokenError as error:
            raise TokenError(f"{error} Name the right one by --model, or decode nevertheless by --force.") from error
    return tokenizer


def _first_commands(
    tokenizer: Tokenizer, file: TokenFile, start: Sequence[str] | None, **reading: str | None
) -> Tensor | None:
    """Return what each motion continues, (B, D), if the tokenizer needs to know it.

    Args:
        tokenizer: Decodes them.
        file: The tokens.
        start: Files of actions: an episode for each item, by its name or, if there are as many, in order.
        reading: Options of `read_episodes`.

    Raises:
        ConfigError: It is needed and not there, or the other way round.
        InputError: The files cannot be read, or do not fit the tokens.
    """
    import torch

    from zoo.data.signals.action import read_episodes
    from zoo.modalities.action import ActionTokenizer

    if not isinstance(tokenizer, ActionTokenizer) or not tokenizer.num_fixed:
        if start or any(reading.values()):
            raise ConfigError(f"{tokenizer.name} decodes tokens alone: leave --start out.")
        return None
    if not start:
        raise ConfigError(
            f"chunks of {tokenizer.name} continue the commands before them, which tokens do not hold: name by --start "
            "the file of actions that was encoded, or another with an episode for each item, which begins where the "
            "motion does."
        )
    data = read_episodes(start, **reading)
    tokenizer.require_order(data.dof_names)
    by_name = dict(zip(data.names, data.episodes, strict=True))
    unknown = [name for name in file.names if name not in by_name]
    if unknown and len(data.episodes) != len(file.names):
        raise InputError(
            f"the token file has {count(len(file.names), 'item')} and --start {count(len(data.episodes), 'episode')}, "
            f"of which none is called {unknown[0]!r}: give an episode for each item."
        )
    episodes = data.episodes if unknown else [by_name[name] for name in file.names]
    return torch.stack([item[0] for item in tokenizer.as_ragged(episodes).items()])


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
    """Decode and write all items that are not there yet."""
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
                decoded: Iterable[Tensor] = tokenizer.decode(batch, **options)
                if kind.padding is not None or batch.signal_lengths is not None:
                    decoded = map(kind.cut, decoded, tokenizer.output_lengths(batch).tolist())
                parts = [iter([signal]) for signal in decoded]
            for number, signal in zip(numbers, parts, strict=True):
                rate = spec.sample_rate if kind.has_rate else frame_rate or file.rates[number] or spec.sample_rate
                inside = _Clipped(kind, signal)
                try:
                    with placed.file(number, inside.counted) as path:
                        kind.write_parts(path, inside, rate)
                except InputError as error:
                    raise InputError(as_flags(f"{file.names[number]}: {error}")) from error
            ticker.advance(len(batch))


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
