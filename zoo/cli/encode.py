"""`zoo encode`: turn files into tokens."""

from __future__ import annotations

import math
import os
from argparse import ArgumentTypeError
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zoo.cli._inputs import add_action_arguments, as_flags, find_items
from zoo.cli._models import DEVICE_HELP, MODEL_HELP, load_model
from zoo.cli._output import count, note, number, print_facts, print_json, print_table, size, ticking
from zoo.cli._parser import Parser, positive_int
from zoo.errors import CheckpointError, ConfigError, InputError, ZooError
from zoo.spec import option_names

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data.signals import Reading, Recording
    from zoo.tokenizer import Tokenizer
    from zoo.tokens import Tokens

    _Read = tuple[Recording, Tensor | Iterator[Tensor], float | None]

__all__ = ["encode", "main"]

_MOST_CLIPPED = 0.05
"""Share of the data that may be clipped without a word: quantiles of 1 and 99 % leave 2 %."""


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    parser = Parser(
        "encode",
        "MODEL INPUT... -o OUT",
        "Turn files into tokens, and store the tokens of all of them in one file, from\n"
        "which `zoo decode` makes files again.\n\n"
        "An input is a file, or a folder, of which all sounds, pictures or videos are\n"
        "taken, subfolders included. Robot actions are read from npy, npz and Parquet\n"
        "files, folders of npy files, and LeRobotDatasets; each episode is an item.\n"
        "Nothing is resampled, resized or cut unless an option says so.\n\n"
        "The token file names the model, and the inputs without their folders. If the\n"
        "model is a folder of yours, it says where that is. `zoo info OUT` shows what it\n"
        "says, and in Python zoo.tokenfile.load(OUT) reads it, ids and all.\n\n"
        "For other programs, the ids can be written as JSON lines, Parquet or NumPy\n"
        "arrays instead: with names, lengths and the facts of the model, but they cannot\n"
        "be decoded from. What is in them: help('zoo.tokenfile.tables').",
        """
        zoo encode beast episodes.npz -o episodes.zoo
        zoo encode ./my-robot lerobot-dataset/ -o train.zoo --split train
        zoo encode MODEL corpus/ -o ids.jsonl
        zoo encode MODEL talk.wav interview.mp3 -o talks.zoo --resample --mix-down
        zoo encode MODEL photos/ -o photos.zoo --resize cut --device cuda
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
    parser.add_argument("--keep-folders", action="store_true", help="store the inputs' folders as part of their names")
    parser.add_argument("--bits", action="store_true", help="also print tokens, bits and compression of each item")
    parser.add_json()
    group = parser.add_argument_group("making an input fit the model")
    group.add_argument("--resample", action="store_true", help="convert sounds and videos of another rate")
    group.add_argument("--mix-down", action="store_true", help="average the channels of a sound")
    group.add_argument(
        "--resize", choices=["cut", "stretch"], help="scale pictures and videos of another size, then cut, or stretch"
    )
    group.add_argument("--on-white", action="store_true", help="lay transparent pictures on white")
    group.add_argument(
        "--overlap", metavar="SECONDS", type=float, help="what pieces of long speech have in common, if it is cut"
    )
    group.add_argument("--trim", action="store_true", help="take the beginning of videos that are too long")
    add_action_arguments(parser)
    values = parser.values(arguments)
    from zoo.data.signals import Reading

    reading = Reading(**{field.name: values.pop(field.name) for field in fields(Reading)})
    encode(reading=reading, **values)


_SUFFIXES = (".zoo", ".jsonl", ".parquet", ".npz")  # of `zoo.tokenfile`, whose import takes seconds


def _token_path(value: str) -> str:
    if not value.endswith(_SUFFIXES):
        raise ArgumentTypeError(
            f"{value!r} is not the name of a token file, it must end in .zoo, or in {', '.join(_SUFFIXES[1:])} for ids "
            "alone"
        )
    return value


# A batch is padded to its longest item, and copied: what would be larger than 17 minutes of speech goes in parts.
_MOST_VALUES = 1 << 24


@dataclass(frozen=True)
class _Cost:
    """What an item was, and what its tokens cost; `bits` is log2 V for each token."""

    name: str
    tokens: int
    bits: float
    raw_bits: int
    seconds: float | None

    @property
    def compression(self) -> float | None:
        return self.raw_bits / self.bits if self.bits else None


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
    overlap: float | None = None,
) -> None:
    """Encode files, write a token file, and print what it holds."""
    target = Path(output)
    _check_target(target, overwrite)
    from zoo import tokenfile
    from zoo.modalities.action import ActionTokenizer
    from zoo.tokenfile import tables

    if target.suffix != tokenfile.SUFFIX:
        tables.require_writable(target)

    tokenizer = load_model(model, device, decoder=False)
    if overlap is not None and "overlap" not in option_names(tokenizer.encode_options):
        raise ConfigError(f"{tokenizer.name} does not cut what is long into pieces: leave --overlap out.")
    options = {} if overlap is None else {"overlap": overlap}
    items = find_items(tokenizer, inputs, reading)
    if isinstance(tokenizer, ActionTokenizer):
        for item in items:
            tokenizer.require_order(item.dof_names)
        if tokenizer.num_fixed:
            note(
                f"chunks of {tokenizer.name} continue the commands before them: the first of each episode is taken for "
                "those before it, as of a robot at rest. Decode in Python, tokenizer.decode(tokens, start=…)."
            )

    tokens, costs, rates = _encode(tokenizer, items, batch_size, options)
    names = [cost.name for cost in costs]
    if target.suffix == tokenfile.SUFFIX:
        tokenfile.save(target, tokens, tokenizer, names, rates=rates, overwrite=overwrite)
    else:
        tables.save(target, tokenfile.collect(tokens, tokenizer, names, rates=rates), overwrite=overwrite)
    summary = _summary(tokenizer, target, costs)
    if json:
        per_item = [{**vars(cost), "compression": cost.compression} for cost in costs]
        print_json({**summary, **({"per_item": per_item} if bits else {})})
        return
    if bits:
        _print_costs(costs)
    _print_summary(tokenizer, summary, costs)


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


def _encode(
    tokenizer: Tokenizer, items: list[Recording], batch_size: int, options: dict[str, float]
) -> tuple[Tokens, list[_Cost], list[float | None]]:
    import torch

    from zoo.data import signals
    from zoo.modalities.action import ActionTokenizer
    from zoo.modalities.speech import SegmentedSpeechTokenizer
    from zoo.tokens import Tokens

    clipped: list[float] = []
    kind = signals.of(tokenizer.spec.modality)
    parts: list[Tokens] = []
    costs: list[_Cost] = []
    rates: list[float | None] = []
    grid_of: dict[tuple[int, ...] | None, str] = {}
    with torch.no_grad(), ticking("encoding", len(items)) as ticker:
        # Segments that have nothing in common need not be there at the same time.
        streams = isinstance(tokenizer, SegmentedSpeechTokenizer) and not options.get("overlap")
        for group in _batches(items, batch_size, kind.padding is None, streams):
            batch: list[Any] = [signal for _, signal, _ in group]
            before: dict[str, Any] = {}
            if isinstance(tokenizer, ActionTokenizer):
                before = tokenizer.at_rest(torch.stack([signal[0] for signal in batch]))
            try:
                if isinstance(tokenizer, SegmentedSpeechTokenizer) and not isinstance(batch[0], torch.Tensor):
                    tokens = tokenizer.encode_stream(batch[0]).to("cpu")
                else:
                    tokens = tokenizer.encode(batch, **options, **before).to("cpu")
            except InputError as error:
                raise _located(error, tokenizer, group) from error
            if isinstance(tokenizer, ActionTokenizer):
                clipped.append(tokenizer.clipped_share(batch, **before) * len(batch))
            grid_of.setdefault(tokens.grid, group[0][0].name)
            if len(grid_of) > 1:
                shapes = " and ".join(f"{grid} ({name})" for grid, name in grid_of.items())
                raise InputError(f"a token file has one grid, these items differ: {shapes}. Encode them apart.")
            for (item, signal, rate), one in zip(group, tokens, strict=True):
                count = int(one.lengths[0]) * one.num_codebooks
                if isinstance(signal, torch.Tensor):
                    size, seconds = signal.numel(), kind.seconds(signal, rate)
                else:
                    size = int(cast("torch.Tensor", one.signal_lengths)[0])
                    seconds = size / rate if rate else None
                raw_bits = size * kind.raw_bits
                costs.append(_Cost(item.name, count, float(one.num_bits[0]), raw_bits, seconds))
                rates.append(rate)
            parts.append(tokens)
            ticker.advance(len(group))
    if (share := sum(clipped) / len(items)) > _MOST_CLIPPED:
        note(
            f"WARNING: {share:.0%} of the data lies outside what {tokenizer.name} was fitted on and is clipped: check "
            "its unit, or fit a tokenizer on data like it."
        )
    return Tokens.cat(parts), costs, rates


def _batches(items: list[Recording], batch_size: int, by_shape: bool, streams: bool) -> Iterator[list[_Read]]:
    """Read items and yield them in batches; pictures of different sizes cannot be in one, nor much that is long.

    With `streams`, what may be too long to be held is alone, and not read yet.
    """
    batch: list[_Read] = []
    longest, shape = 0, None
    for item in items:
        try:
            if streams and item.blocks is not None:
                if batch:
                    yield batch
                    batch, longest = [], 0
                yield [(item, *item.blocks())]
                continue
            signal, rate = item.read()
        except InputError as error:
            raise InputError(as_flags(str(error))) from error
        longest = max([signal.numel(), longest])
        is_full = len(batch) == batch_size or (len(batch) + 1) * longest > _MOST_VALUES
        if batch and (is_full or (by_shape and signal.shape != shape)):
            yield batch
            batch, longest = [], signal.numel()
        shape = signal.shape
        batch.append((item, signal, rate))
    if batch:
        yield batch


def _located(error: InputError, tokenizer: Tokenizer, group: list[_Read]) -> InputError:
    """Return an error that names the item: encoding one item alone fails just as it does in a batch."""
    from zoo.modalities.action import ActionTokenizer

    for item, signal, _ in group:
        if isinstance(signal, Iterator):
            return InputError(as_flags(f"{item.name}: {error}"))
        before = tokenizer.at_rest(signal[:1]) if isinstance(tokenizer, ActionTokenizer) else {}
        try:
            tokenizer.encode([signal], **before)
        except ZooError as alone:
            text = str(alone).removeprefix("item 0: ").removeprefix("item 0, ")
            return InputError(f"{item.name}: {text}")
    return error


def _summary(tokenizer: Tokenizer, target: Path, costs: list[_Cost]) -> dict[str, Any]:
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


def _print_summary(tokenizer: Tokenizer, summary: dict[str, Any], costs: list[_Cost]) -> None:
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
        },
    )


def _print_costs(costs: list[_Cost]) -> None:
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
