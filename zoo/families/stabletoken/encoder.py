"""The encoder: the front of Whisper's, up to the quantizer, with the pooling that halves its rate.

Two forward passes share all weights and layers. `forward` takes padded batches, for training. `apart` takes items one
by one and gives each kernel the shapes that the item has alone, for ids that depend on nothing else; the two agree to
rounding errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.components.exact.one_by_one import Run
from zoo.components.layers.block import Block, BlockConfig
from zoo.components.layers.positions import sincos_1d
from zoo.families.stabletoken.config import StableTokenConfig

__all__ = ["SpeechEncoder"]

# Rows of one piece of work on the CPU. Each piece brings the weights into the order of the matrix product anew, which
# at 256 rows and 1280 channels is 5 % of the time; at 768, 30 s of speech still occupy two cores.
_ROWS = 768


class SpeechEncoder(nn.Module):
    """Log-mel spectra (B, M, F) → one vector a token, (B, T, Q).

    Two convolutions, the second of stride 2, sinusoidal positions, pre-norm layers that attend to the whole segment,
    pooling after one of them, and a projection if the quantizer's vectors are not as wide as the layers. What an item's
    padding holds changes nothing.

    Args:
        config: Sizes.
        output_size: Q, width of the quantizer's vectors; D if None.

    Attributes:
        project: D → Q; the identity where they are equal.
    """

    positions: Tensor

    def __init__(self, config: StableTokenConfig, output_size: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.padding = (2, 0) if config.causal_convolution else (1, 1)
        self.conv1 = nn.Conv1d(config.num_mel, config.d_model, 3)
        self.conv2 = nn.Conv1d(config.d_model, config.d_model, 3, stride=2)
        table = sincos_1d(config.max_positions, config.d_model, endpoint=True)
        self.register_buffer("positions", table, persistent=config.stored_positions)
        block = BlockConfig(config.d_model, config.num_heads, config.ffn_size, key_bias=False)
        self.layers = nn.ModuleList(block.block() for _ in range(config.num_layers))
        width = config.d_model if output_size is None else output_size
        self.project = nn.Identity() if width == config.d_model else nn.Linear(config.d_model, width)

    def forward(self, mel: Tensor, num_frames: Tensor, places: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode a padded batch.

        Args:
            mel: (B, M, F), F frames that make whole tokens.
            num_frames: (B,) frames of each item that begin within its samples.
            places: (B,) row of the position table where each item begins, at most its `slack`; the first if None.

        Returns:
            (B, T, Q), and the mask of valid tokens (B, T).
        """
        per_token = self.config.frames_per_token
        ends = -(-num_frames // per_token) * per_token
        inside = (torch.arange(mel.shape[2], device=mel.device) < ends[:, None])[:, None]
        # Past its own end an item meets what it would meet alone: the zeros of the convolutions.
        x = self._stem(mel * inside, inside, places)
        mask = torch.arange(x.shape[1], device=x.device) < -(-num_frames // 2)[:, None]
        for number, layer in enumerate(self.layers, 1):
            x = layer(x, mask[:, None, None])
            if number == self.config.pooling_position:
                x, mask = self._pool(x), mask[:, :: self.config.pooling_kernel]
        return self.project(x), mask

    def apart(self, mels: Sequence[Tensor], num_frames: Sequence[int], run: Run) -> list[Tensor]:
        """Encode items, each as if it were alone.

        Args:
            mels: (1, M, F) each.
            num_frames: Frames of each that begin within its samples.
            run: What computes the pieces.

        Returns:
            (1, T, Q) each.
        """
        xs = run(self._stem, mels)
        valid = [-(-count // 2) for count in num_frames]
        for number, layer in enumerate(self.layers, 1):
            xs = _layer_apart(cast(Block, layer), xs, valid, self._step, run)
            if number == self.config.pooling_position:
                xs = run(self._pool, xs)
                valid = [-(-count // self.config.pooling_kernel) for count in valid]
        return run(self.project, xs)

    def slack(self, num_frames: Tensor) -> Tensor:
        """Return how many rows of the position table items leave, (B,): the last row that each may begin at."""
        config = self.config
        return config.max_positions - -(-num_frames // config.frames_per_token) * config.pooling_kernel

    def num_pieces(self, num_frames: int) -> int:
        """Return into how many pieces, which may be computed at the same time, `apart` cuts an item."""
        return -(-num_frames // (2 * self._step))

    @property
    def _step(self) -> int:
        return _ROWS if self.positions.device.type == "cpu" else self.config.max_positions

    def _stem(self, mel: Tensor, inside: Tensor | None = None, places: Tensor | None = None) -> Tensor:
        """Return (B, M, F) as frames with positions, (B, F / 2, D)."""
        x = F.gelu(self.conv1(F.pad(mel, self.padding)))
        x = F.gelu(self.conv2(F.pad(x if inside is None else x * inside, self.padding)))
        if places is None:
            return x.transpose(1, 2) + self.positions[: x.shape[2]]
        rows = places[:, None] + torch.arange(x.shape[2], device=x.device)
        # Only the padding of shorter items reaches past the table's end.
        return x.transpose(1, 2) + self.positions[rows.clamp(max=self.config.max_positions - 1)]

    def _pool(self, x: Tensor) -> Tensor:
        """Pool neighbouring rows of (B, T, D)."""
        groups = x.reshape(len(x), -1, self.config.pooling_kernel, x.shape[2])
        return groups.mean(2) if self.config.pooling_type == "avg" else groups.amax(2)


def _layer_apart(layer: Block, xs: list[Tensor], valid: list[int], step: int, run: Run) -> list[Tensor]:
    """Apply a layer to items (1, T, D), of which only the first `valid` rows are attended to, `step` rows at a time."""
    pieces = [torch.split(x.contiguous(), step, 1) for x in xs]
    rows = [(item, piece) for item, split in enumerate(pieces) for piece in split]
    projected = iter(run(lambda row: layer.keys_values(row[1]), rows))
    memory = []
    for split, count in zip(pieces, valid, strict=True):
        keys, values = zip(*(next(projected) for _ in split), strict=True)
        memory.append((torch.cat(keys, 2)[:, :, :count], torch.cat(values, 2)[:, :, :count]))
    done = iter(run(lambda row: layer.attend(row[1], *memory[row[0]]), rows))
    return [torch.cat([next(done) for _ in split], 1) for split in pieces]
