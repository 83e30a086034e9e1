"""A picture of speech as StableToken sees it: the spectrogram, and under it the tokens of one or more versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zoo.families.stabletoken.tokenizer import StableTokenTokenizer

__all__ = ["draw"]

_COLOURS = 20  # ids are told apart by colour, which repeats


@torch.no_grad()
def draw(tokenizer: StableTokenTokenizer, waves: Mapping[str, Tensor], title: str = "") -> Any:
    """Return a matplotlib figure.

    Args:
        tokenizer: Whose tokens are shown.
        waves: Versions of the same speech (samples,) by name, all equally long; the first is the reference. Tokens of
            the others that differ from its are framed.
        title: Over the picture.
    """
    from matplotlib.figure import Figure

    names = list(waves)
    config = tokenizer.config
    ids = {name: tokenizer.encode(wave[None]).ids[0].cpu() for name, wave in waves.items()}
    ids = {name: row if row.ndim == 1 else row[:, 0] for name, row in ids.items()}
    seconds = len(waves[names[0]]) / config.sample_rate
    width = min(24.0, max(6.0, 2.2 * seconds + 2))
    figure = Figure(figsize=(width, 1.7 * len(names) + 0.6 * len(names) + 0.6), layout="constrained")
    axes = figure.subplots(
        2 * len(names), 1, sharex=True, gridspec_kw={"height_ratios": [3, 1] * len(names)}, squeeze=False
    )[:, 0]
    reference = ids[names[0]]
    edge = len(reference) * config.token_samples / config.sample_rate
    for number, name in enumerate(names):
        top, bottom = axes[2 * number], axes[2 * number + 1]
        mel = tokenizer.features.alone(waves[name].to(tokenizer.device))[0].cpu().numpy()
        top.imshow(mel, origin="lower", aspect="auto", extent=(0, edge, 0, len(mel)), cmap="magma")
        top.set_ylabel(f"{name}\nmel band")
        row = ids[name]
        colours = (row % _COLOURS)[None].numpy()
        bottom.imshow(colours, aspect="auto", extent=(0, edge, 0, 1), cmap="tab20", vmin=0, vmax=_COLOURS - 1)
        bottom.set_yticks([])
        step = edge / len(row)
        for place, value in enumerate(row.tolist()):
            if seconds < 8:
                bottom.text((place + 0.5) * step, 0.5, value, ha="center", va="center", fontsize=5, rotation=90)
        different = (row != reference).nonzero()[:, 0].tolist()
        for place in different:
            bottom.add_patch(_frame(place * step, step))
        changed = "" if number == 0 else f"\n{len(different)} of {len(row)} changed"
        bottom.set_ylabel(f"tokens{changed}", rotation=0, ha="right", va="center")
    axes[-1].set_xlabel("seconds")
    if title:
        figure.suptitle(title)
    return figure


def _frame(start: float, step: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((start, 0.02), step, 0.96, fill=False, edgecolor="black", linewidth=1.6)
