"""The authors' released decoder: read as it is, and written for round trips.

A folder `decoder/` beside `tokenizer/` has `config.yaml` (see `decoder_settings.py`) and two plain state dicts,
`flow.pt` and `hift.pt`, or the same as safetensors. Every tensor is used, and one that is missing or that nobody knows
is an error. Weight norms stay a length and a direction, `weight_g` and `weight_v`, as they are released.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from zoo.checkpoint import foreign
from zoo.checkpoint import weights as _weights
from zoo.errors import CheckpointError, ConfigError
from zoo.families.stabletoken.decoder.config import DecoderConfig
from zoo.families.stabletoken.official import decoder_settings as settings
from zoo.families.stabletoken.official.decoder_names import flow_name, usual_name, vocoder_name

if TYPE_CHECKING:
    from zoo.families.stabletoken.decoder.speech import SpeechDecoder

__all__ = ["locate", "read", "read_config", "require_weights", "write"]

_FOLDER, _CONFIG = "decoder", "config.yaml"
_FLOW, _VOCODER = "flow", "hift"
_SUFFIXES = (".safetensors", ".pt")


def locate(folder: Path) -> Path | None:
    """Return `folder / "decoder"` if it has any of the released files, else None."""
    place = folder / _FOLDER
    names = (_CONFIG, *(stem + suffix for stem in (_FLOW, _VOCODER) for suffix in _SUFFIXES))
    return place if any((place / name).is_file() for name in names) else None


def require_weights(place: Path) -> None:
    """Raise `CheckpointError` if the weights of a network are missing. Nothing is read."""
    for stem in (_FLOW, _VOCODER):
        foreign.weight_file(place, stem)


def read_config(place: Path) -> DecoderConfig:
    """Return the settings in a released folder.

    Raises:
        CheckpointError: `config.yaml` is missing or cannot be read.
        ConfigError: A setting is unusable, or one that the decoder does not have.
    """
    return settings.read(place / _CONFIG)


def read(decoder: nn.Module, place: Path) -> dict[str, Tensor]:
    """Return the released weights by the names that they have in `decoder`, which may be on the meta device.

    Raises:
        CheckpointError: A file or tensor is missing, unexpected, damaged or contradicts the settings.
    """
    state = decoder.state_dict()
    ready: dict[str, Tensor] = {}
    for names, stem in zip(_names(cast("SpeechDecoder", decoder)), (_FLOW, _VOCODER), strict=True):
        path = foreign.weight_file(place, stem)
        found = foreign.read_tensors(path)
        if stem == _VOCODER:
            twice = [name for name, count in Counter(map(usual_name, found)).items() if count > 1]
            if twice:
                raise CheckpointError(f"{path} has {twice[0]} twice, under two spellings.")
            found = {usual_name(key): value for key, value in found.items()}
        ready |= foreign.fitted(found, names, state, str(path))
    return ready


def write(decoder: SpeechDecoder, folder: Path) -> Path:
    """Write a decoder in the released layout, into `folder / "decoder"`.

    The layout has no place for `DecoderConfig.steps`, and which classes the authors' code would build is not written.

    Returns:
        The folder with the files.

    Raises:
        ConfigError: The flow's spectra are in units of their own, or it predicts them instead of velocities, which the
            layout has no place for either.
    """
    config = decoder.config
    if (config.mel_mean, config.mel_std, config.unet.predicts) != (0, 1, "velocity"):
        raise ConfigError(
            "the released layout has velocities of spectra as they are, and this decoder's network predicts "
            f"{config.unet.predicts} of spectra from mel_mean = {config.mel_mean:g} in units of mel_std = "
            f"{config.mel_std:g}: it cannot be written so."
        )
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
