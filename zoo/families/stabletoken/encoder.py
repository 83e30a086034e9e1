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
from zoo.components.layers.positions import RelativePositionBias1d, sincos_1d
from zoo.families.stabletoken.config import StableTokenConfig

__all__ = ["SpeechEncoder"]

# Rows of one piece of work on the CPU. Each piece brings the weights into the order of the matrix product anew, which
# at 256 rows and 1280 channels is 5 % of the time; at 768, 30 s of speech still occupy two cores.
_ROWS = 768

_SHORT = 8  # reaches up to which all pairs of rows are compared, which is faster
_NOT_SEEN = -1e4  # which no score comes near, and half precision holds


class SpeechEncoder(nn.Module):
    """Log-mel spectra (B, M, F) → one vector a token, (B, T, Q).

    Two convolutions, the second of stride 2, sinusoidal positions, pre-norm layers that attend to the whole segment,
    pooling after one of them, and a projection if the quantizer's vectors are not as wide as the layers. What an item's
    padding holds changes nothing. With `attention_reach` there are no positions, and layers attend within that reach.

    Args:
        config: Sizes.
        output_size: Q, width of the quantizer's vectors; D if None.

    Attributes:
        project: D → Q; the identity where they are equal.
        positions: (P, D) what rows have for being where they are; None with `attention_reach`.
        offset: (D,) what all rows have instead; None without `attention_reach`.
        biases: What distance adds to each layer's scores; none without `attention_reach`.
    """

    positions: Tensor | None
    offset: Tensor | None

    def __init__(self, config: StableTokenConfig, output_size: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.padding = (2, 0) if config.causal_convolution else (1, 1)
        self.conv1 = nn.Conv1d(config.num_mel, config.d_model, 3)
        self.conv2 = nn.Conv1d(config.d_model, config.d_model, 3, stride=2)
        reach, table = config.attention_reach, None
        if reach is None:
            table = sincos_1d(config.max_positions, config.d_model, endpoint=True)
        self.register_buffer("positions", table, persistent=config.stored_positions)
        self.register_parameter("offset", None if reach is None else nn.Parameter(torch.zeros(config.d_model)))
        self.biases = nn.ModuleList(
            RelativePositionBias1d(config.num_heads, reach) for _ in range(config.num_layers) if reach is not None
        )
        block = BlockConfig(config.d_model, config.num_heads, config.ffn_size, key_bias=False)
        self.layers = nn.ModuleList(block.block() for _ in range(config.num_layers))
        width = config.d_model if output_size is None else output_size
        self.project = nn.Identity() if width == config.d_model else nn.Linear(config.d_model, width)

    def forward(self, mel: Tensor, num_frames: Tensor, places: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode a padded batch.

        Args:
            mel: (B, M, F), F frames that make whole tokens.
            num_frames: (B,) frames of each item that begin within its samples.
            places: (B,) row of the position table where each item begins, at most its `slack`; the first if None, or
                if there is no table.

        Returns:
            (B, T, Q), and the mask of valid tokens (B, T).
        """
        per_token = self.config.frames_per_token
        ends = -(-num_frames // per_token) * per_token
        inside = (torch.arange(mel.shape[2], device=mel.device) < ends[:, None])[:, None]
        # Past its own end an item meets what it would meet alone: the zeros of the convolutions.
        x = self.stem(mel * inside, inside, places)
        mask = torch.arange(x.shape[1], device=x.device) < -(-num_frames // 2)[:, None]
        for number in range(1, len(self.layers) + 1):
            x = self.layer(number - 1, x, mask)
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
        xs = run(self.stem, mels)
        valid = [-(-count // 2) for count in num_frames]
        for number in range(1, len(self.layers) + 1):
            xs = self._layer_apart(number - 1, xs, valid, run)
            if number == self.config.pooling_position:
                xs = run(self._pool, xs)
                valid = [-(-count // self.config.pooling_kernel) for count in valid]
        return run(self.project, xs)

    def stem(self, mel: Tensor, inside: Tensor | None = None, places: Tensor | None = None) -> Tensor:
        """Return spectra as rows with positions, (B, F / 2, D).

        Args:
            mel: (B, M, F).
            inside: (B, 1, F) which frames are an item's own; all if None.
            places: As of `forward`.
        """
        x = F.gelu(self.conv1(F.pad(mel, self.padding)))
        x = F.gelu(self.conv2(F.pad(x if inside is None else x * inside, self.padding))).transpose(1, 2)
        if self.positions is None:
            return x + cast(Tensor, self.offset)
        if places is None:
            return x + self.positions[: x.shape[1]]
        rows = places[:, None] + torch.arange(x.shape[1], device=x.device)
        # Only the padding of shorter items reaches past the table's end.
        return x + self.positions[rows.clamp(max=self.config.max_positions - 1)]

    def layer(self, number: int, x: Tensor, mask: Tensor) -> Tensor:
        """Apply layer `number`, from 0, to rows (B, T, D), of which those in `mask` (B, T) are attended to."""
        layer = cast(Block, self.layers[number])
        if not self.biases:
            attended: Tensor = layer(x, mask[:, None, None])
            return attended
        return self._attend_near(layer, cast(RelativePositionBias1d, self.biases[number]), x, mask)

    def slack(self, num_frames: Tensor) -> Tensor:
        """Return how many rows of the position table items leave, (B,): the last row that each may begin at."""
        config = self.config
        return config.max_positions - -(-num_frames // config.frames_per_token) * config.pooling_kernel

    def num_pieces(self, num_frames: int) -> int:
        """Return into how many pieces, which may be computed at the same time, `apart` cuts an item."""
        return -(-num_frames // (2 * self._step))

    @property
    def _step(self) -> int:
        return _ROWS if self.conv1.weight.device.type == "cpu" else self.config.max_positions

    def _attend_near(self, layer: Block, bias: RelativePositionBias1d, x: Tensor, mask: Tensor) -> Tensor:
        """Apply a layer that attends within a reach to rows (B, T, D), in blocks of as many rows as it reaches.

        A block sees itself and its two neighbours, so that there are scores of 3 keys a row of reach, and not of all T.
        """
        size, length = bias.reach, x.shape[1]

        def scores(queries: range, keys: range, seen: Tensor) -> Tensor:
            # Rows of padding may have nothing but padding in reach, and softmax needs something to look at: padding is
            # far below all scores, where what is out of reach is at -inf.
            made: Tensor = bias(queries, keys).to(x.dtype) + seen.logical_not()[:, None, None] * _NOT_SEEN
            return made

        if length <= _SHORT * size:
            short: Tensor = layer(x, scores(range(length), range(length), mask))
            return short

        def neighbours(rows: Tensor) -> Tensor:
            """Return (B, H, T, S) as (B · blocks, H, 3 · size, S)."""
            blocks = F.pad(rows, (0, 0, size, size)).reshape(*rows.shape[:2], -1, size, rows.shape[3]).transpose(1, 2)
            return torch.cat([blocks[:, :-2], blocks[:, 1:-1], blocks[:, 2:]], 3).flatten(0, 1)

        padding = -length % size
        padded, own = F.pad(x, (0, 0, 0, padding)), F.pad(mask, (size, padding + size))
        keys, values = map(neighbours, layer.keys_values(padded))
        seen = own.unfold(1, 3 * size, size).flatten(0, 1)
        near = scores(range(size), range(-size, 2 * size), seen)
        done = layer.attend(padded.reshape(-1, size, x.shape[2]), keys, values, near)
        return done.view(len(x), -1, x.shape[2])[:, :length]

    def _layer_apart(self, number: int, xs: list[Tensor], valid: list[int], run: Run) -> list[Tensor]:
        """Apply a layer to items (1, T, D), of which the first `valid` rows are attended to, some rows at a time."""
        layer = cast(Block, self.layers[number])
        pieces = [torch.split(x.contiguous(), self._step, 1) for x in xs]
        projected = iter(run(layer.keys_values, [piece for split in pieces for piece in split]))
        memory = []
        for split, count in zip(pieces, valid, strict=True):
            keys, values = zip(*(next(projected) for _ in split), strict=True)
            memory.append((torch.cat(keys, 2)[:, :, :count], torch.cat(values, 2)[:, :, :count]))

        def attend(piece: tuple[int, int, Tensor]) -> Tensor:
            item, start, rows = piece
            keys, values = memory[item]
            if not self.biases:
                return layer.attend(rows, keys, values)
            bias = cast(RelativePositionBias1d, self.biases[number])
            queries = range(start, start + rows.shape[1])
            seen = range(max(0, start - bias.reach), min(keys.shape[2], queries.stop + bias.reach))
            near = slice(seen.start, seen.stop)
            return layer.attend(rows, keys[:, :, near], values[:, :, near], bias(queries, seen))

        places = [
            (item, place * self._step, piece) for item, split in enumerate(pieces) for place, piece in enumerate(split)
        ]
        done = iter(run(attend, places))
        return [torch.cat([next(done) for _ in split], 1) for split in pieces]

    def _pool(self, x: Tensor) -> Tensor:
        """Pool neighbouring rows of (B, T, D)."""
        groups = x.reshape(len(x), -1, self.config.pooling_kernel, x.shape[2])
        return groups.mean(2) if self.config.pooling_type == "avg" else groups.amax(2)
