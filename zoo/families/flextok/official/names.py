"""Released tensors: their names, and the shapes of the tables of positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from zoo.checkpoint import foreign
from zoo.checkpoint.diffusers import current_name, diffusers_name

__all__ = ["DECODER", "ENCODER", "VAE", "Positions", "known_name", "ours", "released", "released_name"]

ENCODER, DECODER, VAE = "encoder.module_dict.", "decoder.module_dict.", "vae.vae."
"""How names of tensors begin."""

Positions = Literal["sincos", "learnable_sum", "learnable_prod"]
"""How positions of patches are stored: as a table, or as rows and columns that are added or multiplied."""

ENCODER_POSITIONS = f"{ENCODER}enc_posemb_module.posembs"
DECODER_POSITIONS = f"{DECODER}dec_patches_posemb_module.posembs"
REGISTER_POSITIONS = f"{DECODER}dec_registers_posemb_module.posembs"
NULL = f"{DECODER}dec_latent_dropout.nullcond"

_WHOLE = {
    "encoder.resampler.positions": ENCODER_POSITIONS,
    "encoder.resampler.registers.queries": f"{ENCODER}enc_register_module.registers",
    "decoder.flow.positions": REGISTER_POSITIONS,
    "decoder.flow.patch_positions": DECODER_POSITIONS,
    "decoder.flow.mask_token": f"{DECODER}dec_nested_dropout.dropout_mask_token",
    "decoder.flow.null": NULL,
}
# Our part of a name, theirs; the first that fits, of each place in a name, counts.
_PARTS = (
    (r"^encoder\.resampler\.embed\.linear\.", f"{ENCODER}enc_patch_emb.patch_proj."),
    (r"^encoder\.resampler\.registers\.transformer\.layers\.", f"{ENCODER}enc_transformer.blocks."),
    (r"^encoder\.resampler\.registers\.project\.", f"{ENCODER}enc_to_latents.proj."),
    (r"^decoder\.flow\.embed\.", f"{DECODER}dec_from_latents.proj."),
    (r"^decoder\.flow\.patches\.linear\.", f"{DECODER}dec_noise_patch_emb.patch_proj."),
    (r"^decoder\.flow\.time\.", f"{DECODER}dec_time_embedder.mlp."),
    (r"^decoder\.flow\.transformer\.layers\.", f"{DECODER}dec_transformer.blocks."),
    (r"^decoder\.flow\.modulation\.linear\.", f"{DECODER}dec_to_patches.adaLN_modulation.1."),
    (r"^decoder\.flow\.project\.", f"{DECODER}dec_to_patches.proj."),
    (r"\.attention\.([qkv])\.", r".attn.w\1."),
    (r"\.attention\.out\.", ".attn.proj."),
    (r"\.mlp\.gate\.", ".mlp.fc1."),
    (r"\.mlp\.up\.", ".mlp.fc3."),
    (r"\.mlp\.down\.", ".mlp.fc2."),
    (r"\.modulation\.linear\.", ".adaLN_modulation.1."),
)
_CHECKPOINTED = "_checkpoint_wrapped_module."


def known_name(name: str) -> str | None:
    """Return what a tensor of a file is usually called, None for what aligns features in training.

    Wrappers of activation checkpointing and diffusers before 0.18 add to names, or have others.
    """
    name = name.replace(_CHECKPOINTED, "")
    if name.startswith(f"{DECODER}dec_repa"):
        return None
    return current_name(name) if name.startswith(VAE) else name


def released_name(name: str) -> str:
    """Return the released name of a tensor of ours."""
    for half in ("encoder.", "decoder."):
        start = f"{half}autoencoder."
        if name.startswith(start):
            return VAE + diffusers_name(half + name.removeprefix(start))
    return _WHOLE.get(name) or foreign.renamed(name, _PARTS)


def released(name: str, tensor: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return a tensor of ours in its released shape: tables of positions have width before place there.

    Args:
        name: Its released name.
        tensor: Its values, perhaps on the meta device.
        grid: Rows and columns of patches.
    """
    if name in (ENCODER_POSITIONS, DECODER_POSITIONS):
        return tensor.T.reshape(1, -1, *grid).contiguous()
    return tensor.T[None, None].contiguous() if name == REGISTER_POSITIONS else tensor


def ours(name: str, tensor: Tensor, positions: Mapping[str, Positions]) -> Tensor:
    """Undo `released`; learned rows and columns become the table that they stand for.

    Args:
        name: The released name.
        tensor: (1, D, rows, columns) of a table for patches, (2, 1, D, side) of rows, then columns; (1, 1, D, N) for
            registers.
        positions: How those of patches are stored, by released name.
    """
    if name == REGISTER_POSITIONS:
        return tensor[0, 0].T
    kind = positions.get(name)
    if kind is None:
        return tensor
    if kind == "sincos":
        table = tensor[0]
    else:
        rows, columns = tensor[0, 0, :, :, None].float(), tensor[1, 0, :, None, :].float()
        table = rows + columns if kind == "learnable_sum" else rows * columns
    return table.flatten(1).T


def learned(width: int, side: int) -> Tensor:
    """Return the shape of learned rows and columns, on the meta device."""
    return torch.empty(2, 1, width, side, device="meta", dtype=torch.float32)
