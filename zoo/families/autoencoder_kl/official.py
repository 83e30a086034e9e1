"""The released layout: diffusers' `AutoencoderKL`, `config.json` and `diffusion_pytorch_model.safetensors`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from zoo.checkpoint import foreign
from zoo.checkpoint.diffusers import current_name, diffusers_name
from zoo.components.autoencoder_kl import ConvConfig
from zoo.components.quantizers import Gaussian, GaussianConfig
from zoo.errors import CheckpointError, ConfigError, shown
from zoo.families.autoencoder_kl.config import AutoencoderKLConfig
from zoo.families.autoencoder_kl.tokenizer import AutoencoderKLTokenizer
from zoo.process.fresh import fresh

__all__ = ["EXTRA_FILES", "load", "recognises", "write"]

EXTRA_FILES = ()
CLASS = "AutoencoderKL"
CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"

# What must be as it is here, if it is there at all: other values mean another network.
_FIXED: dict[str, Any] = {
    "act_fn": "silu",
    "in_channels": 3,
    "out_channels": 3,
    "mid_block_add_attention": True,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
}


def recognises(folder: Path) -> bool:
    """Whether `folder` holds an `AutoencoderKL` of diffusers."""
    try:
        values = foreign.read_json(folder / CONFIG)
    except CheckpointError:
        return False
    return values.get("_class_name") == CLASS and (folder / WEIGHTS).is_file()


def load(folder: Path, *, decoder: bool = True) -> AutoencoderKLTokenizer:
    """Build a tokenizer from a released folder. Latents are not scaled: `scaling_factor` is a diffusion model's.

    Args:
        folder: Where the files are.
        decoder: False to read and hold the encoder alone.

    Raises:
        CheckpointError: A file is missing or not what it should be.
    """
    values = foreign.read_json(folder / CONFIG)
    try:
        config = _config(values)
        with fresh("meta"):
            state = AutoencoderKLTokenizer(config).state_dict()
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG} has unusable values. {error}") from error
    expected = {diffusers_name(ours): tensor for ours, tensor in state.items()}
    names = {ours: diffusers_name(ours) for ours in state if decoder or ours.startswith("encoder.")}
    weights = folder / WEIGHTS
    tensors = foreign.read_fitting(
        [weights], expected, str(weights), name=current_name, wanted=frozenset(names.values())
    )
    tokenizer = AutoencoderKLTokenizer(config, decoder=decoder)
    tokenizer.load_state_dict({ours: tensors[theirs] for ours, theirs in names.items()})
    return tokenizer.eval()


def write(tokenizer: AutoencoderKLTokenizer, folder: Path) -> Path:
    """Write the released layout.

    Raises:
        ConfigError: The layout has no quantizer but the Gaussian.
        TokenError: The tokenizer was loaded without its decoder.
    """
    tokenizer.require_decoder("be written")
    if not isinstance(tokenizer.quantizer, Gaussian):
        raise ConfigError("diffusers' AutoencoderKL has a Gaussian between its halves, and no other quantizer.")
    conv = tokenizer.config.conv
    stages = len(conv.block_channels)
    values = {
        "_class_name": CLASS,
        "act_fn": "silu",
        "block_out_channels": list(conv.block_channels),
        "down_block_types": ["DownEncoderBlock2D"] * stages,
        "in_channels": 3,
        "latent_channels": tokenizer.quantizer.dim,
        "layers_per_block": conv.layers_per_block,
        "norm_num_groups": conv.norm_groups,
        "out_channels": 3,
        "sample_size": tokenizer.config.image_size,
        "up_block_types": ["UpDecoderBlock2D"] * stages,
    }
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {diffusers_name(name): tensor.contiguous() for name, tensor in tokenizer.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return folder


def _config(values: dict[str, Any]) -> AutoencoderKLConfig:
    for key, expected in _FIXED.items():
        if key in values and (values[key] != expected or type(values[key]) is not type(expected)):
            raise ConfigError(f"{key} must be {expected!r}, got {shown(values[key])}.")
    widths = values.get("block_out_channels")
    if not isinstance(widths, list):
        raise ConfigError(f"block_out_channels must be a list, got {shown(widths)}.")
    for key, kind in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
        if key in values and values[key] != [kind] * len(widths):
            raise ConfigError(f"{key} must be {kind} for each of block_out_channels, got {shown(values[key])}.")
    size = values.get("sample_size", 256)
    return AutoencoderKLConfig(
        image_size=size[0] if isinstance(size, list) and len(size) == 2 and size[0] == size[1] else size,
        conv=ConvConfig(
            block_channels=tuple(widths),
            layers_per_block=values.get("layers_per_block", 1),
            norm_groups=values.get("norm_num_groups", 32),
        ),
        quantizer=GaussianConfig(dim=values.get("latent_channels", 4)),
    )
