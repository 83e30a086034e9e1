"""`make demo`: every tokenizer that ships encodes and decodes a real sample, and the results can be looked at.

What generators that ship draw is shown as well.

    python -m zoo.cli.demo --out demo

Prints a table, and writes pictures and sounds of input and reconstruction side by side.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo import registry
from zoo.cli._captioned import captions_of, with_captions
from zoo.cli._models import load_any
from zoo.data.actions import ActionEpisodes, read_actions
from zoo.errors import TokenError
from zoo.spec import option_names
from zoo.tokenizer import Tokenizer
from zoo.tokens import Tokens

_MOST_IDS = 32  # that are printed of a picture
SAMPLES = Path(__file__).parent.parent / "data" / "samples"


@dataclass(frozen=True)
class Row:
    """One line of the demo's table."""

    model: str
    input: str
    tokens: int
    bits: float
    compression: float
    error: str
    seconds: float
    files: list[Path]
    remark: str = ""


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m zoo.cli.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for pictures and sounds (%(default)s)")
    parser.add_argument("models", metavar="MODEL", nargs="*", help="what to show instead of all that ship")
    options = parser.parse_args(arguments)
    out, names = options.out, options.models
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for name in names or _shipped():
        found = load_any(name)
        rows += SHOWS[found.spec.modality](found, out) if isinstance(found, Tokenizer) else show_drawn(found, out)
    _print(rows, out)
    return 0


def _shipped() -> list[str]:
    """Return what ships: tokenizers, and behind them the generators."""
    entries = [registry.model(name) for name in registry.list_models()]
    entries += [registry.generator(name) for name in registry.list_generators()]
    return [entry.name for entry in entries if entry.is_shipped]


def show_drawn(generator: Any, out: Path) -> list[Row]:
    """Draw a few signals from a generator, and decode them with the tokenizer that it names."""
    from zoo.cli._drawing import draw

    drawn = draw(generator, SAMPLES / "bunny.mp4", out)
    shown = f"{drawn.count} drawn"
    compression = drawn.values * 32 / drawn.bits
    name, files = generator.name, drawn.files
    return [Row(name, shown, drawn.tokens, drawn.bits, compression, "–", drawn.seconds, files, drawn.remark)]


def show_actions(tokenizer: Tokenizer, out: Path) -> list[Row]:
    """Encode and decode expert episodes; draw the longest one, the data's curve under the decoded one."""
    episodes = read_actions(SAMPLES / "metaworld_expert.npz")
    rate = episodes.control_rate or 1.0
    start = time.perf_counter()
    tokens = tokenizer.encode([torch.from_numpy(episode) for episode in episodes.episodes])
    decoded = tokenizer.decode(tokens)
    seconds = time.perf_counter() - start
    numbers = sum(episode.size for episode in episodes.episodes)
    error = math.sqrt(
        sum(
            float((decoded[i, : len(episode)] - torch.from_numpy(episode)).double().square().sum())
            for i, episode in enumerate(episodes.episodes)
        )
        / numbers
    )
    longest = max(range(len(episodes.episodes)), key=lambda i: len(episodes.episodes[i]))
    picture = out / f"{tokenizer.name}.png"
    _draw_actions(tokenizer, episodes, longest, tokens[longest], decoded[longest], picture)
    bits = float(tokens.num_bits.sum())
    spread = torch.cat([torch.from_numpy(episode) for episode in episodes.episodes]).std()
    return [
        Row(
            tokenizer.name,
            f"{episodes.num_steps / rate:.1f} s motion",
            int(tokens.lengths.sum()),
            bits,
            numbers * 32 / bits,
            f"{error / float(spread):.1%}",
            seconds,
            [picture],
        )
    ]


def _draw_actions(
    tokenizer: Tokenizer, episodes: ActionEpisodes, index: int, tokens: Tokens, decoded: Tensor, path: Path
) -> None:
    """Draw an episode's degrees of freedom above its tokens."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    episode = episodes.episodes[index]
    names = episodes.dof_names or tuple(f"DoF {d}" for d in range(episode.shape[1]))
    rate = episodes.control_rate or 1.0
    seconds = torch.arange(len(episode)) / rate
    figure, axes = plt.subplots(
        episode.shape[1] + 1, 1, figsize=(9, 1.6 * (episode.shape[1] + 1)), sharex=True, constrained_layout=True
    )
    for dof, axis in enumerate(axes[:-1]):
        axis.plot(seconds, episode[:, dof], color="0.6", linewidth=3, label="data")
        axis.plot(seconds, decoded[: len(episode), dof], color="tab:red", linewidth=1.2, label="decoded")
        axis.set_ylabel(names[dof])
        axis.margins(x=0.01)
    axes[0].legend(loc="upper right", ncols=2, frameon=False)
    ids = tokens.tolist()[0]
    # Tokens stand where their share of the sequence is, which for fixed-length chunks is where they act.
    places = (torch.arange(len(ids)) + 0.5) / len(ids) * len(episode) / rate
    axes[-1].scatter(places, ids, s=4, color="tab:blue")
    axes[-1].set_ylabel("token id")
    axes[-1].set_xlabel("seconds")
    figure.suptitle(
        f"{tokenizer.name}: {episodes.names[index]}, {episode.size} numbers as {len(ids)} tokens "
        f"({float(tokens.num_bits[0]) / 8:.0f} bytes)"
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def show_speech(tokenizer: Tokenizer, out: Path) -> list[Row]:
    """Encode a read sentence, as it is and with noise; draw spectrograms over tokens, the changed ones framed.

    If the tokenizer makes speech of tokens, what it makes of each is written and drawn beside it.
    """
    from zoo.data.media import read_audio, write_wav
    from zoo.data.perturbations.noise import perturbation
    from zoo.pictures import draw_speech_tokens

    channels, rate = read_audio(SAMPLES / "austen.flac")
    wave = channels[0]
    waves, stems = {"as it is": wave}, {"as it is": "recording"}
    for kind, intensity in (("gaussian", 25.0), ("brown", 16.0)):
        name = f"{kind} noise, {intensity:.0f} dB"
        waves[name] = perturbation(kind, intensity)(wave, torch.Generator().manual_seed(0))
        stems[name] = kind
    start = time.perf_counter()
    tokens = tokenizer.encode(wave)
    spoken = _speech(tokenizer, tokens)
    seconds = time.perf_counter() - start
    of_waves = {name: tokens if version is wave else tokenizer.encode(version) for name, version in waves.items()}
    made = {name: spoken if of is tokens else _speech(tokenizer, of) for name, of in of_waves.items()}
    decoded = {name: version for name, version in made.items() if version is not None}
    files = [out / f"{tokenizer.name}.png"]
    for name, version in waves.items():
        files.append(out / f"{tokenizer.name}.{stems[name]}.wav")
        write_wav(files[-1], version.clamp(-1, 1), rate)
        if name in decoded:
            files.append(out / f"{tokenizer.name}.{stems[name]}.decoded.wav")
            write_wav(files[-1], decoded[name].clamp(-1, 1), round(tokenizer.spec.sample_rate or rate))
    title = f"{tokenizer.name}: {len(wave) / rate:.1f} s of speech as {tokens.ids.shape[1]} tokens"
    draw_speech_tokens(tokenizer, waves, title, decoded).savefig(files[0], dpi=110)
    changed = [
        f"{int((of_waves[name].ids != tokens.ids).sum())} in {name}" for name in waves if waves[name] is not wave
    ]
    sounds = (
        "It makes no speech of tokens."
        if not decoded
        else f"Hear {tokenizer.name}.recording.wav, and beside it what decode makes of its tokens, "
        f"{tokenizer.name}.recording.decoded.wav; the same of noisy speech."
    )
    bits = float(tokens.num_bits.sum())
    return [
        Row(
            tokenizer.name,
            f"{len(wave) / rate:.1f} s speech",
            int(tokens.lengths.sum()),
            bits,
            wave.numel() * 32 / bits,
            "–",
            seconds,
            files,
            f"{tokenizer.name}: of {tokens.ids.shape[1]} tokens {' and '.join(changed)} change. {sounds}",
        )
    ]


def _speech(tokenizer: Tokenizer, tokens: Tokens) -> Tensor | None:
    """Return what one item's tokens sound like, (samples,); None if the tokenizer has no decoder."""
    try:
        wave = tokenizer.decode(tokens)[0]
    except TokenError:  # they are its own tokens: nothing else can be wrong with them
        return None
    return wave[: int(tokenizer.output_lengths(tokens)[0])].cpu()


def show_images(tokenizer: Tokenizer, out: Path) -> list[Row]:
    """Encode and decode a photograph; draw it beside what comes back, of ordered tokens also of the first few.

    What a flow makes is shown in one step and in as many as the model has.

    A tokenizer that reads captions is shown a drawing that has one, with that, with none, and with another's.
    """
    from zoo.data.media import read_image
    from zoo.pictures import draw_images

    spec = tokenizer.spec
    size = None if spec.input_size is None else (spec.input_size[0], spec.input_size[1])
    captions = captions_of(tokenizer, SAMPLES / "drawing.txt")
    image = read_image(SAMPLES / ("drawing.jpg" if captions else "dandelion.jpg"), size=size)
    start = time.perf_counter()
    if captions:
        made, count, bits, remark = with_captions(tokenizer, image, *captions)
        told = f"{count} {'latents' if spec.is_continuous else 'tokens'} beside a caption"
    elif spec.is_continuous:
        latents = tokenizer.encode_latents(image)
        made = {
            f"from its latents{told}": tokenizer.decode_latents(latents, **options)
            for told, options in _shown_steps(tokenizer).items()
        }
        count, bits, remark = int(latents.lengths.sum()), 32.0 * latents.values.numel(), ""
        told = f"{count} latents of {spec.latent_dim} numbers"
    else:
        tokens = tokenizer.encode(image)
        count, bits = int(tokens.lengths.sum()), float(tokens.num_bits.sum())
        lengths = _shown_lengths(tokenizer, count)
        made = {
            f"{length} token{'s' * (length > 1)}, {bits * length / count / 8:.0f} bytes{told}": tokenizer.decode(
                tokens if length == count else tokens[:, :length], **options
            )
            for length in lengths
            for told, options in (_shown_steps(tokenizer) if len(lengths) == 1 else {"": {}}).items()
        }
        told = f"{count} tokens"
        remark = f"{tokenizer.name}: the ids are {_shown_ids(tokens)}." + (
            f" Look at what the first {', '.join(map(str, lengths[:-1]))} of them say." if len(lengths) > 1 else ""
        )
    seconds = time.perf_counter() - start
    path = out / f"{tokenizer.name}.png"
    title = f"{tokenizer.name}: a picture of {image.shape[2]} × {image.shape[1]} pixels as {told}"
    draw_images({"original": image, **{name: images[0].cpu() for name, images in made.items()}}, title).savefig(
        path, dpi=110
    )
    best = [*made.values()][0 if captions else -1][0].cpu()
    error = (best - image).double().square().mean().sqrt() / image.double().std()
    return [
        Row(
            tokenizer.name,
            f"{image.shape[2]} × {image.shape[1]} pixels",
            count,
            bits,
            image.numel() * 32 / bits,
            f"{float(error):.1%}",
            seconds,
            [path],
            remark,
        )
    ]


def _shown_lengths(tokenizer: Tokenizer, count: int) -> list[int]:
    """Return how many tokens are decoded: all, and of ordered ones the first few, as many as training kept."""
    if not tokenizer.spec.is_ordered:
        return [count]
    trained = tokenizer.spec.trained_lengths
    return [few for few in (1, 4, 16) if few < count and (trained is None or few in trained)] + [count]


def _shown_steps(tokenizer: Tokenizer) -> dict[str, dict[str, int]]:
    """Return options of `decode` by what is said of them: of a flow a single step, and as many as the model's."""
    if "steps" not in option_names(tokenizer.decode_options):
        return {"": {}}
    steps: int = tokenizer.config.steps
    return {f", {count} step{'s' * (count > 1)}": {"steps": count} for count in sorted({1, steps})}


def _shown_ids(tokens: Tokens) -> str:
    ids = tokens.tolist()[0]
    return " ".join(str(each) for each in ids[:_MOST_IDS]) + (" …" if len(ids) > _MOST_IDS else "")


def show_videos(tokenizer: Tokenizer, out: Path) -> list[Row]:
    """Encode and decode two seconds of a film; show them beside what comes back."""
    from zoo.cli._drawing import enlarged
    from zoo.data.media import read_video, write_gif

    spec = tokenizer.spec
    size = None if spec.input_size is None else (spec.input_size[-2], spec.input_size[-1])
    clip, rate = read_video(SAMPLES / "bunny.mp4", size=size)
    start = time.perf_counter()
    if spec.is_continuous:
        latents = tokenizer.encode_latents(clip)
        made = tokenizer.decode_latents(latents)[0].cpu()
        count, bits, remark = int(latents.lengths.sum()), 32.0 * latents.values.numel(), ""
    else:
        tokens = tokenizer.encode(clip)
        made = tokenizer.decode(tokens)[0].cpu()
        count, bits = int(tokens.lengths.sum()), float(tokens.num_bits.sum())
        remark = f"{tokenizer.name}: the ids are {_shown_ids(tokens)}. Right of the film is what they say of it."
    seconds = time.perf_counter() - start
    path = out / f"{tokenizer.name}.gif"
    write_gif(path, enlarged(torch.cat([clip, made.clamp(0, 1)], dim=3)), rate)
    error = (made - clip).double().square().mean().sqrt() / clip.double().std()
    _, frames, height, width = clip.shape
    shown = f"{frames} frames of {width} × {height} pixels"
    compression = clip.numel() * 32 / bits
    return [Row(tokenizer.name, shown, count, bits, compression, f"{float(error):.1%}", seconds, [path], remark)]


SHOWS: dict[str, Callable[[Tokenizer, Path], list[Row]]] = {
    "action": show_actions,
    "image": show_images,
    "speech": show_speech,
    "video": show_videos,
}
"""How the sample of a modality is shown."""


def _print(rows: list[Row], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table: Any = Table(title="Every tokenizer that ships, on a real sample", box=None, padding=(0, 2, 0, 0))
    for title, justify in (
        ("model", "left"),
        ("input", "left"),
        ("tokens", "right"),
        ("bits", "right"),
        ("compression", "right"),
        ("error", "right"),
        ("seconds", "right"),
    ):
        table.add_column(title, justify=justify, no_wrap=title == "model")
    for row in rows:
        table.add_row(
            row.model,
            row.input,
            f"{row.tokens:,}",
            f"{row.bits:,.0f}",
            f"{row.compression:.1f} : 1",
            row.error,
            f"{row.seconds:.3f}",
        )
    console = Console()
    console.print(table)
    console.print("Compression is against 32 bits a number; the error is RMS, in standard deviations of the input.")
    for row in rows:
        if row.remark:
            console.print(row.remark, highlight=False)
    console.print(f"Look at {', '.join(str(path) for row in rows for path in row.files)}.", soft_wrap=True)


if __name__ == "__main__":
    raise SystemExit(main())
