"""What a released file is, of the shapes and names of its tensors: it has no config beside it.

The published sizes are told by the widths, layers, heads and table of positions, which tensors show. What none shows is
the same in all: norms of 32 groups, 8 steps, p = 2.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from zoo.checkpoint.weights import Kinds
from zoo.components.autoencoder_kl import ConvConfig
from zoo.components.quantizers import GaussianConfig, IdentityConfig, QuantizerConfig
from zoo.errors import CheckpointError, ConfigError
from zoo.families.ssdd.config import SIZES, DecoderConfig, SSDDConfig

__all__ = ["read", "vae_encoder"]

_NAME = re.compile(r"(?:.*_)?(?:f(?P<factor>\d+)c(?P<channels>\d+)|sdvae)_(?P<size>[A-Z]+)_\d+", re.IGNORECASE)
_MOST = 64  # of whatever is counted


def read(kinds: Kinds, path: Path, encoder: ConvConfig | None = None) -> SSDDConfig:
    """Return the settings of a released file.

    Args:
        kinds: Shapes of its tensors, by released name; of the encoder, the decoder or both.
        path: The file, whose name must not contradict its tensors.
        encoder: Of an encoder that is not among the tensors.

    Raises:
        CheckpointError: A tensor is missing or of an impossible shape, or the name says otherwise.
    """
    has_decoder = "decoder.conv_in.weight" in kinds
    decoder = _decoder(kinds, path) if has_decoder else DecoderConfig()
    latents = _shape(kinds, "decoder.conv_in.weight", 4, path)[1] - 3 if has_decoder else None
    is_gaussian = True
    if "encoder.conv_in.weight" in kinds:
        encoder = _encoder(kinds, path)
        outputs = _shape(kinds, "encoder.out_proj.weight", 4, path)[0]
        latents = outputs // 2 if latents is None else latents
        if outputs not in (latents, 2 * latents):
            raise CheckpointError(
                f"{path} has an encoder of {outputs} outputs and a decoder of {latents} latent channels: as many, or "
                "with log-variances twice as many, were expected."
            )
        # An encoder without log-variances is one that was trained without noise in its latents.
        is_gaussian = outputs == 2 * latents
    try:
        channels = 4 if latents is None else latents
        quantizer: QuantizerConfig = GaussianConfig(channels) if is_gaussian else IdentityConfig(channels)
        config = SSDDConfig(
            encoder=encoder or ConvConfig(), latent_channels=channels, quantizer=quantizer, decoder=decoder
        )
    except ConfigError as error:
        raise CheckpointError(f"{path} has tensors of an unusable model. {error}") from error
    _require_name(path, config, has_decoder)
    return config


def vae_encoder(kinds: Kinds, vae: str, path: Path) -> ConvConfig:
    """Return the sizes of an encoder in diffusers' names.

    Args:
        kinds: Shapes by name.
        vae: How the names begin.
        path: The file.

    Raises:
        CheckpointError: A tensor is missing or of an impossible shape.
    """
    return _encoder(kinds, path, f"{vae}encoder.down_blocks.", "resnets")


def _encoder(kinds: Kinds, path: Path, start: str = "encoder.down.", block: str = "block") -> ConvConfig:
    levels = _count(kinds, f"{start}{{}}.{block}.0.conv1.weight")
    widths = tuple(_shape(kinds, f"{start}{level}.{block}.0.conv1.weight", 4, path)[0] for level in range(levels))
    blocks = _count(kinds, f"{start}0.{block}.{{}}.conv1.weight")
    try:
        return ConvConfig(widths, blocks)
    except ConfigError as error:
        raise CheckpointError(f"{path} has an encoder of unusable sizes. {error}") from error


def _decoder(kinds: Kinds, path: Path) -> DecoderConfig:
    levels = _count(kinds, "decoder.down_blocks.{}.resnets.0.conv1.weight")
    start = "decoder.down_blocks"
    widths = tuple(_shape(kinds, f"{start}.{level}.resnets.0.conv1.weight", 4, path)[0] for level in range(levels))
    blocks = _count(kinds, "decoder.down_blocks.0.resnets.{}.conv1.weight")
    layers = _count(kinds, "decoder.mid_block.transformer_blocks.{}.norm2.weight")
    table = "decoder.mid_block.transformer_blocks.0.relative_position_bias.relative_bias_table"
    side, _, heads = _shape(kinds, table, 3, path)
    if not widths or not widths[0] or side % 2 == 0:
        raise CheckpointError(f"{path} has no levels, or a table of {side} positions, which should be an odd number.")
    window = (side + 1) // 2
    for size in SIZES.values():
        if (size.widths, size.heads, size.num_layers) == (widths, heads, layers):
            return replace(size, window=window, layers_per_block=blocks)
    if any(width % widths[0] for width in widths):
        raise CheckpointError(f"{path} has a decoder of widths {widths}, which are those of no size of SSDD.")
    multipliers = tuple(width // widths[0] for width in widths)
    try:
        return DecoderConfig(widths[0], multipliers, layers, heads, layers_per_block=blocks, window=window)
    except ConfigError as error:
        raise CheckpointError(f"{path} has a decoder of unusable sizes. {error}") from error


def _require_name(path: Path, config: SSDDConfig, has_decoder: bool) -> None:
    """Refuse a file whose name, as the authors give them, is of another model."""
    found = _NAME.fullmatch(path.stem)
    if found is None:
        return
    factor, channels, size = found["factor"] or "8", found["channels"] or "4", found["size"].upper()
    wrong = (int(factor), int(channels)) != (config.encoder.downsampling, config.latent_channels)
    if wrong or (has_decoder and size in SIZES and config.decoder.widths != SIZES[size].widths):
        raise CheckpointError(
            f"{path} is named as f{factor}c{channels} of size {size}, and holds f{config.encoder.downsampling}"
            f"c{config.latent_channels} with widths {config.decoder.widths}: it is mislabelled."
        )


def _count(kinds: Kinds, pattern: str) -> int:
    number = 0
    while number < _MOST and pattern.format(number) in kinds:
        number += 1
    return number


def _shape(kinds: Kinds, name: str, rank: int, path: Path) -> tuple[int, ...]:
    if name not in kinds:
        raise CheckpointError(f"{path} lacks the tensor {name}: download it again.")
    shape = kinds[name][0]
    if len(shape) != rank:
        raise CheckpointError(f"{path}: {name} must have {rank} dimensions, got the shape {shape}.")
    return shape
