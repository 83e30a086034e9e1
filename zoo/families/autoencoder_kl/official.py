"""The released layout: diffusers' `AutoencoderKL`, `config.json` and `diffusion_pytorch_model.safetensors`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from zoo.checkpoint import foreign
from zoo.components.autoencoder_kl import HALVES, ConvConfig
from zoo.components.quantizers import Gaussian, GaussianConfig
from zoo.errors import CheckpointError, ConfigError, shown
from zoo.families.autoencoder_kl.config import AutoencoderKLConfig
from zoo.families.autoencoder_kl.tokenizer import AutoencoderKLTokenizer

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
# As diffusers names the linear maps of attention since 0.18, and before.
_OLD_NAMES = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def recognises(folder: Path) -> bool:
    """Whether `folder` holds an `AutoencoderKL` of diffusers."""
    try:
        values = foreign.read_json(folder / CONFIG)
    except CheckpointError:
        return False
    return values.get("_class_name") == CLASS and (folder / WEIGHTS).is_file()


def load(folder: Path) -> AutoencoderKLTokenizer:
    """Build a tokenizer from a released folder. Latents are not scaled: `scaling_factor` is a diffusion model's.

    Raises:
        CheckpointError: A file is missing or not what it should be.
    """
    values = foreign.read_json(folder / CONFIG)
    try:
        config = _config(values)
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG} has unusable values. {error}") from error
    tokenizer = AutoencoderKLTokenizer(config)
    try:
        tensors = load_file(folder / WEIGHTS)
    except Exception as error:  # safetensors raises its own, and OSError
        raise CheckpointError(f"{folder / WEIGHTS} cannot be read, it may be damaged or missing: {error}") from error
    state = {_own_name(name): _in_shape(tensor) for name, tensor in tensors.items()}
    wanted = tokenizer.state_dict()
    if wrong := sorted(set(state) ^ set(wanted)):
        raise CheckpointError(f"{folder / WEIGHTS} lacks tensors, or has others than its config asks for: {shown(wrong)}.")
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise CheckpointError(
                f"{folder / WEIGHTS}: {name} must be {list(wanted[name].shape)}, got {list(tensor.shape)}."
            )
    tokenizer.load_state_dict(state)
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
    names = {_own_name(theirs): theirs for theirs in map(_published_name, tokenizer.state_dict())}
    save_file(
        {names[name]: tensor.contiguous() for name, tensor in tokenizer.state_dict().items()}, folder / WEIGHTS
    )
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


def _own_name(name: str) -> str:
    for old, new in _OLD_NAMES.items():
        name = name.replace(old, new)
    theirs = next((start for start in HALVES if name.startswith(start)), "")
    return HALVES.get(theirs, "") + name.removeprefix(theirs)


def _published_name(name: str) -> str:
    theirs = max((start for start, ours in HALVES.items() if name.startswith(ours)), key=lambda start: len(HALVES[start]))
    return theirs + name.removeprefix(HALVES[theirs])


def _in_shape(tensor: Tensor) -> Tensor:
    """Return a tensor as float32."""
    return tensor.float()
