"""A plain second implementation of LARP, from its formulas, on released tensors and the released config.

Nothing of the library is imported.
"""

import itertools

import torch
import torch.nn.functional as F


def table_1d(length, width, base=10000.0):
    """Return (length, width): sines of all rates, then cosines."""
    rates = base ** (-torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1).float()


def table_3d(times, rows, columns, width):
    """Return (times · rows · columns, width): column, then row, in halves of the width, plus the time in all of it."""
    of_time, of_row, of_column = table_1d(times, width), table_1d(rows, width // 2), table_1d(columns, width // 2)
    places = itertools.product(range(times), range(rows), range(columns))
    return torch.stack([torch.cat([of_column[x], of_row[y]]) + of_time[t] for t, y, x in places])


class Plain:
    """A released model, clip by clip."""

    def __init__(self, values, tensors):
        self.values, self.tensors = values, tensors
        regularizer = values["bottleneck"]["args"]["regularizer"]["args"]
        self.is_normalized, self.is_stochastic = regularizer["l2_normalized"], regularizer["stochastic"]
        self.temperature = regularizer["stochastic_temperature"]
        self.patch = values["temporal_patch_size"], values["patch_size"]
        side = values["input_size"] // values["patch_size"]
        self.grid = values["frame_num"] // values["temporal_patch_size"], side, side

    def linear(self, name, x):
        return F.linear(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))

    def norm(self, name, x, eps):
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias

    def blocks(self, half, x):
        heads = self.values[f"{half}_num_heads"]
        for i in range(self.values[f"{half}_depth"]):
            name = f"{half}.blocks.{i}"
            qkv = self.linear(f"{name}.attn.qkv", self.norm(f"{name}.norm1", x, 1e-5))
            q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(1, 2, 0, 3)
            scores = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1)
            x = x + self.linear(f"{name}.attn.proj", (scores @ v).transpose(0, 1).flatten(1))
            hidden = self.linear(f"{name}.mlp.fc1", self.norm(f"{name}.norm2", x, 1e-5))
            hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
            x = x + self.linear(f"{name}.mlp.fc2", hidden)
        return x

    def typed(self, name, x):
        return x + self.tensors[name][0] if name in self.tensors else x

    def positions(self, table, axes):
        if table in self.tensors:
            return self.tensors[table][0]
        return sum(self.tensors[axis] for axis in axes).flatten(0, 3)

    def patches(self, clip):
        """Return (m, D) of a clip (3, T, H, W): the convolution as a sum over each patch."""
        weight, (k, p) = self.tensors["x_embedder.proj.weight"], self.patch
        flat = weight.flatten(1)  # by channel, (time,) row, column
        steps = zip(clip.shape[1:], (k, p, p), strict=True)
        corners = itertools.product(*(range(0, size, step) for size, step in steps))
        made = [flat @ clip[:, t : t + k, y : y + p, x : x + p].flatten() for t, y, x in corners]
        return torch.stack(made) + self.tensors["x_embedder.proj.bias"]

    def vectors(self, clip):
        """Return what is quantized of a clip (3, T, H, W), (n, d)."""
        patches = self.patches(clip)
        table = self.positions("encoder_patch_pe", ("encoder_t_embed", "encoder_h_embed", "encode_w_embed"))
        patches = self.typed("encoder_patch_token_type_embed", patches + table[: len(patches)])
        queries = self.typed("encoder_latent_query_token_type_embed", self.tensors["encoder_latent_query_embed"])
        made = self.blocks("encoder", torch.cat([patches, queries]))
        return self.linear("bottleneck.in_linear", made[len(patches) :])

    def codebook(self):
        codes = self.tensors["bottleneck.regularizer.embedding.weight"]
        return codes / codes.norm(dim=1, keepdim=True).clamp(min=1e-12) if self.is_normalized else codes

    def probabilities(self, vectors):
        inverse = self.tensors.get("bottleneck.regularizer.stochastic_temperature_inv")
        cosines = vectors / vectors.norm(dim=1, keepdim=True) @ self.codebook().T
        return (cosines / self.temperature if inverse is None else cosines * inverse).softmax(1)

    def ids(self, vectors):
        if self.is_stochastic:
            return self.probabilities(vectors).argmax(1)
        u = vectors / vectors.norm(dim=1, keepdim=True) if self.is_normalized else vectors
        return (u[:, None] - self.codebook()).square().sum(2).argmin(1)

    def encode(self, clips):
        """Return the ids (B, n) of clips (B, 3, T, H, W)."""
        return torch.stack([self.ids(self.vectors(clip)) for clip in clips])

    def decode(self, ids, frames=None):
        """Return the clips (B, 3, T, H, W) of ids (B, n)."""
        return torch.stack([self.clip(row, frames or self.values["frame_num"]) for row in ids])

    def clip(self, ids, frames):
        k, p = self.patch
        _, rows, columns = self.grid
        times = frames // k
        latents = self.linear("bottleneck.out_linear", self.codebook()[ids]) + self.tensors["decoder_latent_pe"][0]
        latents = self.typed("decoder_latent_token_type_embed", latents)
        table = self.positions("decoder_patch_query_embed", ("decoder_t_embed", "decoder_h_embed", "decoder_w_embed"))
        queries = self.typed("decoder_patch_query_token_type_embed", table[: times * rows * columns])
        made = self.blocks("decoder", torch.cat([latents, queries]))[len(ids) :]
        made = self.linear("final_layer.linear", self.norm("final_layer.norm_final", made, 1e-6))
        clip = torch.empty(3, frames, rows * p, columns * p)
        for index, row in enumerate(made):
            t, y, x = index // (rows * columns), index // columns % rows, index % columns
            cell = row.view(k, p, p, 3).permute(3, 0, 1, 2)
            clip[:, t * k : (t + 1) * k, y * p : (y + 1) * p, x * p : (x + 1) * p] = cell
        return clip

    def predicted(self, codes, heads):
        """Return what the prior expects after each of some codes (T, d), of length 1."""
        x = self.linear("prior_model.input_proj", codes) + self.tensors["prior_model.pos_emb"][0, : len(codes)]
        later = torch.ones(len(codes), len(codes)).triu(1).bool()
        for i in range(sum(name.endswith("ln1.weight") for name in self.tensors)):
            name = f"prior_model.blocks.{i}"
            normed = self.norm(f"{name}.ln1", x, 1e-5)
            q, k, v = (
                self.linear(f"{name}.attn.{part}", normed).unflatten(1, (heads, -1)).transpose(0, 1)
                for part in ("query", "key", "value")
            )
            scores = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).masked_fill(later, -torch.inf).softmax(-1)
            x = x + self.linear(f"{name}.attn.proj", (scores @ v).transpose(0, 1).flatten(1))
            hidden = self.linear(f"{name}.mlp.0", self.norm(f"{name}.ln2", x, 1e-5))
            x = x + self.linear(f"{name}.mlp.2", hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5)))
        made = self.linear("prior_model.head", self.norm("prior_model.ln_f", x, 1e-5))
        return made / made.norm(dim=1, keepdim=True)
