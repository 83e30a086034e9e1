"""Released tensors: what they are called, and the few that are laid out in another way.

Two of ours differ: what attention of the encoder maps by is a 1×1 convolution there, and both halves of a gated MLP are
one map, the value's rows before the gate's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from zoo.checkpoint import foreign
from zoo.errors import CheckpointError

__all__ = ["DECODER", "ENCODER", "our_tensors", "released_tensors", "vae_prefix", "vae_unused"]

ENCODER, DECODER = "encoder.", "decoder."
"""How names of tensors begin."""

# Our part of a name, theirs; each place is replaced where it fits.
_ENCODER = (
    (r"^encoder\.conv\.", ENCODER),
    (r"\.down_blocks\.(\d+)\.resnets\.", r".down.\1.block."),
    (r"\.down_blocks\.(\d+)\.downsamplers\.0\.", r".down.\1.downsample."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.group_norm\.", ".mid.attn_1.norm."),
    (r"\.mid_block\.attentions\.0\.to_([qkv])\.", r".mid.attn_1.\1."),
    (r"\.mid_block\.attentions\.0\.to_out\.0\.", ".mid.attn_1.proj_out."),
    (r"\.conv_norm_out\.", ".norm_out."),
    (r"\.quant_conv\.", ".out_proj."),
)
_DECODER = (
    (r"^decoder\.unet\.", DECODER),
    (r"^decoder\.time\.0\.", "decoder.time_embedding.linear_1."),
    (r"^decoder\.time\.2\.", "decoder.time_embedding.linear_2."),
    (r"^decoder\.context\.", "decoder.ada_ctx_proj."),
    (r"^decoder\.(down|up)\.(\d+)\.blocks\.", r"decoder.\1_blocks.\2.resnets."),
    (r"^decoder\.down\.(\d+)\.resize\.", r"decoder.down_blocks.\1.downsamplers.0."),
    (r"^decoder\.up\.(\d+)\.resize\.", r"decoder.up_blocks.\1.upsamplers.0."),
    (r"\.norm1\.projection\.", ".norm1.ctx_proj."),
    (r"\.norm2\.projection\.1\.", ".time_emb_proj."),
    (r"\.norm2\.norm\.", ".norm2."),
    (r"^decoder\.middle\.layers\.(\d+)\.", r"decoder.mid_block.transformer_blocks.\1."),
    (r"^decoder\.middle\.", "decoder.mid_block."),
    (r"\.block\.modulation\.linear\.", ".norm1.linear."),
    (r"\.block\.attention\.([qkv])\.", r".attn1.to_\1."),
    (r"\.block\.attention\.out\.", ".attn1.out_proj."),
    (r"\.block\.mlp_norm\.", ".norm2."),
    (r"\.block\.mlp\.down\.", ".ff.proj_out."),
    (r"\.bias\.table$", ".relative_position_bias.relative_bias_table"),
    (r"^decoder\.norm_out\.", "decoder.conv_norm_out."),
)
_GATED = re.compile(r"^(decoder\.mid_block\.transformer_blocks\.\d+)\.block\.mlp\.(up|gate)\.(weight|bias)$")
_CONVOLVED = re.compile(r"^encoder\.mid\.attn_1\.(q|k|v|proj_out)\.weight$")


def released_tensors(state: Mapping[str, Tensor], vae: str | None = None) -> dict[str, Tensor]:
    """Return tensors of ours under their released names and in their released layout, perhaps on the meta device.

    Args:
        state: Tensors of a tokenizer, by our names.
        vae: How names of an encoder begin that is Stable Diffusion's, in diffusers' names; None if it is the authors'.
    """
    made: dict[str, Tensor] = {}
    halves: dict[str, dict[str, Tensor]] = {}
    for ours, tensor in state.items():
        name = _name(ours, vae)
        if found := _GATED.match(name):
            halves.setdefault(f"{found[1]}.ff.proj_in_act.proj.{found[3]}", {})[found[2]] = tensor
        else:
            made[name] = tensor[:, :, None, None] if _CONVOLVED.match(name) else tensor
    return made | {name: torch.cat([both["up"], both["gate"]]) for name, both in halves.items()}


def our_tensors(released: Mapping[str, Tensor], names: Iterable[str], vae: str | None = None) -> dict[str, Tensor]:
    """Undo `released_tensors`.

    Args:
        released: Tensors by released name.
        names: Ours, of which all must be made.
        vae: As of `released_tensors`.
    """
    made = {}
    for ours in names:
        name = _name(ours, vae)
        if found := _GATED.match(name):
            halves = released[f"{found[1]}.ff.proj_in_act.proj.{found[3]}"].chunk(2)
            made[ours] = halves[0 if found[2] == "up" else 1]
        else:
            made[ours] = released[name][:, :, 0, 0] if _CONVOLVED.match(name) else released[name]
    return made


def vae_prefix(names: Iterable[str]) -> str | None:
    """Return how names of Stable Diffusion's autoencoder begin in a file that has it in diffusers' names, or None.

    Raises:
        CheckpointError: There are two.
    """
    mark = "encoder.conv_norm_out.weight"
    found = sorted({name.removesuffix(mark) for name in names if name.endswith(mark)})
    if len(found) > 1:
        raise CheckpointError(f"there are encoders at {found[0]!r} and at {found[1]!r}; which is meant is not guessed.")
    return found[0] if found else None


def vae_unused(vae: str) -> tuple[str, ...]:
    """Return how names begin of what such an autoencoder has beside its encoder."""
    return f"{vae}decoder.", f"{vae}post_quant_conv."


def _name(ours: str, vae: str | None) -> str:
    if not ours.startswith(ENCODER):
        return foreign.renamed(ours, _DECODER)
    if vae is None:
        return foreign.renamed(ours, _ENCODER)
    inner = ours.removeprefix("encoder.conv.")
    return vae + (inner if inner.startswith("quant_conv.") else f"encoder.{inner}")
