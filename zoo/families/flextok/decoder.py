"""FlexTok's decoder: a flow from noise to latents that any prefix of the tokens conditions, then the autoencoder's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from zoo.components.autoencoder_kl import ConvDecoder
from zoo.components.layers.modulation import AdaLN, modulate
from zoo.components.layers.patches import PatchEmbedding, unpatchify
from zoo.components.layers.positions import sincos_2d, timestep_embedding
from zoo.components.layers.start import start_linear_maps, start_token
from zoo.components.quantizers.base import full_precision
from zoo.components.query import GroupTransformer, GroupTransformerConfig, TokenGroup
from zoo.families.flextok.config import FlexTokConfig

__all__ = ["FlexTokDecoder", "FlowDecoder"]

_TIME_WIDTH = 256
_TIME_PERIOD = 256.0


class FlexTokDecoder(nn.Module):
    """Codes → pixels, in two parts that `FlexTokTokenizer` puts together.

    Args:
        config: Sizes.
        code_size: Width of the codes.

    Attributes:
        flow: Noised latents, a time and codes → a velocity.
        autoencoder: Latents → pixels. It is trained before the rest, and frozen then.
    """

    def __init__(self, config: FlexTokConfig, code_size: int) -> None:
        super().__init__()
        self.scaling_factor = config.scaling_factor
        self.flow = FlowDecoder(config, code_size)
        self.autoencoder = ConvDecoder(config.autoencoder, config.latent_channels)

    def pixels(self, latents: Tensor) -> Tensor:
        """Return the pixels (B, 3, H, W) of scaled latents (B, C, h, w), about -1…1, not clamped."""
        latents = latents.to(self.autoencoder.conv_in.weight.dtype)
        with full_precision(latents):
            return cast(Tensor, self.autoencoder(latents / self.scaling_factor))


class FlowDecoder(nn.Module):
    """The velocity of a rectified flow in scaled latents, of which noise is at time 1 and data at 0.

    Patches and registers are one sequence with full attention, each modulated by the time in its own way. Registers
    that are left out do not shorten the sequence: a learned token stands in their place, without a position.

    Attributes:
        embed: Codes → registers.
        positions: (N, width), learned, added to these.
        mask_token: (width,), stands for a token that is left out.
        null: (width,), stands for every register where there is no condition.
        patches: Patches of noised latents → tokens.
        patch_positions: (h · w / p², width), added to these; fixed, and stored with the weights.
        time: Sines and cosines of the time → the condition.
        transformer: The layers.
        norm: Of their output.
        modulation: Shift and scale of that.
        project: Tokens → patches of the velocity.
    """

    patch_positions: Tensor

    def __init__(self, config: FlexTokConfig, code_size: int) -> None:
        super().__init__()
        trunk, width = config.decoder, config.decoder.width
        self.patch_size = config.patch_size
        self.time_scale = 1000.0 / config.max_timestep
        self.embed = nn.Linear(code_size, width)
        self.positions = nn.Parameter(torch.empty(config.num_tokens, width))
        self.mask_token = nn.Parameter(torch.empty(width))
        self.null = nn.Parameter(torch.empty(width))
        size = (config.patch_size, config.patch_size)
        self.patches = PatchEmbedding(size, config.latent_channels, width)
        self.register_buffer("patch_positions", sincos_2d(config.grid, width))
        self.time = nn.Sequential(nn.Linear(_TIME_WIDTH, width), nn.SiLU(), nn.Linear(width, width))
        groups = (TokenGroup("patches"), TokenGroup("registers"))
        self.transformer = GroupTransformer(
            GroupTransformerConfig(groups, trunk.block(condition_size=width), trunk.depth, is_modulated_apart=True)
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = AdaLN(width, width, ("shift", "scale"))
        self.project = nn.Linear(width, config.latent_channels * config.patch_size**2)
        start_linear_maps(self)
        for token in (self.positions, self.mask_token, self.null):
            start_token(token)
        nn.init.zeros_(self.project.weight)

    def registers(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """Return the registers (B, N, width) of the first tokens of each image.

        Args:
            codes: (B, T, code_size), T at most N.
            lengths: int64 (B,), how many of them count, up to T.
        """
        made, _ = self._kept(codes, lengths, len(self.positions))
        return made

    def condition(self, codes: Tensor, lengths: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return what `forward` takes of the first tokens of each image, and what it takes where there is no condition.

        Registers that hold the same, as the masked ones do and all without a condition, are one that counts as many.

        Args:
            codes: (B, T, code_size), T at most N.
            lengths: int64 (B,), how many of them count, up to T.

        Returns:
            `registers` (B, R, width) and `copies` (B, R), R at most N; and the same to be broadcast to these.
        """
        longest, most = int(lengths.max()), len(self.positions)
        made, copies = self._kept(codes[:, :longest], lengths, min(longest + 1, most))
        none = torch.zeros_like(copies[0])
        none[0] = most
        return [made, copies], [self.null, none]

    def _kept(self, codes: Tensor, lengths: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return registers, masked from each length on, and copies, where the first masked one is all of them."""
        made = self.embed(codes.to(self.mask_token.dtype))
        made = made + self.positions[: made.shape[1]]
        made = torch.cat([made, self.mask_token.expand(len(made), count - made.shape[1], -1)], 1)
        place = torch.arange(count, device=lengths.device)
        left = lengths[:, None] - place
        made = torch.where((left > 0)[..., None], made, self.mask_token)
        masked = (len(self.positions) - lengths)[:, None] * (left == 0)
        return made, torch.where(left > 0, 1, masked).to(torch.float32)

    def forward(self, x: Tensor, t: Tensor, registers: Tensor, copies: Tensor | None = None) -> Tensor:
        """Return the velocity, noise minus data, (B, C, h, w).

        Args:
            x: (B, C, h, w) noised latents.
            t: (B,) times in 0…1.
            registers: (B, N, width) of `registers`, or fewer of `condition`.
            copies: (B, R) of `condition`, for how many registers each stands; one each if None.
        """
        patches = x
        for made in self.layers(x, t, registers, copies):
            patches = made["patches"]
        return self.velocity(patches, t, x)

    def layers(
        self, x: Tensor, t: Tensor, registers: Tensor, copies: Tensor | None = None
    ) -> Iterator[dict[str, Tensor]]:
        """Yield what each layer makes of `patches` and of `registers`, (B, …, width) each."""
        patches = self.patches(x.to(self.mask_token.dtype)) + self.patch_positions
        tokens = {"patches": patches, "registers": registers.to(patches.dtype)}
        counted = None if copies is None else {"registers": copies}
        yield from self.transformer.stages(tokens, condition=self.embedded(t), copies=counted)

    def velocity(self, patches: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """Return the velocity (B, C, h, w) of the last layer's patches, at the times and of the size of x."""
        parts = self.modulation(self.embedded(t))
        rows = self.project(modulate(self.norm(patches), parts["shift"], parts["scale"]))
        size = self.patch_size
        return unpatchify(rows, (size, size), (x.shape[2] // size, x.shape[3] // size))

    def embedded(self, t: Tensor) -> Tensor:
        """Return the embedded times (B, width)."""
        waves = timestep_embedding(t, _TIME_WIDTH, scale=self.time_scale, max_period=_TIME_PERIOD)
        return cast(Tensor, self.time(waves.to(self.mask_token.dtype)))
