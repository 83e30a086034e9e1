"""Small random models in FlexTok's released layout: config, tensors, folders."""

import json
import math
from dataclasses import dataclass

import torch
from flextok_plain import DECODER, ENCODER, VAE, sincos_table
from safetensors.torch import save_file

MODEL = "flextok.model."


@dataclass(frozen=True)
class Sizes:
    """What a released model can differ in; every default but the VAE's channels and the depths is small."""

    encoder_width: int = 32
    encoder_depth: int = 2
    decoder_width: int = 48
    decoder_depth: int = 2
    head_dim: int = 16
    side: int = 4
    registers: int = 16
    channels: int = 4
    levels: tuple[int, ...] = (8, 8, 8, 5, 5, 5)
    vae_channels: tuple[int, ...] = (64, 96)  # several a group of the norms, which would cancel biases
    vae_layers: int = 1
    max_timestep: float = 1000.0
    scaling_factor: float = 0.7

    @property
    def image_size(self):
        return self.side * 2 << len(self.vae_channels) - 1


TINY = Sizes()
D12_D12 = Sizes(768, 12, 768, 12, 64, 16, 256, 16, vae_channels=(128, 256, 512, 512), vae_layers=2)
D18_D18 = Sizes(1152, 18, 1152, 18, 64, 16, 256, 16, vae_channels=(128, 256, 512, 512), vae_layers=2)
D18_D28 = Sizes(1152, 18, 1792, 28, 64, 16, 256, 16, vae_channels=(128, 256, 512, 512), vae_layers=2)


def hidden(width):
    """Return the width inside the gated MLP."""
    return int(2 * int(4 * width) / 3)


def config(sizes=TINY):
    """Return a config in working order."""
    s = sizes
    grid = [s.side, s.side]

    def channels(which):
        op = {"_target_": f"{MODEL}utils.dict_ops.{which}", "_partial_": True}
        return {
            "_target_": f"{MODEL}utils.dict_ops.PerSampleOp",
            "read_key": "x",
            "write_key": "x",
            "per_sample_op": op,
        }

    def module(path, **values):
        return {"_target_": MODEL + path, **values}

    def trunk(width, depth, **values):
        return module("trunks.transformers.FlexTransformer", dim=width, depth=depth, head_dim=s.head_dim, **values)

    def sincos():
        return module(
            "utils.posembs.PositionalEmbeddingAdder", posemb_type="sincos", max_sizes=grid, posemb_scaling="absolute"
        )

    def patches(width):
        return module("preprocessors.patching.PatchEmbedder", dim=width, patch_sizes=[2, 2], flatten_patches=False)

    encoder = {
        "enc_channels_to_last": channels("channels_first_to_last"),
        "enc_patch_emb": patches(s.encoder_width),
        "enc_posemb_module": sincos(),
        "enc_register_module": module(
            "preprocessors.registers.Registers1D", n_min=s.registers, n_max=s.registers, ordering="nested"
        ),
        "enc_seq_packer": module(
            "preprocessors.flex_seq_packing.BlockWiseSequencePacker", mask_mode="causal_last", pad_to_multiple=128
        ),
        "enc_transformer": trunk(s.encoder_width, s.encoder_depth, use_act_checkpoint=True),
        "enc_unpacker": module("postprocessors.seq_unpacking.SequenceUnpacker"),
        "enc_to_latents": module("postprocessors.heads.LinearHead", use_mup_readout=False),
    }
    decoder = {
        "dec_from_latents": module("preprocessors.linear.LinearLayer"),
        "dec_registers_posemb_module": module(
            "utils.posembs.PositionalEmbeddingAdder", posemb_type="learnable_sum", max_sizes=[s.registers]
        ),
        "dec_nested_dropout": module(
            "preprocessors.token_dropout.MaskedNestedDropout", size_sampling_mode="pow2", eval_keep_k_read_key="k"
        ),
        "dec_latent_dropout": module("preprocessors.nullcond.LearnedNullCond", dropout_prob=0.1),
        "dec_noise_channels_to_last": channels("channels_first_to_last"),
        "dec_noise_patch_emb": patches(s.decoder_width),
        "dec_patches_posemb_module": sincos(),
        "dec_seq_packer": module(
            "preprocessors.flex_seq_packing.BlockWiseSequencePacker",
            mask_mode="full",
            pad_to_multiple=128,
            per_subseq_embs=True,
        ),
        "dec_time_embedder": module(
            "preprocessors.time_embedding.TimestepEmbedder",
            max_timestep=s.max_timestep,
            frequency_embedding_size=256,
        ),
        "dec_transformer": trunk(s.decoder_width, s.decoder_depth, adaLN_expansion=2, intermediate_layers=[1]),
        "dec_unpacker": module("postprocessors.seq_unpacking.SequenceUnpacker"),
        "dec_repa_unpacker": module("postprocessors.seq_unpacking.SequenceUnpacker"),
        "dec_to_patches": module("postprocessors.heads.ToPatchesLinearHead", use_mup_readout=False),
        "dec_channels_to_first": channels("channels_last_to_first"),
    }
    wrapper = f"{MODEL}utils.wrappers.SequentialModuleDictWrapper"
    return {
        "vae": {
            "_target_": "flextok.vae_wrapper.StableDiffusionVAE",
            "latent_channels": s.channels,
            "scaling_factor": s.scaling_factor,
            "sample_posterior": True,
            "hf_hub_path": None,
            "dtype_override": "fp32",
            "frozen": True,
        },
        "encoder": {"_target_": wrapper, "module_dict": encoder},
        "decoder": {"_target_": wrapper, "module_dict": decoder},
        "regularizer": {"_target_": "flextok.regularizers.quantize_fsq.FSQ", "levels": list(s.levels)},
        "flow_matching_noise_module": {
            "_target_": "flextok.flow_matching.noise_modules.MinRFNoiseModule",
            "ln": False,
            "stratisfied": False,
            "mode_scale": 0.25,
        },
        "pipeline": {"_target_": "flextok.flow_matching.pipelines.MinRFPipeline", "_partial_": True},
    }


def shapes(sizes=TINY):
    """Return the shape of each tensor by its released name."""
    s, e, d = sizes, sizes.encoder_width, sizes.decoder_width
    cell, dim, grid = 4 * s.channels, len(s.levels), (s.side, s.side)
    found = {}

    def linear(name, rows, columns, bias=True):
        found[f"{name}.weight"] = (rows, columns)
        if bias:
            found[f"{name}.bias"] = (rows,)

    def trunk(name, width, depth, is_modulated):
        for i in range(depth):
            block = f"{name}.blocks.{i}"
            for part in ("wq", "wk", "wv", "proj"):
                linear(f"{block}.attn.{part}", width, width, bias=False)
            for part in ("fc1", "fc3"):
                linear(f"{block}.mlp.{part}", hidden(width), width, bias=False)
            linear(f"{block}.mlp.fc2", width, hidden(width), bias=False)
            if is_modulated:
                linear(f"{block}.adaLN_modulation.1", 12 * width, width)

    linear(f"{ENCODER}enc_patch_emb.patch_proj", e, cell)
    found[f"{ENCODER}enc_posemb_module.posembs"] = (1, e, *grid)
    found[f"{ENCODER}enc_register_module.registers"] = (s.registers, e)
    trunk(f"{ENCODER}enc_transformer", e, s.encoder_depth, False)
    linear(f"{ENCODER}enc_to_latents.proj", dim, e)
    linear(f"{DECODER}dec_from_latents.proj", d, dim)
    found[f"{DECODER}dec_registers_posemb_module.posembs"] = (1, 1, d, s.registers)
    found[f"{DECODER}dec_nested_dropout.dropout_mask_token"] = (d,)
    found[f"{DECODER}dec_latent_dropout.nullcond"] = (d,)
    linear(f"{DECODER}dec_noise_patch_emb.patch_proj", d, cell)
    found[f"{DECODER}dec_patches_posemb_module.posembs"] = (1, d, *grid)
    linear(f"{DECODER}dec_time_embedder.mlp.0", d, 256)
    linear(f"{DECODER}dec_time_embedder.mlp.2", d, d)
    trunk(f"{DECODER}dec_transformer", d, s.decoder_depth, True)
    linear(f"{DECODER}dec_to_patches.adaLN_modulation.1", 2 * d, d)
    linear(f"{DECODER}dec_to_patches.proj", cell, d)
    return found | {VAE + name: shape for name, shape in vae_shapes(sizes).items()}


def vae_shapes(sizes=TINY):
    """Return the shape of each tensor of diffusers' `AutoencoderKL`."""
    widths, latent = sizes.vae_channels, sizes.channels
    found = {}

    def conv(name, outputs, inputs, kernel=3):
        found[f"{name}.weight"], found[f"{name}.bias"] = (outputs, inputs, kernel, kernel), (outputs,)

    def vectors(name, *shape):
        found[f"{name}.weight"], found[f"{name}.bias"] = shape, shape[:1]

    def resnet(name, inputs, outputs):
        vectors(f"{name}.norm1", inputs)
        conv(f"{name}.conv1", outputs, inputs)
        vectors(f"{name}.norm2", outputs)
        conv(f"{name}.conv2", outputs, outputs)
        if inputs != outputs:
            conv(f"{name}.conv_shortcut", outputs, inputs, 1)

    def half(name, first, last, widths, layers, blocks, change):
        conv(f"{name}.conv_in", widths[0], first)
        inputs = widths[0]
        for stage, width in enumerate(widths):
            for layer in range(layers):
                resnet(f"{name}.{blocks}.{stage}.resnets.{layer}", inputs, width)
                inputs = width
            if stage < len(widths) - 1:
                conv(f"{name}.{blocks}.{stage}.{change}.0.conv", width, width)
        middle = f"{name}.mid_block"
        width = widths[-1] if change == "downsamplers" else widths[0]
        vectors(f"{middle}.attentions.0.group_norm", width)
        for part in ("to_q", "to_k", "to_v", "to_out.0"):
            vectors(f"{middle}.attentions.0.{part}", width, width)
        for layer in range(2):
            resnet(f"{middle}.resnets.{layer}", width, width)
        vectors(f"{name}.conv_norm_out", widths[-1])
        conv(f"{name}.conv_out", last, widths[-1])

    half("encoder", 3, 2 * latent, widths, sizes.vae_layers, "down_blocks", "downsamplers")
    half("decoder", latent, 3, widths[::-1], sizes.vae_layers + 1, "up_blocks", "upsamplers")
    conv("quant_conv", 2 * latent, 2 * latent, 1)
    conv("post_quant_conv", latent, latent, 1)
    return found


def tensors(sizes=TINY, seed=0):
    """Return random tensors by released names; nothing is zero, so that every part matters."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes(sizes).items():
        draw = torch.randn(shape, generator=generator)
        if name.endswith(("enc_posemb_module.posembs", "dec_patches_posemb_module.posembs")):
            # Near the fixed table, and not it: the stored one counts.
            made[name] = sincos_table(shape[1], *shape[2:])[None] + 0.05 * draw
        elif name.endswith(".bias"):
            made[name] = 0.1 * draw
        elif "norm" in name:
            made[name] = 1 + 0.1 * draw
        elif len(shape) > 1 and name.endswith(".weight"):
            made[name] = draw / math.prod(shape[1:]) ** 0.5
        else:
            made[name] = 0.5 * draw
    return made


def in_sorted_order(values):
    """Return nested dictionaries with their keys sorted, as the official `save_pretrained` writes them."""
    if not isinstance(values, dict):
        return values
    return {key: in_sorted_order(values[key]) for key in sorted(values)}


def write(folder, values=None, state=None):
    """Write a released folder, `config.json` and `model.safetensors`; a tiny model's if nothing else is given."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config() if values is None else values, indent=2))
    save_file(tensors() if state is None else state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_single(folder, values=None, state=None):
    """Write the form of a single file, whose metadata hold each entry of the config as Python's `str` has it."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {key: str(value) for key, value in (config() if values is None else values).items()}
    metadata["_target_"] = "flextok.flextok_wrapper.FlexTok"
    save_file(tensors() if state is None else state, folder / "model.safetensors", metadata=metadata)
    return folder


def images(count=3, sizes=TINY, seed=1):
    """Return smooth random images (B, 3, S, S) in 0…1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    side = sizes.image_size
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")


def noise(count=3, sizes=TINY, seed=2):
    """Return noise for the decoder, (B, C, h, w)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, sizes.channels, 2 * sizes.side, 2 * sizes.side, generator=generator)
