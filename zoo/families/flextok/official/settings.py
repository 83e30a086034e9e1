"""The settings of a released model, in their words and in ours.

Settings that no tensor shows are read from the config. Sizes are those of the tensors, with which weights cannot but
agree; where the config states one under a name that is known, it must be the same.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from zoo.checkpoint import weights as _weights
from zoo.components.autoencoder_kl import ConvConfig
from zoo.components.quantizers import FSQConfig
from zoo.errors import CheckpointError, ConfigError, shown
from zoo.families.flextok.config import FlexTokConfig, TrunkConfig
from zoo.families.flextok.official import names
from zoo.families.flextok.official.names import DECODER, ENCODER, VAE, Positions
from zoo.families.flextok.official.nodes import Node, Nodes

__all__ = ["DIFFUSERS_SCALE", "Released", "read"]

DIFFUSERS_SCALE = 0.18215
"""`scaling_factor` of an `AutoencoderKL` whose config does not say another."""

_HUB_PATH = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_POSITIONS = ("sincos", "learnable_sum", "learnable_prod")


@dataclass(frozen=True)
class Released:
    """What a released model is.

    Attributes:
        config: In our words.
        positions: How positions of patches are stored, by released name.
        has_null: Whether there is a learned vector for no condition; zeros stand for it if not.
    """

    config: FlexTokConfig
    positions: Mapping[str, Positions]
    has_null: bool


def read(nodes: Nodes, kinds: _weights.Kinds, where: str) -> Released:
    """Return what a released model is.

    Args:
        nodes: Its config.
        kinds: Shapes by released name, `names.known_name`.
        where: What was read, for messages.

    Raises:
        CheckpointError: A setting or tensor is missing, of another type or shape, or contradicts another.
    """
    vae, encoder, decoder = nodes.vae, nodes.encoder, nodes.decoder
    num_tokens, encoder_width = _shape(kinds, f"{ENCODER}enc_register_module.registers", 2, where)
    (decoder_width,) = _shape(kinds, f"{DECODER}dec_nested_dropout.dropout_mask_token", 1, where)
    latent_channels = _shape(kinds, f"{VAE}post_quant_conv.weight", 4, where)[0]
    encoder["enc_register_module"].require("n_min", num_tokens)
    encoder["enc_register_module"].require("n_max", num_tokens)
    decoder["dec_registers_posemb_module"].require("max_sizes", [num_tokens])
    decoder["dec_time_embedder"].require("frequency_embedding_size", 256)
    vae.require("latent_channels", latent_channels)
    sides, positions = set(), {}
    for node, name, width in (
        (encoder["enc_posemb_module"], names.ENCODER_POSITIONS, encoder_width),
        (decoder["dec_patches_posemb_module"], names.DECODER_POSITIONS, decoder_width),
    ):
        positions[name], side = _stored_positions(node, _shape(kinds, name, 4, where), name, width)
        sides.add(side)
    patches = {_patch_size(encoder["enc_patch_emb"]), _patch_size(decoder["dec_noise_patch_emb"])}
    if len(sides) > 1 or len(patches) > 1:
        raise CheckpointError(f"{where}: encoder and decoder must have the same patches, on the same grid.")
    levels = nodes.regularizer.sizes("levels")
    if levels is None:
        raise CheckpointError(f"{nodes.regularizer.where} lacks the levels.")
    patch_size = patches.pop()
    try:
        autoencoder = _autoencoder(vae, kinds)
        config = FlexTokConfig(
            image_size=sides.pop() * patch_size * autoencoder.downsampling,
            autoencoder=autoencoder,
            latent_channels=latent_channels,
            scaling_factor=_scaling_factor(vae),
            patch_size=patch_size,
            num_tokens=num_tokens,
            encoder=_trunk(encoder["enc_transformer"], kinds, f"{ENCODER}enc_transformer.blocks.", encoder_width),
            decoder=_trunk(decoder["dec_transformer"], kinds, f"{DECODER}dec_transformer.blocks.", decoder_width),
            quantizer=FSQConfig(tuple(levels), nodes.regularizer.get("drop_quant_p", float, 0.0)),
            nested_dropout=decoder["dec_nested_dropout"].get("size_sampling_mode", str, "uniform"),
            max_timestep=decoder["dec_time_embedder"].get("max_timestep", float, 1000.0),
        )
    except ConfigError as error:
        raise CheckpointError(f"{where} has unusable values. {error}") from error
    return Released(config, positions, decoder["dec_latent_dropout"].target == "LearnedNullCond")


def _shape(kinds: _weights.Kinds, name: str, rank: int, where: str) -> tuple[int, ...]:
    if name not in kinds:
        raise CheckpointError(f"the tensors of {where} do not fit its config: {name} is missing.")
    shape = kinds[name][0]
    if len(shape) != rank or 0 in shape:
        raise CheckpointError(f"{where}: {name} must have {rank} axes, got the shape {shown(shape)}.")
    return shape


def _trunk(node: Node, kinds: _weights.Kinds, start: str, width: int) -> TrunkConfig:
    # Numbers that follow the start of a name are counted, whatever they are: those that are missing are missed later.
    depth = len({name.removeprefix(start).partition(".")[0] for name in kinds if name.startswith(start)})
    node.require("dim", width)
    node.require("depth", depth)
    return TrunkConfig(depth, width, node.get("head_dim", int, 64), node.get("mlp_ratio", float, 4.0))


def _stored_positions(node: Node, shape: tuple[int, ...], name: str, width: int) -> tuple[Positions, int]:
    """Return how positions of patches are stored, and the side of their grid; a wrong shape would ask for any size."""
    kind = node.get("posemb_type", str, "sincos")
    if kind not in _POSITIONS:
        raise CheckpointError(f"{node.where}: posemb_type must be one of {', '.join(_POSITIONS)}, got {shown(kind)}.")
    side = shape[3]
    wanted = (1, width, side, side) if kind == "sincos" else (2, 1, width, side)
    if shape != wanted:
        raise CheckpointError(f"{node.where}: {name} of {kind} must have the shape {wanted}, got {shown(shape)}.")
    node.require("max_sizes", [side, side])
    return cast(Positions, kind), side


def _patch_size(node: Node) -> int:
    sizes = node.sizes("patch_sizes") or [2, 2]
    if len(sizes) != 2 or sizes[0] != sizes[1]:
        raise CheckpointError(f"{node.where}: patch_sizes must be two equal sizes, got {shown(sizes)}.")
    return sizes[0]


def _autoencoder(vae: Node, kinds: _weights.Kinds) -> ConvConfig:
    """Return the autoencoder's sizes, of which the config states none."""
    start = f"{VAE}encoder.down_blocks."
    widths: list[int] = []
    while (name := f"{start}{len(widths)}.resnets.0.norm2.weight") in kinds:
        widths.append(_shape(kinds, name, 1, vae.where)[0])
    layers = 0
    while f"{start}0.resnets.{layers}.norm2.weight" in kinds:
        layers += 1
    return ConvConfig(tuple(widths), layers, vae.get("norm_num_groups", int, 32))


def _scaling_factor(vae: Node) -> float:
    path = vae.get("hf_hub_path", str)
    if path is not None and not _HUB_PATH.fullmatch(path):
        raise CheckpointError(f"{vae.where}: hf_hub_path must be owner/repo or null, got {shown(path)}.")
    vae.get("sample_posterior", bool)  # whatever it says, the mean is taken: a sample gives other tokens each time
    scale: float | None = vae.get("scaling_factor", float)
    if scale is None and path is not None:
        warnings.warn(
            f"{vae.where} leaves scaling_factor to the config of {path}, which is not here: diffusers' default, "
            f"{DIFFUSERS_SCALE}, is assumed. If that config says another, write it into this one.",
            stacklevel=2,
        )
    return DIFFUSERS_SCALE if scale is None else scale
