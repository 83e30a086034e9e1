"""A plain second implementation of SSDD, from its formulas, on released tensors; and random tensors of that layout.

Nothing of the library is imported. Bias and mask of attention are made for all pairs of tokens, one by one.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F


def shapes(widths=(32, 64, 64, 64), layers=2, heads=4, latents=4, encoder=(32, 64, 64, 64), window=8):
    """Yield names and shapes of all tensors; `encoder` or `widths` None leaves that half out."""

    def affine(name, *shape):
        yield f"{name}.weight", shape
        yield f"{name}.bias", shape[:1]

    if encoder is not None:
        yield from affine("encoder.conv_in", encoder[0], 3, 3, 3)

        def plain(name, i, o):
            yield from affine(f"{name}.norm1", i)
            yield from affine(f"{name}.conv1", o, i, 3, 3)
            yield from affine(f"{name}.norm2", o)
            yield from affine(f"{name}.conv2", o, o, 3, 3)
            if i != o:
                yield from affine(f"{name}.nin_shortcut", o, i, 1, 1)

        i = encoder[0]
        for level, o in enumerate(encoder):
            for block in range(2):
                yield from plain(f"encoder.down.{level}.block.{block}", i, o)
                i = o
            if level < len(encoder) - 1:
                yield from affine(f"encoder.down.{level}.downsample.conv", o, o, 3, 3)
        yield from plain("encoder.mid.block_1", i, i)
        yield from affine("encoder.mid.attn_1.norm", i)
        for part in ("q", "k", "v", "proj_out"):
            yield from affine(f"encoder.mid.attn_1.{part}", i, i, 1, 1)
        yield from plain("encoder.mid.block_2", i, i)
        yield from affine("encoder.norm_out", i)
        yield from affine("encoder.conv_out", 2 * latents, i, 3, 3)
        yield from affine("encoder.out_proj", 2 * latents, 2 * latents, 1, 1)
    if widths is None:
        return
    c, wide = widths[0], widths[-1]

    def modulated(name, i, o):
        yield from affine(f"{name}.norm1.ctx_proj", 2 * i, c, 1, 1)
        yield from affine(f"{name}.conv1", o, i, 3, 3)
        yield from affine(f"{name}.time_emb_proj", 2 * o, 4 * c)
        yield from affine(f"{name}.norm2", o)
        yield from affine(f"{name}.conv2", o, o, 3, 3)
        if i != o:
            yield from affine(f"{name}.conv_shortcut", o, i, 1, 1)

    yield from affine("decoder.conv_in", c, 3 + latents, 3, 3)
    yield from affine("decoder.time_embedding.linear_1", 4 * c, c)
    yield from affine("decoder.time_embedding.linear_2", 4 * c, 4 * c)
    yield from affine("decoder.ada_ctx_proj.0", c, latents, 3, 3)
    yield from affine("decoder.ada_ctx_proj.2", c, c, 3, 3)
    i, skips = c, [c]
    for level, o in enumerate(widths):
        for block in range(2):
            yield from modulated(f"decoder.down_blocks.{level}.resnets.{block}", i, o)
            i = o
            skips.append(o)
        if level < len(widths) - 1:
            yield from affine(f"decoder.down_blocks.{level}.downsamplers.0.conv", o, o, 3, 3)
            skips.append(o)
    yield from affine("decoder.mid_block.norm", wide)
    for part in ("proj_in", "proj_out"):
        yield from affine(f"decoder.mid_block.{part}", wide, wide)
    for layer in range(layers):
        name = f"decoder.mid_block.transformer_blocks.{layer}"
        yield from affine(f"{name}.norm1.linear", 2 * wide, c)
        for part in "qkv":
            yield f"{name}.attn1.to_{part}.weight", (wide, wide)
        yield from affine(f"{name}.attn1.out_proj", wide, wide)
        yield from affine(f"{name}.norm2", wide)
        yield from affine(f"{name}.ff.proj_in_act.proj", 8 * wide, wide)
        yield from affine(f"{name}.ff.proj_out", wide, 4 * wide)
        side = 2 * window - 1
        yield f"{name}.relative_position_bias.relative_bias_table", (side, side, heads)
    for level, o in enumerate(reversed(widths)):
        for block in range(3):
            yield from modulated(f"decoder.up_blocks.{level}.resnets.{block}", i + skips.pop(), o)
            i = o
        if level < len(widths) - 1:
            yield from affine(f"decoder.up_blocks.{level}.upsamplers.0.conv", o, o, 3, 3)
    yield from affine("decoder.conv_norm_out", c)
    yield from affine("decoder.conv_out", 3, c, 3, 3)


def tensors(seed=0, **sizes):
    """Return random tensors in the released layout, of which each matters."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes(**sizes):
        values = torch.randn(shape, generator=generator)
        if "table" in name:
            made[name] = values
        elif len(shape) == 1:
            made[name] = 0.1 * values + (1.0 if name.endswith("weight") else 0.0)
        else:
            made[name] = 0.7 * values / math.prod(shape[1:]) ** 0.5
    return made


# ------------------------------------------------------------------------------------------------------ the arithmetic


def _conv(w, name, x, **options):
    weight = w[f"{name}.weight"]
    return F.conv2d(x, weight, w[f"{name}.bias"], **{"padding": weight.shape[-1] // 2} | options)


def _linear(w, name, x):
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def _norm(w, name, x, eps):
    return F.group_norm(x, 32, w[f"{name}.weight"], w[f"{name}.bias"], eps)


def _swish(x):
    return x * torch.sigmoid(x)


def _count(w, pattern):
    number = 0
    while pattern.format(number) in w:
        number += 1
    return number


def _plain_block(w, name, x):
    y = _conv(w, f"{name}.conv1", _swish(_norm(w, f"{name}.norm1", x, 1e-6)))
    y = _conv(w, f"{name}.conv2", _swish(_norm(w, f"{name}.norm2", y, 1e-6)))
    return (_conv(w, f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in w else x) + y


def moments(w, pixels):
    """Return means and clamped log-variances (B, Y, h, w) of pixels (B, 3, H, W) in -1…1."""
    x = _conv(w, "encoder.conv_in", pixels)
    levels = _count(w, "encoder.down.{}.block.0.conv1.weight")
    for level in range(levels):
        for block in range(2):
            x = _plain_block(w, f"encoder.down.{level}.block.{block}", x)
        if level < levels - 1:
            x = _conv(w, f"encoder.down.{level}.downsample.conv", F.pad(x, (0, 1, 0, 1)), stride=2, padding=0)
    x = _plain_block(w, "encoder.mid.block_1", x)
    y = _norm(w, "encoder.mid.attn_1.norm", x, 1e-6)
    q, k, v = (_conv(w, f"encoder.mid.attn_1.{part}", y).flatten(2) for part in "qkv")
    scores = torch.einsum("bcq,bck->bqk", q, k) * q.shape[1] ** -0.5
    mixed = torch.einsum("bqk,bck->bcq", scores.softmax(-1), v).view_as(x)
    x = x + _conv(w, "encoder.mid.attn_1.proj_out", mixed)
    x = _plain_block(w, "encoder.mid.block_2", x)
    x = _conv(w, "encoder.conv_out", _swish(_norm(w, "encoder.norm_out", x, 1e-6)))
    mean, log_variance = _conv(w, "encoder.out_proj", x).chunk(2, 1)
    return mean, log_variance.clamp(-30, 20)


def _modulated_block(w, name, x, ctx, temb):
    scale, shift = _conv(w, f"{name}.norm1.ctx_proj", ctx).chunk(2, 1)
    times = x.shape[2] // ctx.shape[2]
    scale, shift = (part.repeat_interleave(times, 2).repeat_interleave(times, 3) for part in (scale, shift))
    y = F.group_norm(x, 32, eps=1e-5) * (1 + scale) + shift
    y = _conv(w, f"{name}.conv1", _swish(y))
    scale, shift = _linear(w, f"{name}.time_emb_proj", _swish(temb))[:, :, None, None].chunk(2, 1)
    y = _norm(w, f"{name}.norm2", y, 1e-5) * (1 + scale) + shift
    y = _conv(w, f"{name}.conv2", _swish(y))
    return (_conv(w, f"{name}.conv_shortcut", x) if f"{name}.conv_shortcut.weight" in w else x) + y


def bias(table, rows, columns):
    """Return what is added to the scores of a grid, (heads, N, N)."""
    most = table.shape[0] // 2
    made = torch.full((rows * columns, rows * columns, table.shape[2]), -1e7)
    for q in range(rows * columns):
        for k in range(rows * columns):
            dy, dx = q // columns - k // columns, q % columns - k % columns
            if abs(dy) <= most and abs(dx) <= most:
                made[q, k] = table[dy + most, dx + most]
    return made.permute(2, 0, 1)


def _transformer_block(w, name, y, cond, grid):
    shift, scale = _linear(w, f"{name}.norm1.linear", _swish(cond)).chunk(2, -1)
    u = F.layer_norm(y, y.shape[-1:], eps=1e-5) * (1 + scale) + shift
    table = w[f"{name}.relative_position_bias.relative_bias_table"]
    heads = table.shape[2]
    q, k, v = (
        F.linear(u, w[f"{name}.attn1.to_{part}.weight"]).unflatten(2, (heads, -1)).transpose(1, 2) for part in "qkv"
    )
    scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5 + bias(table, *grid)
    y = y + _linear(w, f"{name}.attn1.out_proj", (scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    u = F.layer_norm(y, y.shape[-1:], w[f"{name}.norm2.weight"], w[f"{name}.norm2.bias"], 1e-5)
    value, gate = _linear(w, f"{name}.ff.proj_in_act.proj", u).chunk(2, -1)
    gelu = gate * 0.5 * (1 + torch.erf(gate / 2**0.5))
    return y + _linear(w, f"{name}.ff.proj_out", value * gelu)


def velocity(w, x, t, z):
    """Return v (B, 3, H, W) of noised pictures, times (B,) and latents (B, Y, h, w)."""
    c = w["decoder.conv_in.weight"].shape[0]
    frequencies = torch.exp(-math.log(10_000) * torch.arange(c // 2) / (c // 2))
    angles = 1000 * t[:, None] * frequencies
    temb = _linear(w, "decoder.time_embedding.linear_1", torch.cat([angles.cos(), angles.sin()], 1))
    temb = _linear(w, "decoder.time_embedding.linear_2", _swish(temb))
    ctx = _conv(w, "decoder.ada_ctx_proj.2", _swish(_conv(w, "decoder.ada_ctx_proj.0", z)))
    times = x.shape[2] // z.shape[2]
    h = _conv(w, "decoder.conv_in", torch.cat([x, z.repeat_interleave(times, 2).repeat_interleave(times, 3)], 1))
    skips, levels = [h], _count(w, "decoder.down_blocks.{}.resnets.0.conv1.weight")
    for level in range(levels):
        for block in range(2):
            h = _modulated_block(w, f"decoder.down_blocks.{level}.resnets.{block}", h, ctx, temb)
            skips.append(h)
        if level < levels - 1:
            h = _conv(w, f"decoder.down_blocks.{level}.downsamplers.0.conv", h, stride=2)
            skips.append(h)
    grid = h.shape[2:]
    y = _norm(w, "decoder.mid_block.norm", h, 1e-6).flatten(2).transpose(1, 2)
    y = _linear(w, "decoder.mid_block.proj_in", y)
    times = grid[0] // z.shape[2]
    cond = ctx.repeat_interleave(times, 2).repeat_interleave(times, 3).flatten(2).transpose(1, 2)
    for layer in range(_count(w, "decoder.mid_block.transformer_blocks.{}.norm2.weight")):
        y = _transformer_block(w, f"decoder.mid_block.transformer_blocks.{layer}", y, cond, grid)
    h = h + _linear(w, "decoder.mid_block.proj_out", y).transpose(1, 2).unflatten(2, grid)
    for level in range(levels):
        for block in range(3):
            h = torch.cat([h, skips.pop()], 1)
            h = _modulated_block(w, f"decoder.up_blocks.{level}.resnets.{block}", h, ctx, temb)
        if level < levels - 1:
            h = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
            h = _conv(w, f"decoder.up_blocks.{level}.upsamplers.0.conv", h)
    return _conv(w, "decoder.conv_out", _swish(_norm(w, "decoder.conv_norm_out", h, 1e-5)))


def decode(w, z, noise, steps, power=2.0):
    """Return pixels (B, 3, H, W), about -1…1, of latents and noise."""
    times = [(1 - i / steps) ** power for i in range(steps + 1)]
    x = noise
    for now, later in pairwise(times):
        x = x + velocity(w, x, torch.full((len(x),), now), z) * (now - later)
    return x
