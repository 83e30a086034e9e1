"""Small random models in LARP's released layout: config, tensors, folders."""

import json
import math
from dataclasses import dataclass

import torch
from larp_plain import table_1d, table_3d
from safetensors.torch import save_file


@dataclass(frozen=True)
class Sizes:
    """What a released model can differ in; widths and depths are small."""

    frames: int = 8
    side: int = 16
    temporal: int = 2
    patch: int = 8
    encoder: tuple[int, int, int] = (2, 24, 3)  # depth, width, heads
    decoder: tuple[int, int, int] = (1, 16, 2)
    tokens: int = 10
    codes: int = 48
    dim: int = 6
    base: float = 10000.0
    stochastic: bool = True
    normalized: bool = True
    temperature: float = 0.03
    learned_encoder_patch_pe: bool = False
    learned_encoder_latent_query_embed: bool = True
    learned_decoder_latent_pe: bool = False
    learned_decoder_patch_query_embed: bool = False
    use_encoder_patch_token_type_embed: bool = False
    use_encoder_latent_query_token_type_embed: bool = False
    use_decoder_latent_token_type_embed: bool = False
    use_decoder_patch_query_token_type_embed: bool = True
    prior: tuple[int, int, int] | None = None  # width, layers, positions

    @property
    def grid(self):
        return self.frames // self.temporal, self.side // self.patch, self.side // self.patch


TINY = Sizes()
L_LONG = Sizes(16, 128, 4, 8, (12, 768, 12), (12, 768, 12), 1024, 8192, 16)


def config(sizes=TINY):
    """Return the config that `PyTorchModelHubMixin` writes, its keys sorted."""
    s = sizes
    quantizer = {
        "codebook_size": s.codes,
        "commitment_loss_weight": 0.25,
        "codebook_loss_weight": 1.0,
        "entropy_loss_weight": 0.0,
        "entropy_loss_temperature": 0.01,
        "l2_normalized": s.normalized,
        "stochastic": s.stochastic,
        "stochastic_temperature": s.temperature,
    }
    bottleneck = {"bottleneck_dim": s.dim, "norm": "none", "regularizer": {"name": "vq", "args": quantizer}}
    prior = {
        "name": "gptc-S" if s.prior is None or s.prior[0] == 384 else "gptc-XXS",
        "use_mix_ss": True,
        "mix_ss_max_ratio": 0.5,
        "mix_ss_peak_steps_ratio": 0.3,
        "n_rounds": 2,
        "avg_loss_over_rounds": True,
        "no_grad_before_last_round": False,
        "no_dropout": False,
        "latent_ce_temperature": 1.0,
        "args": {"l2_normalized": True},
    }
    options = {name: getattr(s, name) for name in vars(s) if name.startswith(("learned_", "use_"))}
    values = {
        "bottleneck": {"name": "bottleneck", "args": bottleneck},
        "prior_model": prior,
        "bottleneck_token_num": s.tokens,
        "input_size": s.side,
        "frame_num": s.frames,
        "temporal_patch_size": s.temporal,
        "patch_size": s.patch,
        "decoder_temporal_patch_size": s.temporal,
        "decoder_patch_size": s.patch,
        "in_channels": 3,
        "transformer_name": "transformer_encoder_parallel",
        "encoder_name": "none",
        "decoder_name": "none",
        "latent_pe_scale_factor": int(s.base),
        "query_init_std": 0.02,
        "encoder_query_gaussian_init": True,
        "encoder_hidden_size": s.encoder[1],
        "encoder_num_heads": s.encoder[2],
        "encoder_depth": s.encoder[0],
        "decoder_hidden_size": s.decoder[1],
        "decoder_num_heads": s.decoder[2],
        "decoder_depth": s.decoder[0],
        **options,
    }
    return dict(sorted(values.items()))


def shapes(sizes=TINY):
    """Return the shape of each tensor by its released name."""
    s, (t, h, w), found = sizes, sizes.grid, {}
    (_, e, _), (_, d, _) = s.encoder, s.decoder

    def linear(name, rows, columns, bias=True):
        found[f"{name}.weight"] = (rows, columns)
        if bias:
            found[f"{name}.bias"] = (rows,)

    def vectors(name, width):
        found[f"{name}.weight"] = found[f"{name}.bias"] = (width,)

    def axes(names, width):
        found.update(zip(names, [(1, t, 1, 1, width), (1, 1, h, 1, width), (1, 1, 1, w, width)], strict=True))

    kernel = (s.patch, s.patch) if s.temporal == 1 else (s.temporal, s.patch, s.patch)
    found["x_embedder.proj.weight"], found["x_embedder.proj.bias"] = (e, 3, *kernel), (e,)
    found["encoder_latent_query_embed"] = (s.tokens, e)
    if s.learned_encoder_patch_pe:
        axes(("encoder_t_embed", "encoder_h_embed", "encode_w_embed"), e)
    else:
        found["encoder_patch_pe"] = (1, t * h * w, e)
    found["decoder_latent_pe"] = (1, s.tokens, d)
    if s.learned_decoder_patch_query_embed:
        axes(("decoder_t_embed", "decoder_h_embed", "decoder_w_embed"), d)
    else:
        found["decoder_patch_query_embed"] = (1, t * h * w, d)
    for name, width in (
        ("encoder_patch_token_type_embed", e),
        ("encoder_latent_query_token_type_embed", e),
        ("decoder_latent_token_type_embed", d),
        ("decoder_patch_query_token_type_embed", d),
    ):
        if getattr(s, f"use_{name}"):
            found[name] = (1, 1, width)
    for half, (depth, width, _) in (("encoder", s.encoder), ("decoder", s.decoder)):
        for i in range(depth):
            block = f"{half}.blocks.{i}"
            vectors(f"{block}.norm1", width)
            vectors(f"{block}.norm2", width)
            linear(f"{block}.attn.qkv", 3 * width, width, bias=False)
            linear(f"{block}.attn.proj", width, width)
            linear(f"{block}.mlp.fc1", 4 * width, width)
            linear(f"{block}.mlp.fc2", width, 4 * width)
    linear("bottleneck.in_linear", s.dim, e)
    linear("bottleneck.out_linear", d, s.dim)
    found["bottleneck.regularizer.embedding.weight"] = (s.codes, s.dim)
    if s.stochastic and s.temperature <= 0:
        found["bottleneck.regularizer.stochastic_temperature_inv"] = ()
    vectors("final_layer.norm_final", d)
    linear("final_layer.linear", 3 * s.temporal * s.patch**2, d)
    if s.prior is not None:
        width, layers, positions = s.prior
        linear("prior_model.input_proj", width, s.dim)
        linear("prior_model.head", s.dim, width)
        found["prior_model.pos_emb"] = (1, positions, width)
        vectors("prior_model.ln_f", width)
        for i in range(layers):
            block = f"prior_model.blocks.{i}"
            vectors(f"{block}.ln1", width)
            vectors(f"{block}.ln2", width)
            for part in ("key", "query", "value", "proj"):
                linear(f"{block}.attn.{part}", width, width)
            linear(f"{block}.mlp.0", 4 * width, width)
            linear(f"{block}.mlp.2", width, 4 * width)
    return found


def tensors(sizes=TINY, seed=0):
    """Return random tensors by released names; nothing is zero, so that every part matters."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes(sizes).items():
        draw = torch.randn(shape, generator=generator)
        # Near the fixed tables, and not them: the stored ones count.
        if name in ("encoder_patch_pe", "decoder_patch_query_embed"):
            made[name] = table_3d(*sizes.grid, shape[-1])[None] + 0.1 * draw
        elif name == "decoder_latent_pe":
            made[name] = table_1d(shape[1], shape[2], sizes.base)[None] + 0.1 * draw
        elif name.endswith(".bias"):
            made[name] = 0.1 * draw
        elif "norm" in name or ".ln" in name:
            made[name] = 1 + 0.1 * draw
        elif name.endswith(".weight") and len(shape) > 1 and "embedding" not in name:
            # Attention that is not the same for all, so that clips matter to ids.
            made[name] = (3 if ".attn." in name else 1) * draw / math.prod(shape[1:]) ** 0.5
        elif name == "encoder_latent_query_embed":
            made[name] = draw
        elif not shape:
            made[name] = torch.tensor(10.0)
        else:
            made[name] = 0.5 * draw
    return made


def write(folder, values=None, state=None):
    """Write a released folder; a tiny model's if nothing else is given."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config() if values is None else values, indent=2))
    save_file(tensors() if state is None else state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def clips(count=3, sizes=TINY, seed=1, frames=None):
    """Return random clips (B, 3, T, S, S) in 0…1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, frames or sizes.frames, sizes.side, sizes.side, generator=generator)
