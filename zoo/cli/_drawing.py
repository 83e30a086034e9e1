"""What the demo shows of a generator: a few signals that it draws, and that its tokenizer decodes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import zoo
from zoo.data import signals
from zoo.data.media import read_video, write_gif
from zoo.generator import TokenGenerator, first_frames

__all__ = ["Drawn", "draw", "enlarged"]

_COUNT = 4
_FRAME_RATE = 12.0  # of clips whose generator knows none
_VISIBLE = 256  # pixels that a clip is high at least, where it is shown


@dataclass(frozen=True)
class Drawn:
    """What was drawn.

    Attributes:
        count: Signals.
        tokens: Tokens of all.
        bits: That storing these takes.
        values: Numbers that the signals have.
        seconds: It took.
        files: To look at or hear.
        remark: For people.
    """

    count: int
    tokens: int
    bits: float
    values: int
    seconds: float
    files: list[Path]
    remark: str


def draw(generator: TokenGenerator, film: Path, out: Path) -> Drawn:
    """Draw a few signals, and write them into a folder.

    Args:
        generator: It and its tokenizer are loaded by name.
        film: What a generator that predicts frames goes on from.
        out: The folder.
    """
    tokenizer = zoo.load(generator.config.tokenizer)
    generator.require_made_by(tokenizer)
    kind, name, classes = signals.of(tokenizer.spec.modality), generator.name, generator.config.num_classes
    known = generator.config.condition_frames
    start = time.perf_counter()
    remark = f"{name}: drawn with seed 0, as tokens of {tokenizer.name}"
    beside: list[Tensor] = []
    rate = tokenizer.spec.sample_rate or _FRAME_RATE
    if known:
        size = tokenizer.spec.input_size
        clip, rate = read_video(film, size=None if size is None else (size[-2], size[-1]))
        prefix = first_frames(tokenizer, clip[None], known)
        tokens = generator.sample(prefix=prefix[[0] * _COUNT], seed=0)
        beside = [clip]
        remark += f"; at the left is the clip of whose first {known} frames they know"
    elif classes:
        tokens = generator.sample(labels=[number % classes for number in range(_COUNT)], seed=0)
        remark += f", of the classes 0 to {min(classes, _COUNT) - 1}"
    else:
        tokens = generator.sample(_COUNT, seed=0)
    lengths = tokenizer.output_lengths(tokens).tolist()
    made = [
        kind.clipped(kind.cut(each, length).cpu())[0]
        for each, length in zip(tokenizer.decode(tokens), lengths, strict=True)
    ]
    seconds = time.perf_counter() - start
    if kind.name == "video":
        files = [out / f"{name}.gif"]
        frames = made[0].shape[1]
        row = torch.cat([each[:, :frames] for each in (*beside, *made)], dim=3)
        write_gif(files[0], enlarged(row), rate)
    else:
        files = [out / f"{name}.{number}{kind.suffix}" for number in range(len(made))]
        for path, signal in zip(files, made, strict=True):
            kind.write(path, signal, tokenizer.spec.sample_rate)
    values = sum(signal.numel() for signal in made)
    bits = float(tokens.num_bits.sum())
    return Drawn(len(made), int(tokens.lengths.sum()), bits, values, seconds, files, f"{remark}.")


def enlarged(clip: Tensor) -> Tensor:
    """Return a small clip (3, T, H, W) with its pixels as squares, so that it can be seen."""
    factor = max(1, _VISIBLE // clip.shape[2])
    return clip.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
