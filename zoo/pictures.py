"""Pictures of what tokenizers do, for the demo, for training logs and for reports. They need matplotlib."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zoo.tokenizer import Tokenizer

__all__ = ["draw_images", "draw_speech_tokens"]

_LINE = 36  # letters over a picture
_COLOURS = 20  # ids are told apart by colours, which repeat
_MOST_NUMBERED = 8.0  # seconds of speech whose ids can still be read
_WINDOW, _HOP = 0.025, 0.010
_RANGE = 80.0  # dB


def draw_images(images: Mapping[str, Tensor], title: str = "") -> Any:
    """Draw images (3, H, W) in 0…1 side by side, each under its name, in several lines if it is long.

    Args:
        images: By name, at least one.
        title: Over the picture.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.9 * len(images), 3.5), layout="constrained")
    for axis, (name, image) in zip(figure.subplots(1, len(images), squeeze=False)[0], images.items(), strict=True):
        axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
        axis.set_title(textwrap.fill(name, _LINE), fontsize="medium")
        axis.axis("off")
    if title:
        figure.suptitle(title)
    return figure


@torch.no_grad()
def draw_speech_tokens(
    tokenizer: Tokenizer, waves: Mapping[str, Tensor], title: str = "", decoded: Mapping[str, Tensor] | None = None
) -> Any:
    """Draw versions of one utterance: the spectrogram of each over its tokens, beside that of what is made of these.

    Args:
        tokenizer: Whose tokens are shown; of several codebooks the first.
        waves: Versions (samples,) by name, all equally long. The first is the reference: tokens of the others that
            differ from its are framed.
        title: Over the picture.
        decoded: What the tokenizer decodes the tokens of each to, by the same names; nothing is drawn beside if there
            is none.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure

    names = list(waves)
    ids = {name: _first(tokenizer.encode(wave[None]).ids[0]).cpu() for name, wave in waves.items()}
    reference = ids[names[0]]
    rate = tokenizer.spec.sample_rate or 1.0
    seconds = len(waves[names[0]]) / rate
    step = seconds / len(reference) if tokenizer.spec.token_rate is None else 1 / tokenizer.spec.token_rate
    edge = step * len(reference)
    columns = 2 if decoded else 1
    width = columns * min(24.0, max(7.0, 2.2 * seconds + 2))
    figure = Figure(figsize=(width, 2.3 * len(names) + 0.6), layout="constrained")
    heights = {"height_ratios": [3, 1] * len(names)}
    grid = figure.subplots(2 * len(names), columns, sharex=True, squeeze=False, gridspec_kw=heights)
    axes = grid[:, 0]
    for name, top, bottom in zip(names, axes[::2], axes[1::2], strict=True):
        _show_spectrogram(top, waves[name], rate)
        top.set_ylabel(f"{name}\nkHz")
        row = ids[name]
        colours = (row % _COLOURS)[None].numpy()
        bottom.imshow(colours, aspect="auto", extent=(0, edge, 0, 1), cmap="tab20", vmin=0, vmax=_COLOURS - 1)
        bottom.set_yticks([])
        different = (row != reference).nonzero()[:, 0].tolist()
        if seconds <= _MOST_NUMBERED:
            for place, number in enumerate(row.tolist()):
                bottom.text((place + 0.5) * step, 0.5, number, ha="center", va="center", fontsize=5, rotation=90)
        for place in different:
            bottom.add_patch(_frame(place * step, step))
        is_reference = name == names[0]
        told = "tokens" if is_reference else f"{len(different)} of {len(row)}\nchanged"
        bottom.set_ylabel(told, rotation=0, ha="right", va="center")
    if decoded:
        for name, top, bottom in zip(names, grid[::2, 1], grid[1::2, 1], strict=True):
            _show_spectrogram(top, decoded[name], rate)
            top.set_title(f"decoded from the tokens of “{name}”", fontsize="medium")
            bottom.axis("off")
    axes[-1].set_xlabel("seconds")
    axes[-1].set_xlim(0, edge)
    if title:
        figure.suptitle(title)
    return figure


def _first(ids: Tensor) -> Tensor:
    """Return the ids (T,) of the first codebook of (T,) or (T, K)."""
    return ids if ids.ndim == 1 else ids[:, 0]


def _show_spectrogram(axis: Any, wave: Tensor, rate: float) -> None:
    extent = (0, len(wave) / rate, 0, rate / 2000)
    axis.imshow(_spectrogram(wave.cpu(), rate), origin="lower", aspect="auto", extent=extent, cmap="magma")


def _spectrogram(wave: Tensor, rate: float) -> Any:
    """Return the power of a wave in dB under its largest, (frequencies, frames)."""
    size, hop = round(_WINDOW * rate), round(_HOP * rate)
    wave = torch.nn.functional.pad(wave, (0, max(0, size + 1 - len(wave))))
    spectrum = torch.stft(wave, size, hop, window=torch.hann_window(size, dtype=torch.float32), return_complex=True)
    decibels = 20 * spectrum.abs().clamp(min=1e-8).log10()
    return decibels.clamp(min=float(decibels.max()) - _RANGE).numpy()


def _frame(start: float, width: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((start, 0.02), width, 0.96, fill=False, edgecolor="black", linewidth=1.6)
