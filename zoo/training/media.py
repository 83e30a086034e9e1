"""What a family shows of its reconstructions, and where it goes: pictures, clips, sound and figures to TensorBoard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.errors import InputError

__all__ = ["Audio", "Clip", "Figure", "Media", "Picture", "log_media"]


@dataclass(frozen=True)
class Picture:
    """An image (3, H, W) or (1, H, W), 0 to 1; or some of one size, (N, 3, H, W), shown side by side.

    Raises:
        InputError: Another shape.
    """

    pixels: Tensor

    def __post_init__(self) -> None:
        shape = tuple(self.pixels.shape)
        _require(len(shape) in (3, 4) and shape[-3] in (1, 3), "a picture", "(3, H, W) or (N, 3, H, W)", shape)


@dataclass(frozen=True)
class Clip:
    """A video (3, T, H, W), 0 to 1; shown as its frames side by side.

    Raises:
        InputError: Another shape.
    """

    pixels: Tensor

    def __post_init__(self) -> None:
        shape = tuple(self.pixels.shape)
        _require(len(shape) == 4 and shape[0] in (1, 3), "a clip", "(3, T, H, W)", shape)


@dataclass(frozen=True)
class Audio:
    """A wave (samples,), -1 to 1, and its rate in Hz.

    Raises:
        InputError: Another shape.
    """

    wave: Tensor
    sample_rate: int

    def __post_init__(self) -> None:
        _require(self.wave.ndim == 1, "a wave", "(samples,)", tuple(self.wave.shape))


@dataclass(frozen=True)
class Figure:
    """A matplotlib figure, such as of curves or a spectrogram."""

    figure: Any


Media = Picture | Clip | Audio | Figure


def log_media(loggers: Iterable[Any], media: Mapping[str, Media], step: int) -> None:
    """Write media to those loggers that are TensorBoard's; others are left alone.

    Args:
        loggers: Of a trainer.
        media: By name.
        step: Optimiser steps so far.
    """
    from lightning.pytorch.loggers import TensorBoardLogger

    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            for name, item in media.items():
                _write(logger.experiment, name, item, step)


def _write(writer: Any, name: str, item: Media, step: int) -> None:
    match item:
        case Picture(pixels):
            ready = _pixels(pixels)
            writer.add_image(name, ready if ready.ndim == 3 else torch.cat([*ready], -1), step)
        case Clip(pixels):
            # Side by side, because TensorBoard's own videos need another package.
            writer.add_image(name, _pixels(pixels).transpose(1, 2).flatten(2), step)
        case Audio(wave, sample_rate):
            writer.add_audio(name, wave.detach().float().clamp(-1, 1).cpu()[None], step, sample_rate)
        case Figure(figure):
            writer.add_figure(name, figure, step)


def _require(condition: bool, what: str, wanted: str, shape: tuple[int, ...]) -> None:
    if not condition:
        raise InputError(f"{what} to show must be of shape {wanted}, got {shape}: choose one item of the batch.")


def _pixels(pixels: Tensor) -> Tensor:
    return pixels.detach().float().clamp(0, 1).cpu()
