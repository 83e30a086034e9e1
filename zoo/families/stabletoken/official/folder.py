"""The authors' released files: read as they are, and written for round trips.

The released repository has a folder `tokenizer/` with `config.json`, a Whisper config with the quantizer's settings
beside it; `preprocessor_config.json`, that of Whisper's feature extractor; and safetensors with Whisper's names for the
encoder's tensors. All settings are read and none is guessed from shapes; a setting that this family does not have, a
tensor that is missing and a tensor that nobody knows are errors. A folder `decoder/` beside it is read if it is there
(`decoder.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor

from zoo.checkpoint import foreign
from zoo.checkpoint import weights as _weights
from zoo.checkpoint.whisper import whisper_name
from zoo.components.quantizers import VotingLFQConfig, parse
from zoo.errors import CheckpointError, ConfigError, shown
from zoo.families.stabletoken.config import StableTokenConfig
from zoo.families.stabletoken.official import decoder as official_decoder
from zoo.families.stabletoken.tokenizer import StableTokenTokenizer
from zoo.process.fresh import fresh

if TYPE_CHECKING:
    from zoo.families.stabletoken.decoder.speech import SpeechDecoder

__all__ = ["EXTRA_FILES", "LICENCE", "load", "locate", "read_config", "recognises", "write"]

LICENCE = "LicenseRef-StableToken"
"""The released weights' own licence, which has no SPDX identifier."""

_FOLDER = "tokenizer"
_CONFIG, _PREPROCESSOR, _WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"

# Our field, their key. All are required.
_FIELDS = {
    "d_model": "d_model",
    "num_heads": "encoder_attention_heads",
    "ffn_size": "encoder_ffn_dim",
    "num_layers": "quantize_position",
    "num_mel": "num_mel_bins",
    "max_positions": "max_source_positions",
    "pooling_kernel": "pooling_kernel_size",
    "pooling_type": "pooling_type",
    "pooling_position": "pooling_position",
}
_QUANTIZER_FIELDS = {"num_voters": "num_voters", "num_clean": "num_clean_input", "bias": "use_projection_bias"}
# Their class reads this one, has no default for it, and configs of models without it do not all have it.
_CAUSAL = "encoder_causal_convolution"
_SIZE, _LAYERS, _FRONT_ONLY = "quantize_vocab_size", "encoder_layers", "quantize_encoder_only"
_EXTRACTOR_FIELDS = {"sample_rate": "sampling_rate", "n_fft": "n_fft", "hop_length": "hop_length"}

_BRANCHES = "quantizer.branches."
# What training reads and encoding does not: positions and norm behind the quantizer, and the record of used codes.
_UNUSED = ("embed_positions2.weight", "layer_norm.weight", "layer_norm.bias", "codebook_used")
_USAGE_SIZE = 32768
# The decoder's tensors have files of their own.
_DECODER, _DECODER_FOLDER = "decoder.", "decoder"

EXTRA_FILES = ("decoder/config.yaml", "decoder/flow.pt", "decoder/hift.pt")
"""What a download of the layout needs beside JSON and safetensors."""


def recognises(folder: Path) -> bool:
    """Whether `folder` holds the released layout: `tokenizer/`, or its files themselves."""
    return locate(folder) is not None


def locate(folder: Path) -> Path | None:
    """Return where in `folder` the released files are: in `tokenizer/`, in itself, or None if they are in neither."""
    for place in (folder / _FOLDER, folder):
        with suppress(CheckpointError):
            if {_SIZE, "num_voters", "quantize_position"} <= set(foreign.read_json(place / _CONFIG)):
                return place
    return None


def load(folder: Path, *, decoder: bool = True) -> StableTokenTokenizer:
    """Build a tokenizer from the released files in `folder`, of whose decoder nothing is read if it is not wanted.

    Raises:
        CheckpointError: A file or tensor is missing, unexpected, damaged or contradicts the config.
        ConfigError: The config asks for what this family does not have.
    """
    place = locate(folder)
    if place is None:
        raise CheckpointError(
            f"{folder} does not hold StableToken's released files: expected {_FOLDER}/{_CONFIG} or {_CONFIG} with "
            f"{_SIZE}, num_voters and quantize_position."
        )
    config, unused_layers = read_config(place)
    decoder_place = None
    if decoder and (folder / _DECODER_FOLDER).is_dir():
        decoder_place = official_decoder.locate(folder)
        if decoder_place is not None:
            config = replace(config, decoder=official_decoder.read_config(decoder_place))
            official_decoder.require_weights(decoder_place)
    with fresh("meta"):
        expected = _released(StableTokenTokenizer(config).state_dict(), config)
    ignored = re.compile("|".join([*map(re.escape, _UNUSED), *(rf"layers\.{layer}\..+" for layer in unused_layers)]))
    tensors = foreign.read_fitting(
        foreign.weight_files(place), expected, str(place), name=lambda key: None if ignored.fullmatch(key) else key
    )
    tokenizer = StableTokenTokenizer(config, decoder=decoder)
    ours = [key for key in tokenizer.state_dict() if not key.startswith(_DECODER)]
    tokenizer.load_state_dict(_ours(tensors, ours, config), strict=decoder_place is None)
    if decoder_place is not None:
        tokenizer.decoder.load_state_dict(official_decoder.read(tokenizer.decoder, decoder_place))
    tokenizer.spec = replace(tokenizer.spec, licence=LICENCE)
    tokenizer.trained_on = "the authors' own files, see arXiv 2509.22220"
    return tokenizer


def read_config(place: Path) -> tuple[StableTokenConfig, range]:
    """Return the settings in a released folder, and which layers its weights may have that encoding does not need.

    Raises:
        CheckpointError: A file is missing or is not JSON.
        ConfigError: A setting is missing, unusable, or one that this family does not have.
    """
    where = str(place / _CONFIG)
    values, extractor = foreign.read_json(place / _CONFIG), foreign.read_json(place / _PREPROCESSOR)
    ours = {field: _get(values, key, where) for field, key in _FIELDS.items()}
    ours |= {field: _get(extractor, key, str(place / _PREPROCESSOR)) for field, key in _EXTRACTOR_FIELDS.items()}
    size, layers = _get(values, _SIZE, where), _get(values, _LAYERS, where)
    if type(size) is not int or size < 2 or size & (size - 1):
        raise ConfigError(f"{where}: {_SIZE} must be a power of two, got {shown(size)}.")
    if type(layers) is not int or type(ours["num_layers"]) is not int or layers < ours["num_layers"]:
        raise ConfigError(
            f"{where}: {_LAYERS} must be an integer of at least quantize_position = {shown(ours['num_layers'])}, got "
            f"{shown(layers)}."
        )
    quantizer = {field: _get(values, key, where) for field, key in _QUANTIZER_FIELDS.items()}
    quantizer |= {"kind": "voting_lfq", "dim": ours["d_model"], "num_bits": size.bit_length() - 1}
    ours |= {
        "num_layers_after": layers - ours["num_layers"],
        "causal_convolution": values.get(_CAUSAL, False),
        "stored_positions": True,
    }
    try:
        config = StableTokenConfig(**ours, quantizer=parse(quantizer))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    _require_alike(config, values, extractor, place)
    front_only = _get(values, _FRONT_ONLY, where)
    if type(front_only) is not bool:
        raise ConfigError(f"{where}: {_FRONT_ONLY} must be true or false, got {shown(front_only)}.")
    return config, range(0) if front_only else range(config.num_layers, layers)


def write(tokenizer: StableTokenTokenizer, folder: Path) -> Path:
    """Write a tokenizer in the released layout, into `folder / "tokenizer"`, its decoder into `folder / "decoder"`.

    Tensors that encoding does not need are filled with what their owner starts from: the positions behind the
    quantizer with those before it, the norm with the identity, the usage record with zeros.

    Returns:
        The folder with the tokenizer's files.

    Raises:
        ConfigError: The quantizer is another than the published kind, or there is no position table.
    """
    config, quantizer, positions = tokenizer.config, _voting(tokenizer.config), tokenizer.encoder.positions
    if positions is None:
        raise ConfigError(
            "the released layout is of encoders with a position table, and this one has an attention_reach instead: "
            "save it in the library's own layout."
        )
    values = {key: getattr(config, field) for field, key in _FIELDS.items()}
    values |= {key: getattr(quantizer, field) for field, key in _QUANTIZER_FIELDS.items()} | {
        "model_type": "whisper",
        "activation_function": "gelu",
        _SIZE: 2**quantizer.num_bits,
        _LAYERS: config.num_layers + config.num_layers_after,
        _FRONT_ONLY: True,
        _CAUSAL: config.causal_convolution,
    }
    extractor = {key: getattr(config, field) for field, key in _EXTRACTOR_FIELDS.items()} | {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": config.num_mel,
        "chunk_length": config.segment_samples // config.sample_rate,
        "n_samples": config.segment_samples,
        "nb_max_frames": config.segment_samples // config.hop_length,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
    }
    tensors = {key: value.contiguous() for key, value in _released(_weights.collect(tokenizer), config).items()}
    tensors["embed_positions.weight"] = positions.detach().cpu().clone()
    tensors["embed_positions2.weight"] = positions.detach().cpu().clone()
    tensors["layer_norm.weight"], tensors["layer_norm.bias"] = (
        torch.ones(config.d_model, dtype=torch.float32),
        torch.zeros(config.d_model, dtype=torch.float32),
    )
    tensors["codebook_used"] = torch.zeros(_USAGE_SIZE, dtype=torch.float32)
    place = folder / _FOLDER
    place.mkdir(parents=True)
    for name, content in ((_CONFIG, values), (_PREPROCESSOR, extractor)):
        (place / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    save_file(tensors, place / _WEIGHTS, metadata={"format": "pt"})
    if config.decoder is not None:
        official_decoder.write(cast("SpeechDecoder", tokenizer.decoder), folder)
    return place


def _released(tensors: Mapping[str, Tensor], config: StableTokenConfig) -> dict[str, Tensor]:
    """Return our tensors under their released names; the branches of the quantizer have one matrix each there."""
    released: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if key.startswith(_DECODER):
            continue
        if _BRANCHES in key:
            released |= dict(zip(_branch_names(key, config), value.chunk(_voting(config).num_voters), strict=True))
        else:
            released[_released_name(key)] = value
    return released


def _ours(tensors: Mapping[str, Tensor], keys: Iterable[str], config: StableTokenConfig) -> dict[str, Tensor]:
    """Undo `_released` for our names `keys`."""
    return {
        key: torch.cat([tensors[name] for name in _branch_names(key, config)])
        if _BRANCHES in key
        else tensors[_released_name(key)]
        for key in keys
    }


def _released_name(key: str) -> str:
    return whisper_name(key).replace("quantizer.out.", "quantizer.project_out.", 1)


def _voting(config: StableTokenConfig) -> VotingLFQConfig:
    if not isinstance(config.quantizer, VotingLFQConfig):
        raise ConfigError(f"the released layout has a voting_lfq quantizer, and this one is {config.quantizer.kind!r}.")
    return config.quantizer


def _branch_names(key: str, config: StableTokenConfig) -> list[str]:
    return [key.replace(_BRANCHES, f"quantizer.project_in.{voter}.", 1) for voter in range(_voting(config).num_voters)]


def _require_alike(config: StableTokenConfig, values: dict[str, Any], extractor: dict[str, Any], place: Path) -> None:
    """Refuse settings that would have to change the computation and do not here."""
    length = extractor.get("chunk_length")
    segment = config.segment_samples / config.sample_rate
    facts: list[tuple[str, str, Any, Any]] = [
        (_CONFIG, "activation_function", values.get("activation_function"), "gelu"),
        (_PREPROCESSOR, "feature_size", extractor.get("feature_size"), config.num_mel),
        (_PREPROCESSOR, "chunk_length", length, segment),
        (_PREPROCESSOR, "padding_value", extractor.get("padding_value", 0.0), 0.0),
        (_PREPROCESSOR, "dither", extractor.get("dither", 0.0), 0.0),
    ]
    for name, key, got, wanted in facts:
        if got != wanted:
            raise ConfigError(f"{place / name}: {key} is {shown(got)}; only {wanted!r} is known to work here.")


def _get(values: dict[str, Any], key: str, where: str) -> Any:
    if key not in values:
        raise ConfigError(f"{where} lacks {key}, and it is not guessed.")
    return values[key]
