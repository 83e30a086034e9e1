"""From the paths that a user names to items that a tokenizer encodes, one modality after the other."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zoo.cli._output import count, note
from zoo.errors import InputError, ZooError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.cli._parser import Parser
    from zoo.data.actions import ActionEpisodes
    from zoo.tokenizer import Tokenizer

__all__ = ["SUFFIXES", "Item", "Reading", "add_action_arguments", "find_items", "read_episodes"]

_SOUNDS = ".wav .flac .mp3 .ogg .oga .opus .m4a .aac .aif .aiff .aifc .au .caf .wma .mka .webm"
_PICTURES = ".png .jpg .jpeg .jpe .jfif .webp .bmp .tif .tiff .ppm .pgm .avif"
_VIDEOS = ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ogv .wmv .flv .gif"

SUFFIXES = {"speech": _SOUNDS.split(), "image": _PICTURES.split(), "video": _VIDEOS.split()}
"""What is taken from a folder. A file that is named itself may have any name."""

# How the library names an argument, and how this command does.
_FLAGS = {"resample=True": "--resample", "mix_down=True": "--mix-down", "on_white=True": "--on-white"}


@dataclass(frozen=True)
class Reading:
    """What may be done to an input so that it fits the model; nothing by default.

    Args:
        resample: Change the rate of speech and the frame rate of videos.
        mix_down: Average the channels of speech.
        resize: Bring pictures and frames to the model's size, cut to its shape or stretched.
        on_white: Lay transparent pictures on white.
        trim: Take the beginning of videos that are too long.
    """

    resample: bool = False
    mix_down: bool = False
    resize: Literal["cut", "stretch"] | None = None
    on_white: bool = False
    trim: bool = False


@dataclass(frozen=True)
class Item:
    """Something to encode, not read yet.

    Args:
        name: A relative path, for the token file.
        read: Returns the signal without a batch dimension, and its rate if it has one.
    """

    name: str
    read: Callable[[], tuple[Tensor, float | None]]


def add_action_arguments(parser: Parser) -> None:
    """Add the arguments that say what in a file of actions is read."""
    group = parser.add_argument_group("which actions to read")
    group.add_argument(
        "--column",
        metavar="NAME",
        help="Parquet, LeRobot: the column that holds them, or several with commas (default: action)",
    )
    group.add_argument("--key", metavar="NAME", help="npz: array that holds them (default: actions)")
    group.add_argument("--split", metavar="NAME", help="npz, LeRobot: read only this split, such as train")


def find_items(
    tokenizer: Tokenizer, inputs: Sequence[str], reading: Reading, keep_folders: bool, **actions: str | None
) -> list[Item]:
    """Return what the inputs hold, in order, with different names.

    Raises:
        InputError: An input does not exist, a folder holds nothing of the modality, or two items have one name.
    """
    modality = tokenizer.spec.modality
    if modality == "action":
        items = list(_episode_items(tokenizer, inputs, actions))
    else:
        files = [file for text in inputs for file in _files(text, modality)]
        names = _names(files, keep_folders)
        read = {"speech": _read_speech, "image": _read_image, "video": _read_video}[modality]
        items = [
            Item(name, lambda file=file: read(tokenizer, file, reading))  # type: ignore[misc]
            for name, file in zip(names, files, strict=True)
        ]
    from zoo.tokenfile import check_name

    seen: set[str] = set()
    for item in items:
        check_name(item.name)  # before the work, not after it
        if item.name in seen:
            remedy = "encode them apart" if keep_folders or modality == "action" else "pass --keep-folders"
            raise InputError(f"two items have the name {item.name!r}: {remedy}.")
        seen.add(item.name)
    return items


def read_episodes(
    inputs: Sequence[str], column: str | None = None, key: str | None = None, split: str | None = None
) -> ActionEpisodes:
    """Read the robot actions of all inputs as one set.

    Args:
        inputs: What `zoo.data.actions.read_actions` reads.
        column: For Parquet and LeRobotDatasets: one column, or several with commas.
        key: For archives: the array.
        split: For archives and LeRobotDatasets: the split.

    Raises:
        InputError: An input cannot be read, or they do not fit together.
    """
    from zoo.data.actions import ActionEpisodes, read_actions

    columns = None if column is None else column.split(",") if "," in column else column
    parts = []
    for text in inputs:
        part = read_actions(text, column=columns, key=key, split=split)
        if len(inputs) > 1:  # episodes are often only numbered, which names them within their own file
            stem = Path(os.path.abspath(text)).stem  # noqa: PTH100 - the name of "." without following links
            names = [name if name.startswith(stem) else f"{stem}.{name}" for name in part.names]
            part = replace(part, names=names)
        parts.append(part)
    rates = {part.control_rate for part in parts}
    if len(rates) > 1:
        shown = ", ".join("unknown" if rate is None else f"{rate:g} Hz" for rate in rates)
        raise InputError(f"the inputs have different control rates ({shown}): use those of one rate together.")
    return ActionEpisodes(
        [episode for part in parts for episode in part.episodes],
        [name for part in parts for name in part.names],
        rates.pop(),
        parts[0].dof_names,
    )


def _episode_items(tokenizer: Tokenizer, inputs: Sequence[str], actions: dict[str, str | None]) -> Iterator[Item]:
    import torch

    data = read_episodes(inputs, **actions)
    rate, expected = data.control_rate, tokenizer.spec.sample_rate
    if rate is not None and expected is not None and rate != expected:
        note(f"the data has {rate:g} commands a second, {tokenizer.name} was made for {expected:g}.")
    for name, episode in zip(data.names, data.episodes, strict=True):
        yield Item(name, lambda episode=episode: (torch.from_numpy(episode), rate))  # type: ignore[misc]


def _files(text: str, modality: str) -> list[Path]:
    """Return a file, or those of the modality in a folder and its subfolders, in natural order."""
    path = Path(text).expanduser()
    if not path.is_dir():
        if not path.exists():
            raise InputError(f"{text!r} does not exist.")
        return [path]
    found = sorted(
        (Path(folder, name) for folder, _, names in os.walk(path) for name in names if not name.startswith(".")),
        key=lambda file: [(int(part), "") if part.isdigit() else (-1, part) for part in _PARTS.split(str(file))],
    )
    wanted = [file for file in found if file.suffix.lower() in SUFFIXES[modality]]
    if not wanted:
        raise InputError(f"the folder {text!r} has no files of {modality} ({', '.join(SUFFIXES[modality])}).")
    if len(wanted) < len(found):
        others = sorted({file.suffix.lower() or "no suffix" for file in set(found) - set(wanted)})
        left_out = count(len(found) - len(wanted), "file")
        note(f"left out {left_out} of {text}, since only files of {modality} are taken: {', '.join(others)}.")
    return wanted


_PARTS = re.compile(r"([0-9]+)")


def _names(files: list[Path], keep_folders: bool) -> list[str]:
    """Return file names, or paths below the folder that all files have in common."""
    if not keep_folders:
        return [file.name for file in files]
    paths = [file.absolute() for file in files]
    common = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(common).as_posix() for path in paths]


def _read_speech(tokenizer: Tokenizer, file: Path, reading: Reading) -> tuple[Tensor, float | None]:
    try:
        wave, _ = tokenizer.as_batch(file, resample=reading.resample, mix_down=reading.mix_down)
    except InputError as error:
        raise _named(error, file) from error
    return wave[0], tokenizer.spec.sample_rate


def _read_image(tokenizer: Tokenizer, file: Path, reading: Reading) -> tuple[Tensor, float | None]:
    from zoo.data.media import read_image

    wanted = tokenizer.spec.input_size
    try:
        image = read_image(
            file,
            size=(wanted[-2], wanted[-1]) if wanted and reading.resize else None,
            crop="center" if reading.resize == "cut" else None,
            on_white=reading.on_white,
        )
    except InputError as error:
        raise _named(error, file) from error
    _check_size(tokenizer, file, tuple(image.shape[-2:]))
    return image, None


def _read_video(tokenizer: Tokenizer, file: Path, reading: Reading) -> tuple[Tensor, float | None]:
    from zoo.data.media import read_video

    spec = tokenizer.spec
    wanted, wanted_rate = spec.input_size, spec.sample_rate
    frames = wanted[0] if wanted is not None and len(wanted) == 3 else None
    try:
        clip, rate = read_video(
            file,
            size=(wanted[-2], wanted[-1]) if wanted and reading.resize else None,
            crop="center" if reading.resize == "cut" else None,
            num_frames=frames if reading.trim else None,
            frame_rate=wanted_rate if reading.resample else None,
        )
    except InputError as error:
        raise _named(error, file) from error
    if wanted_rate is not None and abs(rate - wanted_rate) > 1e-3 * wanted_rate:
        raise InputError(
            f"{file} has {rate:g} frames a second, {tokenizer.name} takes {wanted_rate:g}: pass --resample to drop or "
            "repeat frames."
        )
    if frames is not None and clip.shape[1] != frames:
        remedy = ": pass --trim to take its beginning" if clip.shape[1] > frames else ""
        raise InputError(f"{file} has {clip.shape[1]} frames, {tokenizer.name} takes {frames}{remedy}.")
    _check_size(tokenizer, file, tuple(clip.shape[-2:]))
    return clip, rate


def _check_size(tokenizer: Tokenizer, file: Path, size: tuple[int, ...]) -> None:
    wanted = tokenizer.spec.input_size
    if wanted is not None and size != tuple(wanted[-2:]):
        raise InputError(
            f"{file} is {size[0]} pixels high and {size[1]} wide, {tokenizer.name} takes {wanted[-2]} × {wanted[-1]}: "
            "pass --resize cut to scale it and cut it to shape, or --resize stretch."
        )


def _named(error: ZooError, file: Path) -> InputError:
    """Return an error that names the file, and arguments as they are written on a command line."""
    text = str(error)
    for argument, flag in _FLAGS.items():
        text = text.replace(argument, flag)
    return InputError(text if str(file) in text else f"{file}: {text}")
