"""How Whisper names its tensors, as do the released files, whose encoder is Whisper's."""

from __future__ import annotations

__all__ = ["released_name"]

# Our part of a tensor's name, theirs. The first that fits, of each place in a name, counts.
_NAMES = (
    ("encoder.positions", "embed_positions.weight"),
    ("encoder.conv", "conv"),
    ("encoder.layers.", "layers."),
    (".attention_norm.", ".self_attn_layer_norm."),
    (".attention.q.", ".self_attn.q_proj."),
    (".attention.k.", ".self_attn.k_proj."),
    (".attention.v.", ".self_attn.v_proj."),
    (".attention.out.", ".self_attn.out_proj."),
    (".memory_norm.", ".encoder_attn_layer_norm."),
    (".memory.q.", ".encoder_attn.q_proj."),
    (".memory.k.", ".encoder_attn.k_proj."),
    (".memory.v.", ".encoder_attn.v_proj."),
    (".memory.out.", ".encoder_attn.out_proj."),
    (".mlp_norm.", ".final_layer_norm."),
    (".mlp.up.", ".fc1."),
    (".mlp.down.", ".fc2."),
    ("quantizer.out.", "quantizer.project_out."),
)


def released_name(name: str) -> str:
    """Return the name that a tensor of ours has there, without Whisper's `model.encoder.` and `model.decoder.`."""
    for ours, theirs in _NAMES:
        name = name.replace(ours, theirs, 1)
    return name
