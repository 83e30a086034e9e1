"""The network of SSDD's decoder: a U-Net of convolutions in pixels, around a transformer, both conditioned on latents.

The convolutions know the time and the latents, the transformer the latents alone.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.components.layers.attention import Attention
from zoo.components.layers.block import Block
from zoo.components.layers.conv import Downsample, Upsample, group_norm
from zoo.components.layers.mlp import GatedMLP
from zoo.components.layers.modulation import AdaGN, AdaLN
from zoo.components.layers.positions import RelativePositionBias2d, timestep_embedding
from zoo.components.layers.windowed import WindowedBlock
from zoo.families.ssdd.config import DecoderConfig

__all__ = ["ConditionedBlock", "PixelUNet"]

_EPS = 1e-5  # of all norms but the one before the transformer
_STD = 0.02


class PixelUNet(nn.Module):
    """Noised pictures, times and latents → velocities.

    Args:
        config: Sizes.
        latent_channels: Y.

    Attributes:
        conv_in: Noised pictures and latents, brought to their size → the first map.
        context: Latents → what everything else is conditioned on, on the latents' grid.
        time: Cosines and sines of the time → the embedded time.
        down: Levels on the way down.
        middle: The transformer.
        up: Levels on the way up.
        norm_out: Of the last map.
        conv_out: That → velocities.
    """

    def __init__(self, config: DecoderConfig, latent_channels: int) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        base, last = widths[0], widths[-1]
        self.conv_in = nn.Conv2d(3 + latent_channels, base, 3, padding=1)
        self.context = nn.Sequential(
            nn.Conv2d(latent_channels, base, 3, padding=1), nn.SiLU(), nn.Conv2d(base, base, 3, padding=1)
        )
        self.time = nn.Sequential(nn.Linear(base, 4 * base), nn.SiLU(), nn.Linear(4 * base, 4 * base))
        self.down = nn.ModuleList()
        skips = [base]
        for level, width in enumerate(widths):
            blocks = [skips[-1], *[width] * config.layers_per_block]
            is_last = level == len(widths) - 1
            self.down.append(
                _Level(config, list(pairwise(blocks)), None if is_last else Downsample(width, is_centred=True))
            )
            skips += [width] * (config.layers_per_block + (not is_last))
        self.middle = _Transformer(config)
        self.up = nn.ModuleList()
        width = last
        for level in reversed(range(len(widths))):
            shapes = []
            for _ in range(config.layers_per_block + 1):
                shapes.append((width + skips.pop(), widths[level]))
                width = widths[level]
            self.up.append(_Level(config, shapes, Upsample(width) if level else None))
        self.norm_out = nn.GroupNorm(config.norm_groups, base, eps=_EPS)
        self.conv_out = nn.Conv2d(base, 3, 3, padding=1)
        self._start()

    def forward(self, x: Tensor, t: Tensor, latents: Tensor) -> Tensor:
        """Return the velocity (B, 3, H, W), pictures minus noise.

        Args:
            x: (B, 3, H, W) noised pictures; sides are multiples of `config.downsampling`.
            t: (B,) times from 0, a picture, to 1, noise.
            latents: (B, Y, h, w); H and W are multiples of h and w, and as many times the one as the other.
        """
        return self.with_states(x, t, latents, None)[0]

    def with_states(self, x: Tensor, t: Tensor, latents: Tensor, layer: int | None) -> tuple[Tensor, Tensor | None]:
        """Return the velocity, and what a block of the transformer makes, (B, H · W / 64, D); arguments of `forward`.

        Args:
            x: See `forward`.
            t: The same.
            latents: The same.
            layer: The block, from 0; None for none.
        """
        dtype = self.conv_in.weight.dtype
        x, latents = x.to(dtype), latents.to(dtype)
        context = self.context(latents)
        time = self.time(timestep_embedding(t, self.config.widths[0]).to(dtype))
        h = self.conv_in(torch.cat([x, F.interpolate(latents, x.shape[2:], mode="nearest")], 1))
        skips = [h]
        for level in cast("list[_Level]", list(self.down)):
            for block in level.blocks:
                h = block(h, context, time)
                skips.append(h)
            if level.resize is not None:
                h = level.resize(h)
                skips.append(h)
        h, states = self.middle(h, context, layer)
        for level in cast("list[_Level]", list(self.up)):
            for block in level.blocks:
                h = block(torch.cat([h, skips.pop()], 1), context, time)
            if level.resize is not None:
                h = level.resize(h)
        return self.conv_out(F.silu(self.norm_out(h))), states

    def _start(self) -> None:
        """Start as published; each residual block and each MLP starts at nothing, as do the tables of positions."""
        if self.conv_in.weight.is_meta:
            return
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=_STD)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
            if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, ConditionedBlock):
                nn.init.zeros_(module.conv2.weight)
            elif isinstance(module, GatedMLP):
                # One map of twice as many rows in the authors' code, and drawn as such.
                both = module.up.weight.new_empty(2 * len(module.up.weight), module.up.weight.shape[1])
                for half, start in zip((module.up, module.gate), nn.init.xavier_uniform_(both).chunk(2), strict=True):
                    half.weight.data.copy_(start)
                nn.init.zeros_(module.down.weight)


class ConditionedBlock(nn.Module):
    """A residual block whose first norm is modulated by the latents, and the second by the time.

    Args:
        in_channels: C of the input.
        out_channels: C of the output; where it differs, a 1×1 convolution takes the input there.
        context_channels: Of the map that is made of the latents.
        num_groups: Groups of the norms.
    """

    def __init__(self, in_channels: int, out_channels: int, context_channels: int, num_groups: int) -> None:
        super().__init__()
        to_modulation = nn.Conv2d(context_channels, 2 * in_channels, 1)
        self.norm1 = AdaGN(in_channels, to_modulation, num_groups=num_groups, eps=_EPS)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        from_time = nn.Sequential(nn.SiLU(), nn.Linear(4 * context_channels, 2 * out_channels))
        self.norm2 = AdaGN(out_channels, from_time, num_groups=num_groups, eps=_EPS, affine=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, context: Tensor, time: Tensor) -> Tensor:
        """Map x (B, in_channels, H, W) to (B, out_channels, H, W), given the context (B, c, h, w) and time (B, 4c)."""
        y = self.conv1(F.silu(self.norm1(x, context)))
        y = self.conv2(F.silu(self.norm2(y, time)))
        return cast(Tensor, self.conv_shortcut(x) + y)


class _Level(nn.Module):
    """Residual blocks of one size, and what brings their map to the next size, if there is one."""

    def __init__(self, config: DecoderConfig, shapes: list[tuple[int, int]], resize: nn.Module | None) -> None:
        super().__init__()
        base, groups = config.widths[0], config.norm_groups
        self.blocks = nn.ModuleList(ConditionedBlock(*shape, base, groups) for shape in shapes)
        self.resize = resize


class _Transformer(nn.Module):
    """A map plus what a transformer makes of its cells, each of which sees a window and is modulated by its latent."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width, heads = config.widths[-1], config.heads
        self.norm = group_norm(width, config.norm_groups)
        self.proj_in = nn.Linear(width, width)
        self.layers = nn.ModuleList(
            WindowedBlock(
                Block(
                    nn.LayerNorm(width, eps=_EPS, elementwise_affine=False),
                    Attention(width, heads, bias=False, out_bias=True),
                    nn.LayerNorm(width, eps=_EPS),
                    GatedMLP(width, 4 * width, activation="gelu"),
                    modulation=AdaLN(config.widths[0], width, ("shift_attention", "scale_attention"), is_zero=False),
                ),
                RelativePositionBias2d(heads, config.window),
            )
            for _ in range(config.num_layers)
        )
        self.proj_out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor, layer: int | None) -> tuple[Tensor, Tensor | None]:
        """Return the map (B, D, H, W), and the states (B, H · W, D) behind a layer."""
        grid = (x.shape[2], x.shape[3])
        cells = context.flatten(2).transpose(1, 2)
        y = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        states = None
        for number, block in enumerate(cast("list[WindowedBlock]", list(self.layers))):
            parts = block.block.modulate(cells)
            y = block(y, grid, {name: _spread(part, context.shape[2:], grid) for name, part in parts.items()})
            states = y if number == layer else states
        return x + self.proj_out(y).transpose(1, 2).unflatten(2, grid), states


def _spread(values: Tensor, grid: torch.Size, finer: tuple[int, int]) -> Tensor:
    """Return values (B, h · w, D) of a grid's cells for those of a finer grid, each of which lies in one of them."""
    if tuple(grid) == finer:
        return values
    times = [count // cells for count, cells in zip(finer, grid, strict=True)]
    spread = values.reshape(len(values), *grid, -1).repeat_interleave(times[0], 1).repeat_interleave(times[1], 2)
    return spread.flatten(1, 2)
