"""`zoo decode`: turn tokens back into files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._declared import add_declared
from zoo.cli._decoding import OWN_OPTIONS, check_decoding, decode_into, targets_of
from zoo.cli._inputs import add_action_arguments
from zoo.cli._models import DEVICE_HELP, family_of, load_model
from zoo.cli._output import count, note, print_facts, print_json
from zoo.cli._parser import Parser, positive, positive_int, seed
from zoo.cli._placing import require_free
from zoo.errors import CheckpointError, ConfigError, InputError, TokenError, ZooError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.tokenfile import TokenFile
    from zoo.tokenizer import Tokenizer

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
        zoo decode talks.zoo -o decoded/ --steps 10 --voice flite-awb
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
    names = add_declared(parser, arguments, partial(_family_of, arguments), "decode_options", OWN_OPTIONS)
    values = parser.values(arguments)
    decode(options={name: value for name in sorted(names) if (value := values.pop(name)) is not None}, **values)


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
    targets = targets_of(file.names, file.spec.modality, folder, ".gif" if gif else None)
    require_free(folder, targets, tokens, overwrite)
    tokenizer = _load(file, model, device, force)
    check_decoding(tokenizer, file.tokens, targets, file.names, file.rates, frame_rate, options)
    first = _first_commands(tokenizer, file, start, column=column, key=key, split=split)
    with Path(tokens).open("rb") as opened:
        content = hashlib.file_digest(opened, "sha256").hexdigest()
    clipped = decode_into(
        folder,
        targets,
        tokens,
        content,
        tokenizer,
        file,
        batch_size=batch_size,
        seed=seed,
        frame_rate=frame_rate,
        overwrite=overwrite,
        options=options,
        first_commands=first,
    )
    if clipped:
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
