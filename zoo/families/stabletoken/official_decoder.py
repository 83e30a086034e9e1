"""The authors' released decoder: read as it is, and written for round trips.

A folder `decoder/` beside `tokenizer/` has `config.yaml` (see `decoder/settings.py`) and two plain state dicts,
`flow.pt` and `hift.pt`, or the same as safetensors. Of pickles nothing but tensors is read. Every tensor is used, and
one that is missing or that nobody knows is an error. Weight norms stay a length and a direction, `weight_g` and
`weight_v`, as they are released.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo import _weights
from zoo.errors import CheckpointError, shown
from zoo.families.stabletoken.decoder import settings
from zoo.families.stabletoken.decoder.config import DecoderConfig
from zoo.families.stabletoken.decoder.names import flow_name, usual_name, vocoder_name
from zoo.families.stabletoken.decoder.speech import SpeechDecoder

__all__ = ["fill", "locate", "read_config", "write"]

_FOLDER, _CONFIG = "decoder", "config.yaml"
_FLOW, _VOCODER = "flow", "hift"
_SUFFIXES = (".safetensors", ".pt")


def locate(folder: Path) -> Path | None:
    """Return `folder / "decoder"` if it has any of the released files, else None."""
    place = folder / _FOLDER
    names = (_CONFIG, *(stem + suffix for stem in (_FLOW, _VOCODER) for suffix in _SUFFIXES))
    return place if any((place / name).is_file() for name in names) else None


def read_config(place: Path) -> DecoderConfig:
    """Return the settings in a released folder.

    Raises:
        CheckpointError: `config.yaml` is missing or cannot be read.
        ConfigError: A setting is unusable, or one that the decoder does not have.
    """
    return settings.read(place / _CONFIG)


def fill(decoder: SpeechDecoder, place: Path) -> None:
    """Read the released weights into a decoder of the settings beside them.

    Raises:
        CheckpointError: A file or tensor is missing, unexpected, damaged or contradicts the settings.
    """
    vocoder: dict[str, Tensor] = {}
    for key, value in _read(place, _VOCODER).items():
        if usual_name(key) in vocoder:
            raise CheckpointError(f"{place}: {_VOCODER} has {usual_name(key)} twice, under two spellings.")
        vocoder[usual_name(key)] = value
    tensors = _read(place, _FLOW), vocoder
    state = decoder.state_dict()
    ready: dict[str, Tensor] = {}
    for names, found, stem in zip(_names(decoder), tensors, (_FLOW, _VOCODER), strict=True):
        expected = {theirs: state[ours] for ours, theirs in names.items()}
        _weights.require_fit(_weights.kinds(expected), _weights.kinds(found), f"{place / stem}.*")
        _weights.require_finite(found, f"{place / stem}.*")
        ready |= {ours: found[theirs] for ours, theirs in names.items()}
    decoder.load_state_dict(ready, strict=True)


def write(decoder: SpeechDecoder, folder: Path) -> Path:
    """Write a decoder in the released layout, into `folder / "decoder"`.

    The layout has no place for `DecoderConfig.steps`, and which classes the authors' code would build is not written.

    Returns:
        The folder with the files.
    """
    place = folder / _FOLDER
    place.mkdir(parents=True)
    settings.write(decoder.config, place / _CONFIG)
    tensors = _weights.collect(decoder)
    for names, stem in zip(_names(decoder), (_FLOW, _VOCODER), strict=True):
        torch.save({theirs: tensors[ours] for ours, theirs in names.items()}, place / f"{stem}.pt")
    return place


def _names(decoder: SpeechDecoder) -> tuple[dict[str, str], dict[str, str]]:
    """Return the released name of each of our tensors, of the two files."""
    levels = len(decoder.config.unet.channels)
    flow = {f"flow.{name}": flow_name(name, levels) for name in decoder.flow.state_dict()}
    return flow, {f"vocoder.{name}": vocoder_name(name) for name in decoder.vocoder.state_dict()}


def _read(place: Path, stem: str) -> Mapping[str, Tensor]:
    """Return the tensors of a file, on the CPU."""
    for path in (place / (stem + suffix) for suffix in _SUFFIXES):
        if path.is_file():
            if path.suffix == ".pt":
                return _unpickled(path)
            with _weights.opened(path) as file:
                return _weights.read(file)
    raise CheckpointError(f"{place} has neither {stem}.pt nor {stem}.safetensors: download it again.")


def _unpickled(path: Path) -> dict[str, Tensor]:
    try:
        tensors: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a stranger's bytes, in whatever part of the reader they break
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{path} cannot be read as a dictionary of tensors ({reason:.200}), and nothing else is read, since "
            "unpickling can run code: download it again."
        ) from error
    if not isinstance(tensors, dict):
        raise CheckpointError(f"{path} must hold a dictionary of tensors by name, got {type(tensors).__name__}.")
    plain: dict[str, Tensor] = tensors
    for key, value in tensors.items():
        if not isinstance(key, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
            raise CheckpointError(
                f"{path} must hold plain tensors by name; at {shown(key)} it has {type(value).__name__}."
            )
    return plain
