"""`zoo generate`: new signals, by a generator over tokens and the tokenizer that decodes them."""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.cli._condition import clips_of, condition_of
from zoo.cli._declared import add_declared
from zoo.cli._decoding import OWN_OPTIONS, check_decoding, decode_into, targets_of
from zoo.cli._models import DEVICE_HELP, family_of, load_generator, load_model
from zoo.cli._output import count, note, print_facts, print_json
from zoo.cli._parser import Parser, positive, positive_int, seed, share, whole
from zoo.cli._placing import require_free
from zoo.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from zoo.generator import TokenGenerator
    from zoo.tokenizer import Tokenizer
    from zoo.tokens import Tokens

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
        "the seed and its number alone.\n\n"
        "A generator that predicts frames goes on from the first ones of clips, which\n"
        "--condition names. A written clip begins with what the model makes of these.",
        """
        zoo generate larp.L_long_ar -o clips/ --classes 3,3,17,90 --guidance 1.25
        zoo generate ./my-generator -o made/ --num 8 --seed 1 --top-k 100
        zoo generate ./my-generator -o made/ --tokenizer ./my-tokenizer
        zoo generate larp.L_long_ar_fp -o clips/ --condition juggling.mp4 --resize cut
        """,
    )
    parser.add_argument("model", metavar="GENERATOR", help="its name, a folder, or hf://owner/repo[@revision]")
    parser.add_argument("-o", "--output", metavar="OUTDIR", required=True, help="folder to write files to (required)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    parser.add_argument("--num", metavar="N", type=positive_int, help="how many (default: one for each class, or 1)")
    parser.add_argument(
        "--classes", metavar="I,J", type=_classes, help="class of each sample, or one for all; -1 is no class"
    )
    parser.add_argument(
        "--condition", metavar="CLIP", nargs="+", help="videos to go on from, one for each sample or one for all"
    )
    parser.add_argument(
        "--condition-frames",
        metavar="N",
        type=positive_int,
        help="how many of the first frames are known (default: as the generator was trained)",
    )
    parser.add_argument("--resize", choices=["cut", "stretch"], help="scale its frames to size, then cut, or stretch")
    parser.add_argument("--resample", action="store_true", help="drop or repeat frames where its rate is another")
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
    parser.add_argument(
        "--frame-rate", metavar="HZ", type=positive, help="frames a second of videos (default: that of the condition)"
    )
    parser.add_argument("--gif", action="store_true", help="write videos as animated GIFs instead of mp4")
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
    condition: Sequence[str] | None,
    condition_frames: int | None,
    resize: Literal["cut", "stretch"] | None,
    resample: bool,
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
    gif: bool,
    json: bool,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Draw samples, perhaps going on from clips, decode them into a folder, and print what was written."""
    import torch

    from zoo import tokenfile
    from zoo.data.signals import Reading
    from zoo.generator import Sampling, check_classes
    from zoo.modalities.action import ActionTokenizer

    generator = load_generator(model, device)
    name = tokenizer or generator.config.tokenizer
    if not name:
        raise ConfigError(f"{generator.name} does not say whose tokens it draws: name the tokenizer by --tokenizer.")
    try:
        decoder = load_model(name, device)
    except UnknownNameError as error:
        raise UnknownNameError(f"{error} If you have the tokenizer elsewhere, name it by --tokenizer.") from error
    generator.require_made_by(decoder)
    if isinstance(decoder, ActionTokenizer) and decoder.num_fixed:
        raise ConfigError(f"chunks of {decoder.name} continue the commands before them, and there are none.")
    labels = None if classes is None else _for_each(classes, num, "classes")
    sampling = Sampling(temperature, top_k, top_p, guidance, guided_tokens)
    check_classes(generator.config, None if labels is None else torch.tensor(labels), sampling)
    clips = known = None
    total = num or 1
    if condition is not None:
        reading = Reading(resize=resize, resample=resample, trim=True)
        clips = clips_of(generator, decoder, condition, condition_frames, reading)
        places = _for_each(range(len(clips.items)), num, "clips to go on from")
        total = len(places)
    elif generator.config.prefix_tokens:
        raise ConfigError(f"{generator.name} predicts frames: name the clips that it is to go on from by --condition.")
    elif condition_frames or resize or resample:
        raise ConfigError("--condition-frames, --resize and --resample are about the clips that --condition names.")
    names = [f"{item:04d}" for item in range(total if labels is None else len(labels))]
    folder, run = Path(output), f"{generator.name} samples"
    targets = targets_of(names, decoder.spec.modality, folder, ".gif" if gif else None)
    require_free(folder, targets, run, overwrite)
    check = partial(check_decoding, decoder, _likely(generator), targets, names, frame_rate=frame_rate, options=options)
    # Clips say their rates when they are read.
    check([None if clips is None else 1.0] * len(names))
    rates: list[float | None] | None = None
    if clips is not None:
        known = condition_of(generator, decoder, clips, batch_size)
        rates = [known.rates[place] for place in places]
        check(rates)
    tokens = generator.sample(
        num or 1,
        labels=labels,
        prefix=None if known is None else known.tokens[list(places)],
        sampling=sampling,
        seed=seed,
        batch_size=batch_size,
    )
    file = tokenfile.collect(replace(tokens, model=decoder.name), decoder, names, rates=rates)
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
        facts: dict[str, Any] = {"generator": generator.name, "tokenizer": decoder.name, "clipped": clipped}
        if known is not None:
            facts["conditions"] = [known.names[place] for place in places]
        print_json({**facts, "tokens": tokens.lengths.tolist(), "outputs": [str(target) for target in targets]})
        return
    print_facts(
        f"{folder}: {count(len(targets), 'sample')} of {generator.name}, decoded with {decoder.name}",
        {"files": targets[0].name if len(targets) == 1 else f"{targets[0].name} … {targets[-1].name}"},
    )


def _likely(generator: TokenGenerator) -> Tokens | None:
    """Return tokens such as a generator draws, if all items have the same number."""
    from zoo.tokens import Tokens

    config = generator.config
    if config.has_end:
        return None
    ids = [[0] * config.max_tokens] if config.num_codebooks == 1 else [[[0] * config.num_codebooks] * config.max_tokens]
    return Tokens.from_ids(ids, codebook_size=config.codebook_size)


def _for_each(values: Sequence[int], num: int | None, what: str) -> Sequence[int]:
    """Return one value a sample.

    Raises:
        ConfigError: There is neither one for each nor one for all.
    """
    if num not in (None, len(values)) and len(values) != 1:
        raise ConfigError(f"there are {len(values)} {what} for {num} samples: give one for each, or one for all.")
    return list(values) * num if num and len(values) == 1 else values


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
