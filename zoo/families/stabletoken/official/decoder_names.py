"""How the released files name the decoder's tensors."""

from __future__ import annotations

from zoo.checkpoint.foreign import renamed

__all__ = ["flow_name", "usual_name", "vocoder_name"]

# Our part of a tensor's name, theirs. All that fit are replaced, in this order.
_FLOW = (
    (r"^tokens\.", "input_embedding."),
    (r"^speaker\.", "spk_embed_affine_layer."),
    (r"^to_mel\.", "encoder_proj."),
    (r"^encoder\.project\.", "encoder.embed.out.0."),
    (r"^encoder\.project_norm\.", "encoder.embed.out.1."),
    (r"^encoder\.norm\.", "encoder.after_norm."),
    (r"^encoder\.blocks\.(\d+)\.attention_norm\.", r"encoder.encoders.\1.norm_mha."),
    (r"^encoder\.blocks\.(\d+)\.mlp_norm\.", r"encoder.encoders.\1.norm_ff."),
    (r"^encoder\.blocks\.(\d+)\.up\.", r"encoder.encoders.\1.feed_forward.w_1."),
    (r"^encoder\.blocks\.(\d+)\.down\.", r"encoder.encoders.\1.feed_forward.w_2."),
    (r"^encoder\.blocks\.(\d+)\.attention\.content_bias$", r"encoder.encoders.\1.self_attn.pos_bias_u"),
    (r"^encoder\.blocks\.(\d+)\.attention\.position_bias$", r"encoder.encoders.\1.self_attn.pos_bias_v"),
    (r"^encoder\.blocks\.(\d+)\.attention\.position\.", r"encoder.encoders.\1.self_attn.linear_pos."),
    (r"^encoder\.blocks\.(\d+)\.attention\.(q|k|v|out)\.", r"encoder.encoders.\1.self_attn.linear_\2."),
    (r"^regulator\.layers\.", "length_regulator.model."),
    (r"^velocity\.time_in\.", "velocity.time_mlp.linear_1."),
    (r"^velocity\.time_out\.", "velocity.time_mlp.linear_2."),
    (r"\.residual\.first\.conv\.", ".0.block1.block.0."),
    (r"\.residual\.first\.norm\.", ".0.block1.block.1."),
    (r"\.residual\.second\.conv\.", ".0.block2.block.0."),
    (r"\.residual\.second\.norm\.", ".0.block2.block.1."),
    (r"\.residual\.time\.", ".0.mlp.1."),
    (r"\.residual\.direct\.", ".0.res_conv."),
    (r"\.layers\.(\d+)\.attention_norm\.", r".1.\1.norm1."),
    (r"\.layers\.(\d+)\.(q|k|v)\.", r".1.\1.attn1.to_\2."),
    (r"\.layers\.(\d+)\.out\.", r".1.\1.attn1.to_out.0."),
    (r"\.layers\.(\d+)\.mlp_norm\.", r".1.\1.norm3."),
    (r"\.layers\.(\d+)\.up\.", r".1.\1.ff.net.0.proj."),
    (r"\.layers\.(\d+)\.down\.", r".1.\1.ff.net.2."),
    (r"^velocity\.down\.", "velocity.down_blocks."),
    (r"^velocity\.middle\.", "velocity.mid_blocks."),
    (r"^velocity\.up\.", "velocity.up_blocks."),
    (r"^velocity\.shrink\.(\d+)\.", r"velocity.down_blocks.\1.2.conv."),
    (r"^velocity\.stretch\.(\d+)\.", r"velocity.up_blocks.\1.2.conv."),
    (r"^velocity\.down_smooth\.", "velocity.down_blocks.LAST.2."),
    (r"^velocity\.up_smooth\.", "velocity.up_blocks.LAST.2."),
    (r"^velocity\.final\.conv\.", "velocity.final_block.block.0."),
    (r"^velocity\.final\.norm\.", "velocity.final_block.block.1."),
    (r"^velocity\.out\.", "velocity.final_proj."),
    (r"^velocity\.", "decoder.estimator."),
)
_VOCODER = (
    (r"^pre\.", "pre_conv."),
    (r"^post\.", "post_conv."),
    (r"^pitch\.layers\.", "f0_predictor.condnet."),
    (r"^pitch\.out\.", "f0_predictor.classifier."),
    (r"^source\.merge\.", "source.l_linear."),
    (r"^source_blocks\.", "source_resblocks."),
    (r"^blocks\.", "resblocks."),
    (r"\.first\.", ".conv1."),
    (r"\.second\.", ".conv2."),
    (r"\.first_snake\.", ".activations1."),
    (r"\.second_snake\.", ".activations2."),
    (r"\.gain$", ".weight_g"),
    (r"\.direction$", ".weight_v"),
)
# Other spellings of vocoders in HiFi-GAN's line (Kong et al., arXiv 2010.05646), and of torch's newer weight norm.
_SPELLINGS = (
    (r"^conv_(pre|post)\.", r"\1_conv."),
    (r"^m_source\.", "source."),
    (r"\.convs(1|2)\.", r".conv\1."),
    (r"\.parametrizations\.weight\.original0$", ".weight_g"),
    (r"\.parametrizations\.weight\.original1$", ".weight_v"),
)


def flow_name(name: str, num_levels: int) -> str:
    """Return how `flow.pt` names a tensor of our `MelFlow`, whose U-Net has that many levels."""
    return renamed(name, _FLOW).replace(".LAST.", f".{num_levels - 1}.")


def vocoder_name(name: str) -> str:
    """Return how `hift.pt` names a tensor of our `Vocoder`."""
    return renamed(name, _VOCODER)


def usual_name(name: str) -> str:
    """Return the name in a file's `hift.pt` as `vocoder_name` spells it."""
    return renamed(name, _SPELLINGS)
