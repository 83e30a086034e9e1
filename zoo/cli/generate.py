"""`zoo generate`: new signals, by a generator over tokens and the tokenizer that decodes them."""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._declared import add_declared
from zoo.cli._decoding import OWN_OPTIONS, decode_into, targets_of
from zoo.cli._models import DEVICE_HELP, family_of, load_model
from zoo.cli._output import count, note, print_facts, print_json
from zoo.cli._parser import Parser, positive, positive_int, seed, share, whole
from zoo.cli._placing import require_free
from zoo.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from zoo.tokenizer import Tokenizer

__all__ = ["generate", "main"]


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    parser = Parser(
        "generate",
        "GENERATOR -o OUTDIR",
        "Draw tokens from a generator, and decode them into files: speech into wav, images\n"
        "into png, videos into mp4, robot actions into npy files.\n\n"
        "The generator says whose tokens they are, and that tokenizer is loaded. One with\n"
        "other weights or settings is refused, whatever its name. Each sample depends on\n"
        "the seed and its number alone.",
        """
        zoo generate larp.L_long_ar -o clips/ --classes 3,3,17,90 --guidance 1.25
        zoo generate ./my-generator -o made/ --num 8 --seed 1 --top-k 100
        zoo generate ./my-generator -o made/ --tokenizer ./my-tokenizer
        """,
    )
    parser.add_argument("model", metavar="GENERATOR", help="its name, a folder, or hf://owner/repo[@revision]")
    parser.add_argument("-o", "--output", metavar="OUTDIR", required=True, help="folder to write files to (required)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    parser.add_argument("--num", metavar="N", type=positive_int, help="how many (default: one for each class, or 1)")
    parser.add_argument(
        "--classes", metavar="I,J", type=_classes, help="class of each sample, or one for all; -1 is no class"
    )
    parser.add_argument("--temperature", metavar="X", type=positive, default=1.0, help="default: %(default)s")
    parser.add_argument("--top-k", metavar="K", type=positive_int, help="keep the k likeliest ids only; 1 is greedy")
    parser.add_argument("--top-p", metavar="P", type=share, help="keep the likeliest ids up to this probability only")
    parser.add_argument(
        "--guidance", metavar="X", type=positive, default=1.0, help="towards the class; 1 is none (default: 1)"
    )
    parser.add_argument("--guided-tokens", metavar="N", type=whole, help="guide the first N tokens only")
    parser.add_argument(
        "--seed", metavar="N", type=seed, default=0, help="of all random numbers (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size", metavar="N", type=positive_int, default=16, help="samples at a time (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", metavar="NAME", help=DEVICE_HELP)
    parser.add_argument("--tokenizer", metavar="MODEL", help="another copy of the tokenizer: name, folder or hf://…")
    parser.add_argument("--frame-rate", metavar="HZ", type=positive, help="frames a second of videos")
    parser.add_json()
    names = add_declared(parser, arguments, partial(_family_of, arguments), "decode_options", OWN_OPTIONS)
    values = parser.values(arguments)
    generate(options={name: value for name in sorted(names) if (value := values.pop(name)) is not None}, **values)


def generate(
    model: str,
    output: str,
    overwrite: bool,
    num: int | None,
    classes: tuple[int, ...] | None,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    guidance: float,
    guided_tokens: int | None,
    seed: int,
    batch_size: int,
    device: str,
    tokenizer: str | None,
    frame_rate: float | None,
    json: bool,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Draw samples, decode them into a folder, and print what was written."""
    import zoo
    from zoo import tokenfile
    from zoo.generator import Sampling
    from zoo.modalities.action import ActionTokenizer

    generator = zoo.load_generator(model, device=device)
    name = tokenizer or generator.config.tokenizer
    if not name:
        raise ConfigError(f"{generator.name} does not say whose tokens it draws: name the tokenizer by --tokenizer.")
    try:
        decoder = load_model(name, device)
    except UnknownNameError as error:
        raise UnknownNameError(f"{error} If you have the tokenizer elsewhere, name it by --tokenizer.") from error
    generator.require_made_by(decoder)
    if generator.config.prefix_tokens:
        raise ConfigError(f"{generator.name} continues clips, which TokenGenerator.sample(prefix=…) does from Python.")
    if isinstance(decoder, ActionTokenizer) and decoder.num_fixed:
        raise ConfigError(f"chunks of {decoder.name} continue the commands before them, and there are none.")
    labels = None if classes is None else classes * num if num and len(classes) == 1 else classes
    if labels is not None and num not in (None, len(labels)):
        raise ConfigError(f"there are {len(labels)} classes for {num} samples: give one for each, or one for all.")
    tokens = generator.sample(
        num or 1,
        labels=labels,
        sampling=Sampling(temperature, top_k, top_p, guidance, guided_tokens),
        seed=seed,
        batch_size=batch_size,
    )
    file = tokenfile.collect(
        replace(tokens, model=decoder.name), decoder, [f"{item:04d}" for item in range(len(tokens))]
    )
    folder = Path(output)
    targets, run = targets_of(file, folder), f"{generator.name} samples"
    require_free(folder, targets, run, overwrite)
    content = hashlib.sha256(tokens.ids.cpu().numpy().tobytes() + tokens.lengths.cpu().numpy().tobytes()).hexdigest()
    clipped = decode_into(
        folder,
        targets,
        run,
        content,
        decoder,
        file,
        batch_size=batch_size,
        seed=seed,
        frame_rate=frame_rate,
        overwrite=overwrite,
        options=options,
    )
    if clipped:
        note(f"{clipped:,} values of the decoded signals were out of range, and clipped to it.")
    if json:
        facts = {"generator": generator.name, "tokenizer": decoder.name, "clipped": clipped}
        print_json({**facts, "tokens": tokens.lengths.tolist(), "outputs": [str(target) for target in targets]})
        return
    print_facts(
        f"{folder}: {count(len(targets), 'sample')} of {generator.name}, decoded with {decoder.name}",
        {"files": targets[0].name if len(targets) == 1 else f"{targets[0].name} … {targets[-1].name}"},
    )


def _classes(value: Any) -> tuple[int, ...]:
    """Read classes with commas between them."""
    if isinstance(value, tuple):
        return value
    try:
        return tuple(int(part) for part in str(value).split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is not a list of classes, such as 3 or 6,-1") from None


def _family_of(arguments: Sequence[str], given: Sequence[str]) -> type[Tokenizer] | None:
    """Return the family of the tokenizer that is to decode, if it can be told without loading the generator."""
    from zoo import checkpoint, registry

    named = re.findall(r"^--tokenizer(?:=|\n)(.+)$", "\n".join(arguments), re.MULTILINE)
    if named:
        return family_of(named[-1])
    if given[0] in registry.list_generators():
        return family_of(registry.generator(given[0]).tokenizer)
    folder = Path(given[0])
    if not checkpoint.is_checkpoint(folder):
        return None
    name = checkpoint.read_manifest(folder)["config"].get("tokenizer")
    return family_of(name) if isinstance(name, str) and name else None
