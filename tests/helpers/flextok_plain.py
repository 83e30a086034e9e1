"""A plain second implementation of FlexTok, from its formulas, on released tensors and the released config.

Nothing of the library is imported. Modules run one after another as the released layout lists them, on whole batches.
"""

import torch
import torch.nn.functional as F

ENCODER, DECODER, VAE = "encoder.module_dict.", "decoder.module_dict.", "vae.vae."
# How 6w of adaLN's rows are cut, which is not DiT's order.
PARTS = ("gate_attn", "gate_mlp", "shift_attn", "scale_attn", "shift_mlp", "scale_mlp")


# ------------------------------------------------------------------------------------------------------ the arithmetic


def sincos_table(width, rows, columns):
    """Return the fixed table (width, rows, columns): sin and cos of the row, then sin and cos of the column."""
    rates = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    i = (torch.arange(rows)[:, None] * rates).T[:, :, None].expand(-1, rows, columns)
    j = (torch.arange(columns)[:, None] * rates).T[:, None].expand(-1, rows, columns)
    return torch.cat([i.sin(), i.cos(), j.sin(), j.cos()]).float()


def time_features(t, max_timestep, size=256):
    """Return (B, size) of times (B,): cosines, then sines, the longest period being 256."""
    half = size // 2
    rates = (1000 / max_timestep) * 256.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = t[:, None].float() * rates.float().to(t.device)
    return torch.cat([angles.cos(), angles.sin()], 1)


def fsq_bounded(z, levels):
    """Return what is rounded, for z (..., D)."""
    size = torch.tensor(levels, dtype=torch.float32, device=z.device)
    h, offset = (size - 1) * 1.001 / 2, torch.where(size % 2 == 0, 0.5, 0.0)
    return (z + torch.atanh(offset / h)).tanh() * h - offset


def fsq(z, levels):
    """Return code vectors (..., D) and ids (...) of z (..., D)."""
    code = fsq_bounded(z, levels).round()
    half = torch.tensor(levels, device=z.device) // 2
    return code / half, ((code.long() + half) * _basis(levels, z.device)).sum(-1)


def fsq_codes(ids, levels):
    """Return code vectors (..., D) of ids (...)."""
    size = torch.tensor(levels, device=ids.device)
    return ((ids[..., None] // _basis(levels, ids.device)) % size - size // 2).float() / (size // 2)


def _basis(levels, device):
    return torch.tensor([1, *levels[:-1]], device=device).cumprod(0)


def apg(condition, null, scale, running, momentum=-0.5, threshold=2.5, eta=0.0):
    """Return the guided velocity (B, C, H, W), and what the next step is told."""
    running = condition - null + momentum * running
    d = running * (threshold / running.flatten(1).norm(dim=1).clamp(min=1e-12)).clamp(max=1).view(-1, 1, 1, 1)
    d64, unit = d.double().flatten(1), F.normalize(condition.double().flatten(1), dim=1)
    parallel = (d64 * unit).sum(1, keepdim=True) * unit
    update = (d64 - parallel + eta * parallel).view_as(condition).to(condition.dtype)
    return condition + (scale - 1) * update, running


# ------------------------------------------------------------------------------------------- diffusers' AutoencoderKL


def _conv(w, name, x, **options):
    return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **options)


def _linear(w, name, x):
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def _group_norm(w, name, x):
    return F.group_norm(x, 32, w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-6)


def _resnet(w, name, x):
    y = _conv(w, f"{name}.conv1", F.silu(_group_norm(w, f"{name}.norm1", x)), padding=1)
    y = _conv(w, f"{name}.conv2", F.silu(_group_norm(w, f"{name}.norm2", y)), padding=1)
    return y + (_conv(w, f"{name}.conv_shortcut", x) if f"{name}.conv_shortcut.weight" in w else x)


def _middle(w, name, x):
    x = _resnet(w, f"{name}.resnets.0", x)
    at = f"{name}.attentions.0"
    rows = _group_norm(w, f"{at}.group_norm", x).flatten(2).mT
    q, k, v = (_linear(w, f"{at}.to_{part}", rows) for part in "qkv")
    mixed = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
    x = x + _linear(w, f"{at}.to_out.0", mixed).mT.view_as(x)
    return _resnet(w, f"{name}.resnets.1", x)


def _stages(w, name, x, change):
    stage = 0
    while f"{name}.{stage}.resnets.0.conv1.weight" in w:
        layer = 0
        while f"{name}.{stage}.resnets.{layer}.conv1.weight" in w:
            x = _resnet(w, f"{name}.{stage}.resnets.{layer}", x)
            layer += 1
        x = change(f"{name}.{stage}", x)
        stage += 1
    return x


def vae_encode(w, images):
    """Return the mean of the posterior (B, C, h, w) of images (B, 3, H, W) in -1…1; `w` has diffusers' names."""

    def halve(name, x):
        key = f"{name}.downsamplers.0.conv"
        return _conv(w, key, F.pad(x, (0, 1, 0, 1)), stride=2) if f"{key}.weight" in w else x

    x = _stages(w, "encoder.down_blocks", _conv(w, "encoder.conv_in", images, padding=1), halve)
    x = F.silu(_group_norm(w, "encoder.conv_norm_out", _middle(w, "encoder.mid_block", x)))
    return _conv(w, "quant_conv", _conv(w, "encoder.conv_out", x, padding=1)).chunk(2, 1)[0]


def vae_decode(w, latents):
    """Return images (B, 3, H, W), about -1…1, of latents (B, C, h, w)."""

    def double(name, x):
        key = f"{name}.upsamplers.0.conv"
        if f"{key}.weight" not in w:
            return x
        return _conv(w, key, x.repeat_interleave(2, 2).repeat_interleave(2, 3), padding=1)

    x = _conv(w, "decoder.conv_in", _conv(w, "post_quant_conv", latents), padding=1)
    x = _stages(w, "decoder.up_blocks", _middle(w, "decoder.mid_block", x), double)
    return _conv(w, "decoder.conv_out", F.silu(_group_norm(w, "decoder.conv_norm_out", x)), padding=1)


# ------------------------------------------------------------------------------------------------------------ FlexTok


class Plain:
    """FlexTok on a released state dict, evaluated module by module.

    Args:
        config: What `config.json` holds.
        tensors: By released names.
    """

    def __init__(self, config, tensors):
        self.w = tensors
        self.vae = {name.removeprefix(VAE): tensor for name, tensor in tensors.items() if name.startswith(VAE)}
        enc, dec = config["encoder"]["module_dict"], config["decoder"]["module_dict"]
        self.levels = config["regularizer"]["levels"]
        self.scale = config["vae"]["scaling_factor"]
        self.max_timestep = dec["dec_time_embedder"].get("max_timestep", 1000.0)
        self.heads = {
            ENCODER: enc["enc_transformer"].get("head_dim", 64),
            DECODER: dec["dec_transformer"].get("head_dim", 64),
        }

    # -------------------------------------------------------------------------------------------------------- parts

    def patches(self, name, latents):
        """Return 2 × 2 patches (B, N, w) of latents (B, C, h, w), channels fastest, embedded."""
        b, c, h, w = latents.shape
        cut = latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1)
        return _linear(self.w, f"{name}.patch_proj", cut.reshape(b, -1, 4 * c))

    def positions(self, name, grid):
        """Return the stored table cropped to a grid (1, N, w); learned rows and columns are added."""
        table = self.w[f"{name}.posembs"]
        if table.shape[0] == 2:
            table = table[:1, 0, :, :, None] + table[1:, 0, :, None, :]
        return table[:, :, : grid[0], : grid[1]].flatten(2).mT

    def block(self, half, i, x, mask=None, time=None, num_patches=None):
        name = f"{half}{'enc' if half == ENCODER else 'dec'}_transformer.blocks.{i}"
        width, size = x.shape[-1], self.heads[half]
        parts = {}
        if time is not None:
            rows = _linear(self.w, f"{name}.adaLN_modulation.1", F.silu(time))[:, None]
            patches, registers = (part.chunk(6, -1) for part in rows.chunk(2, -1))
            count = x.shape[1] - num_patches
            parts = {
                key: torch.cat([a.expand(-1, num_patches, -1), b.expand(-1, count, -1)], 1)
                for key, a, b in zip(PARTS, patches, registers, strict=True)
            }

        def add(x, branch, kind):
            rows = F.layer_norm(x, (width,))
            if parts:
                rows = rows * (1 + parts[f"scale_{kind}"]) + parts[f"shift_{kind}"]
            return x + branch(rows) * (parts[f"gate_{kind}"] if parts else 1)

        def attention(rows):
            q, k, v = (
                _linear(self.w, f"{name}.attn.w{part}", rows).unflatten(2, (-1, size)).transpose(1, 2) for part in "qkv"
            )
            q, k = F.layer_norm(q, (size,)), F.layer_norm(k, (size,))
            mixed = F.scaled_dot_product_attention(q, k, v, mask, scale=8 / size)
            return _linear(self.w, f"{name}.attn.proj", mixed.transpose(1, 2).flatten(2))

        def mlp(rows):
            gated = F.silu(_linear(self.w, f"{name}.mlp.fc1", rows)) * _linear(self.w, f"{name}.mlp.fc3", rows)
            return _linear(self.w, f"{name}.mlp.fc2", gated)

        return add(add(x, attention, "attn"), mlp, "mlp")

    def depth(self, half):
        trunk = f"{half}{'enc' if half == ENCODER else 'dec'}_transformer.blocks."
        return 1 + max(int(name.removeprefix(trunk).split(".")[0]) for name in self.w if name.startswith(trunk))

    # ------------------------------------------------------------------------------------------------------ encoding

    def latents(self, images):
        """Return the scaled latents of images in 0…1."""
        return self.scale * vae_encode(self.vae, 2 * images - 1)

    def registers_of(self, latents):
        """Return what is quantized, (B, N, D)."""
        p = ENCODER
        grid = (latents.shape[2] // 2, latents.shape[3] // 2)
        patches = self.patches(f"{p}enc_patch_emb", latents) + self.positions(f"{p}enc_posemb_module", grid)
        registers = self.w[f"{p}enc_register_module.registers"].expand(len(latents), -1, -1)
        x = torch.cat([patches, registers], 1)
        place, count = torch.arange(x.shape[1], device=x.device), patches.shape[1]
        mask = (place[None] < count) | (place[None] <= place[:, None])
        for i in range(self.depth(p)):
            x = self.block(p, i, x, mask)
        last = x[:, count:]
        return _linear(self.w, f"{p}enc_to_latents.proj", F.layer_norm(last, last.shape[-1:]))

    def encode(self, images):
        """Return the ids (B, N) of images (B, 3, H, W) in 0…1."""
        return fsq(self.registers_of(self.latents(images)), self.levels)[1]

    # ------------------------------------------------------------------------------------------------------ decoding

    def condition(self, codes, keep):
        """Return the decoder's register inputs (B, N, w) of code vectors (B, N, D), of which `keep` (B,) count."""
        p = DECODER
        x = _linear(self.w, f"{p}dec_from_latents.proj", codes)
        x = x + self.w[f"{p}dec_registers_posemb_module.posembs"][0].mT
        dropped = torch.arange(x.shape[1], device=x.device)[None] >= keep[:, None]
        return torch.where(dropped[..., None], self.w[f"{p}dec_nested_dropout.dropout_mask_token"], x)

    def null(self, condition):
        """Return the register inputs that stand for no condition; zeros where there is no vector for it."""
        vector = self.w.get(f"{DECODER}dec_latent_dropout.nullcond", condition.new_zeros(condition.shape[2]))
        return vector.expand_as(condition)

    def velocity(self, noised, t, registers):
        """Return noise - clean (B, C, h, w) of noised latents, at times t (B,)."""
        p = DECODER
        grid = (noised.shape[2] // 2, noised.shape[3] // 2)
        patches = self.patches(f"{p}dec_noise_patch_emb", noised) + self.positions(
            f"{p}dec_patches_posemb_module", grid
        )
        features = time_features(t, self.max_timestep, self.w[f"{p}dec_time_embedder.mlp.0.weight"].shape[1])
        time = _linear(
            self.w,
            f"{p}dec_time_embedder.mlp.2",
            F.silu(_linear(self.w, f"{p}dec_time_embedder.mlp.0", features)),
        )
        x, count = torch.cat([patches, registers], 1), patches.shape[1]
        for i in range(self.depth(p)):
            x = self.block(p, i, x, time=time, num_patches=count)
        rows = x[:, :count]
        shift, scale = _linear(self.w, f"{p}dec_to_patches.adaLN_modulation.1", F.silu(time))[:, None].chunk(2, -1)
        rows = F.layer_norm(rows, rows.shape[-1:]) * (1 + scale) + shift
        b, c, h, w = noised.shape
        cells = _linear(self.w, f"{p}dec_to_patches.proj", rows).view(b, *grid, 2, 2, c)
        return cells.permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)

    def sample(self, registers, noise, steps, guidance=1.0, adaptive=False):
        """Return scaled latents after Euler steps from noise, both branches of guidance in calls of their own."""
        x, running = noise, torch.zeros_like(noise)
        for i in range(steps, 0, -1):
            t = torch.full((len(x),), i / steps, device=x.device)
            v = self.velocity(x, t, registers)
            if guidance != 1:
                v_null = self.velocity(x, t, self.null(registers))
                if adaptive:
                    v, running = apg(v, v_null, guidance, running)
                else:
                    v = v_null + guidance * (v - v_null)
            x = x - v / steps
        return x

    def decode(self, ids, keep, noise, steps, guidance=1.0, adaptive=False):
        """Return images (B, 3, H, W), about 0…1, of ids (B, N), of each of which the first `keep` count."""
        registers = self.condition(fsq_codes(ids, self.levels), keep)
        latents = self.sample(registers, noise, steps, guidance, adaptive)
        return (vae_decode(self.vae, latents / self.scale) + 1) / 2
