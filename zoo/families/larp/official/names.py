"""Released tensors: their names and shapes, and what they are here.

Queries, keys and values are three maps here and one there, patches go through a linear map here and a convolution
there, and tables have axes of length one there that they lack here. The convolution is of pictures where a patch has
one frame.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor

from zoo.checkpoint import foreign
from zoo.families.larp.config import LARPConfig

__all__ = ["PRIOR", "from_released", "prior_name", "released_name", "to_released"]

PRIOR = "prior_model."
"""How names of the prior's tensors begin, which tokens do not depend on."""

_PATCHES = "x_embedder.proj.weight"
_QKV = ".attn.qkv.weight"

# Ours, theirs, and the axes of length one that theirs has: "d" is the width, the other letters are lengths.
_TABLES = {
    "encoder.positions.table": ("encoder_patch_pe", "n d -> 1 n d"),
    "encoder.positions.times": ("encoder_t_embed", "n d -> 1 n 1 1 d"),
    "encoder.positions.rows": ("encoder_h_embed", "n d -> 1 1 n 1 d"),
    "encoder.positions.columns": ("encode_w_embed", "n d -> 1 1 1 n d"),  # so in the authors' code, without an r
    "encoder.queries.queries": ("encoder_latent_query_embed", "n d -> n d"),
    "encoder.queries.transformer.types.patches": ("encoder_patch_token_type_embed", "d -> 1 1 d"),
    "encoder.queries.transformer.types.queries": ("encoder_latent_query_token_type_embed", "d -> 1 1 d"),
    "decoder.patches.positions": ("decoder_latent_pe", "n d -> 1 n d"),
    "decoder.patches.transformer.types.latents": ("decoder_latent_token_type_embed", "d -> 1 1 d"),
    "decoder.patches.transformer.types.queries": ("decoder_patch_query_token_type_embed", "d -> 1 1 d"),
    "decoder.positions.table": ("decoder_patch_query_embed", "n d -> 1 n d"),
    "decoder.positions.times": ("decoder_t_embed", "n d -> 1 n 1 1 d"),
    "decoder.positions.rows": ("decoder_h_embed", "n d -> 1 1 n 1 d"),
    "decoder.positions.columns": ("decoder_w_embed", "n d -> 1 1 1 n d"),
    "transformer.positions": (f"{PRIOR}pos_emb", "n d -> 1 n d"),
}
_AXES = dict(_TABLES.values())
# Our part of a name, theirs.
_PARTS = (
    (r"^encoder\.embed\.linear\.", "x_embedder.proj."),
    (r"^encoder\.queries\.transformer\.layers\.", "encoder.blocks."),
    (r"^encoder\.queries\.project\.", "bottleneck.in_linear."),
    (r"^quantizer\.codebook$", "bottleneck.regularizer.embedding.weight"),
    (r"^quantizer\.inverse_temperature$", "bottleneck.regularizer.stochastic_temperature_inv"),
    (r"^decoder\.patches\.embed\.", "bottleneck.out_linear."),
    (r"^decoder\.patches\.transformer\.layers\.", "decoder.blocks."),
    (r"^decoder\.patches\.norm\.", "final_layer.norm_final."),
    (r"^decoder\.patches\.project\.", "final_layer.linear."),
    (r"\.attention_norm\.", ".norm1."),
    (r"\.mlp_norm\.", ".norm2."),
    (r"\.attention\.[qkv]\.", ".attn.qkv."),
    (r"\.attention\.out\.", ".attn.proj."),
    (r"\.mlp\.up\.", ".mlp.fc1."),
    (r"\.mlp\.down\.", ".mlp.fc2."),
)
_PRIOR_PARTS = (
    (r"^embed\.", f"{PRIOR}input_proj."),
    (r"^head\.", f"{PRIOR}head."),
    (r"^transformer\.norm\.", f"{PRIOR}ln_f."),
    (r"^transformer\.layers\.", f"{PRIOR}blocks."),
    (r"\.attention_norm\.", ".ln1."),
    (r"\.mlp_norm\.", ".ln2."),
    (r"\.attention\.q\.", ".attn.query."),
    (r"\.attention\.k\.", ".attn.key."),
    (r"\.attention\.v\.", ".attn.value."),
    (r"\.attention\.out\.", ".attn.proj."),
    (r"\.mlp\.up\.", ".mlp.0."),
    (r"\.mlp\.down\.", ".mlp.2."),
)


def released_name(name: str) -> str:
    """Return the released name of a tensor of a tokenizer; that of queries, keys and values is one."""
    return _TABLES[name][0] if name in _TABLES else foreign.renamed(name, _PARTS)


def prior_name(name: str) -> str:
    """Return the released name of a tensor of a `CodePrior`."""
    return _TABLES[name][0] if name in _TABLES else foreign.renamed(name, _PRIOR_PARTS)


def to_released(state: Mapping[str, Tensor], config: LARPConfig, *, is_prior: bool = False) -> dict[str, Tensor]:
    """Return the released tensors of ours, which may be on the meta device.

    Args:
        state: Tensors of a tokenizer, or of a prior, by our names.
        config: Of the tokenizer.
        is_prior: Whether they are of a prior.
    """
    parts: dict[str, list[Tensor]] = {}
    for ours, tensor in state.items():
        parts.setdefault(prior_name(ours) if is_prior else released_name(ours), []).append(tensor)
    # Queries, keys and values are there in this order, as the module has them.
    return {
        name: _to_released(name, torch.cat(both) if len(both) > 1 else both[0], config) for name, both in parts.items()
    }


def from_released(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, Tensor], config: LARPConfig, *, is_prior: bool = False
) -> dict[str, Tensor]:
    """Undo `to_released`.

    Args:
        tensors: Released tensors by their names.
        shapes: Ours, perhaps on the meta device.
        config: Of the tokenizer.
        is_prior: Whether they are of a prior.
    """
    made = {}
    for ours, shape in shapes.items():
        name = prior_name(ours) if is_prior else released_name(ours)
        tensor = tensors[name]
        if name == _PATCHES:
            tensor = tensor.view(len(tensor), 3, *config.patch)
            made[ours] = rearrange(tensor, "d c k i j -> d (k i j c)")
        elif name.endswith(_QKV):
            made[ours] = tensor.chunk(3)["qkv".index(ours.split(".")[-2])]
        else:
            made[ours] = tensor.reshape(shape.shape)
    return made


def _to_released(name: str, tensor: Tensor, config: LARPConfig) -> Tensor:
    if name == _PATCHES:
        times, rows, columns = config.patch
        made = rearrange(tensor, "d (k i j c) -> d c k i j", k=times, i=rows, j=columns).contiguous()
        return made[:, :, 0] if times == 1 else made
    return rearrange(tensor, _AXES[name]) if name in _AXES else tensor
