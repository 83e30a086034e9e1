"""`zoo encode`: turn files into tokens."""

from __future__ import annotations

import math
import os
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._declared import add_declared
from zoo.cli._inputs import add_action_arguments, find_items, with_skip_bad
from zoo.cli._models import DEVICE_HELP, MODEL_HELP, family_of, load_model
from zoo.cli._output import count, note, number, print_facts, print_json, print_table, size
from zoo.cli._parser import Parser, positive_int, whole
from zoo.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from zoo.cli._encoding import Cost
    from zoo.cli._inputs import LeftOut
    from zoo.data.signals import Reading
    from zoo.tokenfile.spool import Spool
    from zoo.tokenizer import Tokenizer

__all__ = ["encode", "main"]


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    parser = Parser(
        "encode",
        "MODEL INPUT... -o OUT",
        "Turn files into tokens, and store the tokens of all of them in one file, from\n"
        "which `zoo decode` makes files again. Tokens go to disk as they are made, and the\n"
        "same command goes on where one that was interrupted has stopped.\n\n"
        "An input is a file, or a folder, of which all sounds, pictures or videos are\n"
        "taken, subfolders included. Robot actions are read from npy, npz and Parquet\n"
        "files, folders of npy files, and LeRobotDatasets; each episode is an item.\n"
        "Nothing is resampled, resized or cut unless an option says so.\n\n"
        "The token file names the model, and the inputs without their folders. If the\n"
        "model is a folder of yours, it says where that is. `zoo info OUT` shows what it\n"
        "says, and in Python zoo.tokenfile.load(OUT) reads it, ids and all.\n\n"
        "For other programs, the ids can be written as JSON lines, Parquet or NumPy\n"
        "arrays instead: with names, lengths and the facts of the model, but they cannot\n"
        "be decoded from. What is in them: help('zoo.tokenfile.tables').\n\n"
        "Models have options of their own: `zoo encode MODEL --help` shows those of one.",
        """
        zoo encode beast episodes.npz -o episodes.zoo
        zoo encode ./my-robot lerobot-dataset/ -o train.zoo --split train
        zoo encode MODEL corpus/ -o ids.jsonl
        zoo encode MODEL talk.wav interview.mp3 -o talks.zoo --resample --mix-down
        zoo encode MODEL photos/ -o photos.zoo --resize cut --skip-bad --device cuda
        zoo encode stabletoken lecture.wav -o lecture.zoo --overlap 2
        """,
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="files or folders")
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        required=True,
        type=_token_path,
        help="file to write (required): .zoo, which can be decoded, or .jsonl, .parquet, .npz",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it is there")
    parser.add_argument("--device", default="cpu", metavar="NAME", help=DEVICE_HELP)
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=positive_int,
        default=16,
        help="items at a time; a matter of speed and memory only (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=whole,
        default=min(4, os.cpu_count() or 1),
        help="threads that read pictures and videos ahead; 0 for none (default: %(default)s)",
    )
    parser.add_argument("--keep-folders", action="store_true", help="store the inputs' folders as part of their names")
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out what cannot be read or encoded, and say at the end what and why",
    )
    parser.add_argument("--bits", action="store_true", help="also print tokens, bits and compression of each item")
    parser.add_json()
    group = parser.add_argument_group("making an input fit the model")
    group.add_argument("--resample", action="store_true", help="convert sounds and videos of another rate")
    group.add_argument("--mix-down", action="store_true", help="average the channels of a sound")
    group.add_argument(
        "--resize", choices=["cut", "stretch"], help="scale pictures and videos of another size, then cut, or stretch"
    )
    group.add_argument("--on-white", action="store_true", help="lay transparent pictures on white")
    group.add_argument("--trim", action="store_true", help="take the beginning of videos that are too long")
    add_action_arguments(parser)
    offered = add_declared(parser, arguments, lambda given: family_of(given[0]), "encode_options")
    values = parser.values(arguments)
    from zoo.data.signals import Reading

    reading = Reading(**{field.name: values.pop(field.name) for field in fields(Reading)})
    options = {name: value for name in sorted(offered) if (value := values.pop(name)) is not None}
    encode(reading=reading, options=options, decoder=any(offered[name].decodes for name in options), **values)


_SUFFIXES = (".zoo", ".jsonl", ".parquet", ".npz")  # of `zoo.tokenfile`, whose import takes seconds


def _token_path(value: str) -> str:
    if not value.endswith(_SUFFIXES):
        raise ArgumentTypeError(
            f"{value!r} is not the name of a token file, it must end in .zoo, or in {', '.join(_SUFFIXES[1:])} for ids "
            "alone"
        )
    return value


def encode(
    model: str,
    inputs: Sequence[str],
    output: str,
    overwrite: bool,
    device: str,
    batch_size: int,
    bits: bool,
    json: bool,
    reading: Reading,
    options: Mapping[str, Any] | None = None,
    skip_bad: bool = False,
    workers: int = 0,
    decoder: bool = False,
) -> None:
    """Encode files, write a token file, and print what it holds."""
    target = Path(output)
    _check_target(target, overwrite)
    from zoo import tokenfile
    from zoo.cli._encoding import costs, encode_items
    from zoo.modalities.action import ActionTokenizer
    from zoo.tokenfile import tables
    from zoo.tokenfile.spool import spooling

    if target.suffix != tokenfile.SUFFIX:
        tables.require_writable(target)

    options = options or {}
    tokenizer = load_model(model, device, decoder=decoder)
    tokenizer.check_encode(**options)
    left_out: list[LeftOut] | None = [] if skip_bad else None
    items = find_items(tokenizer, inputs, reading, left_out)
    if isinstance(tokenizer, ActionTokenizer):
        for item in items:
            tokenizer.require_order(item.dof_names)
        if tokenizer.num_fixed:
            note(
                f"chunks of {tokenizer.name} continue the commands before them: the first of each episode is taken for "
                "those before it, as of a robot at rest. Give the same inputs to `zoo decode --start`."
            )
    with spooling(target, tokenizer, {"options": options, "reading": asdict(reading)}) as spool:
        try:
            encode_items(tokenizer, items, spool, batch_size, options, left_out, workers)
            write = tokenfile.write if target.suffix == tokenfile.SUFFIX else tables.save
            write(target, spool.contents(), overwrite=overwrite)
        except InputError as error:
            _tell(left_out)
            _tell_kept(spool)
            if skip_bad or len(items) == 1:
                raise
            raise with_skip_bad(error, len(items)) from error
        except BaseException:
            _tell_kept(spool)
            raise
    per_item = costs(spool)
    summary = {**_summary(tokenizer, target, per_item), "left_out": [one._asdict() for one in left_out or ()]}
    if json:
        shown = [{**vars(cost), "compression": cost.compression} for cost in per_item]
        print_json({**summary, **({"per_item": shown} if bits else {})})
        return
    if bits:
        _print_costs(per_item)
    _print_summary(tokenizer, summary, per_item)
    _tell(left_out)


def _tell_kept(spool: Spool) -> None:
    """Say on stderr what an interrupted run has left."""
    if spool.names:
        made = count(len(spool.names), "encoded item")
        note(f"{made} kept in {spool.folder}: the same command goes on from there.")


def _tell(left_out: Sequence[LeftOut] | None) -> None:
    """Say on stderr what was left out."""
    for one in left_out or ():
        note(f"left out {one.name}: {one.reason}")


def _check_target(target: Path, overwrite: bool) -> None:
    """Find out before the work what would make writing its result impossible after it."""
    if target.is_dir():
        raise CheckpointError(f"{target} is a folder: give the path of a file.")
    if target.exists() and not overwrite:
        raise CheckpointError(f"{target} exists already: choose another path, or pass --overwrite.")
    if not target.parent.is_dir():
        raise CheckpointError(f"the folder {target.parent} does not exist: create it first.")
    if not os.access(target.parent, os.W_OK):
        raise CheckpointError(f"the folder {target.parent} cannot be written to: choose another one.")


def _summary(tokenizer: Tokenizer, target: Path, costs: list[Cost]) -> dict[str, Any]:
    bits = sum(cost.bits for cost in costs)
    known = [cost.seconds for cost in costs if cost.seconds is not None]
    seconds = sum(known) if len(known) == len(costs) else None
    return {
        "output": str(target),
        "bytes": target.stat().st_size,
        "model": tokenizer.name,
        "source": tokenizer.source,
        "items": len(costs),
        "tokens": sum(cost.tokens for cost in costs),
        "bits": bits,
        "raw_bits": sum(cost.raw_bits for cost in costs),
        "compression": sum(cost.raw_bits for cost in costs) / bits if bits else None,
        "seconds": seconds,
        "bit_rate": bits / seconds if seconds else None,
    }


def _print_summary(tokenizer: Tokenizer, summary: dict[str, Any], costs: list[Cost]) -> None:
    from zoo.data import signals

    spec = tokenizer.spec
    raw_bits = signals.of(spec.modality).raw_bits
    fewest, most = min(cost.tokens for cost in costs), max(cost.tokens for cost in costs)
    spread = number(fewest) if fewest == most else f"{number(fewest)} to {number(most)}"
    rate = "" if summary["bit_rate"] is None else f"; {size(summary['bit_rate'], 'bit')} a second of signal"
    print_facts(
        f"{summary['output']}: {count(len(costs), 'item')} encoded with {tokenizer.name}",
        {
            "tokens": f"{number(summary['tokens'])} ({spread} an item)",
            "bits": f"{number(summary['bits'])} ({math.log2(spec.require_codebook()):.4g} a token{rate})",
            "compression": f"{_ratio(summary['compression'])}, against {raw_bits} bits a value",
            "file": size(summary["bytes"], "B"),
            **({"left out": f"{count(len(left_out), 'item')}, see below"} if (left_out := summary["left_out"]) else {}),
        },
    )


def _print_costs(costs: list[Cost]) -> None:
    columns = ("tokens", "bits", "compression", "seconds", "item")
    rows = [
        (
            number(cost.tokens),
            number(cost.bits),
            _ratio(cost.compression),
            "" if cost.seconds is None else f"{cost.seconds:.2f}",
            cost.name,
        )
        for cost in costs
    ]
    print_table(columns, rows, numeric=columns[:-1])
    print()


def _ratio(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g} : 1"
