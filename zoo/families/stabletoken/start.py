"""A start for what Whisper does not have, from what its own first layers make of speech.

Thirteen random directions and no positions tell the layers behind the quantizer nothing, and a short training is half
over before they do. Here what a state has from its place in time is estimated and becomes the positions, and the
quantizer starts from what is left: directions whose signs say most about it, and codes that stand for these signs.

An encoder without positions starts with layers that know nothing of distance, although those it took over attend by
little else. What distance said there is measured as well (`start_distances`), so that positions can be taken out of a
tokenizer that was trained with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from zoo.components.layers.block import Block
from zoo.components.layers.positions import RelativePositionBias1d, sincos_1d
from zoo.components.quantizers import VotingLFQ
from zoo.components.quantizers.lfq import bits_of, to_signs
from zoo.data.speech import SpeechItems
from zoo.families.stabletoken.encoder import SpeechEncoder
from zoo.families.stabletoken.recognizer import Recognizer
from zoo.families.stabletoken.tokenizer import StableTokenTokenizer

__all__ = ["go_on_from_speech", "start_distances", "start_from_speech", "with_positions"]

_MOST_FEATURES = 64


@torch.no_grad()
def start_from_speech(
    tokenizer: StableTokenTokenizer, recognizer: Recognizer, items: SpeechItems, num_utterances: int
) -> None:
    """Set what has no weights of Whisper's, the same for the same items on every process.

    These are an encoder without positions, and a `voting_lfq` with biases and the recogniser's positions behind it.
    Other quantizers, and what is behind them, stay as they are.

    Args:
        tokenizer: Whose encoder has Whisper's weights.
        recognizer: What follows it.
        items: Training utterances, of which `num_utterances` are taken, evenly spread.
        num_utterances: How many.
    """
    encoder, quantizer, heard = tokenizer.encoder, tokenizer.quantizer, _heard(tokenizer, items, num_utterances)
    placed = encoder
    if encoder.positions is None:
        placed = with_positions(encoder)
        start_distances(encoder, placed, [mel for mel, _ in heard])
    if not (isinstance(quantizer, VotingLFQ) and quantizer.config.bias):
        return
    state, place = _states(placed, heard)
    positions, _ = _by_place(state, place, recognizer.positions.shape[0], tokenizer.config.pooling_kernel)
    recognizer.positions.copy_(positions)
    if placed is encoder:
        quantizer.start_from(state - positions[place], state.mean(0), torch.Generator().manual_seed(0))
    else:
        state, _ = _states(encoder, heard)
        quantizer.start_from(state - state.mean(0), state.mean(0), torch.Generator().manual_seed(0))


@torch.no_grad()
def go_on_from_speech(
    tokenizer: StableTokenTokenizer,
    recognizer: Recognizer,
    front: SpeechEncoder | None,
    items: SpeechItems,
    num_utterances: int,
    *,
    is_placed: bool,
) -> None:
    """Set what a trained tokenizer lacks to be trained on.

    Args:
        tokenizer: A trained one.
        recognizer: What follows it.
        front: Whisper's own first layers, with a position table, if the recogniser behind them has Whisper's weights
            and has seen nothing of this tokenizer: its positions, and the codes of a `voting_lfq` with biases, then
            become what gives these layers' states best. No id changes by that.
        items: As of `start_from_speech`.
        num_utterances: The same.
        is_placed: Whether the encoder's weights are of one with a position table, and it has none: distances start.
    """
    encoder, quantizer, heard = tokenizer.encoder, tokenizer.quantizer, _heard(tokenizer, items, num_utterances)
    if is_placed:
        start_distances(encoder, with_positions(encoder), [mel for mel, _ in heard])
    if front is None or not (isinstance(quantizer, VotingLFQ) and quantizer.config.bias):
        return
    state, place = _states(front, heard)
    signs = to_signs(bits_of(quantizer.ids(_states(encoder, heard)[0]), quantizer.config.num_bits))
    positions, codes = _by_place(state, place, recognizer.positions.shape[0], tokenizer.config.pooling_kernel, signs)
    recognizer.positions.copy_(positions - positions.mean(0))
    quantizer.out.weight.copy_(codes.T)
    quantizer.out.bias.copy_(positions.mean(0))


@torch.no_grad()
def start_distances(encoder: SpeechEncoder, placed: SpeechEncoder, mels: Sequence[Tensor]) -> None:
    """Set an encoder's `offset` and `biases` so that its layers attend as they do with a position table.

    The offset is the table's middle row, as if all speech stood there. A bias is the mean, over speech anywhere in the
    table, of the scores by distance with the table, less what they are without.

    Args:
        encoder: Without positions, else with the other's weights.
        placed: With a table.
        mels: (1, M, F) of speech.
    """
    table = cast(Tensor, placed.positions)
    cast(Tensor, encoder.offset).copy_(table[len(table) // 2])
    generator = torch.Generator().manual_seed(0)
    frames = torch.tensor([mel.shape[2] for mel in mels])
    rows = (torch.rand(len(mels), dtype=torch.float32, generator=generator) * (placed.slack(frames) + 1)).long()
    xs = [placed.stem(mel, None, row[None].to(mel.device)) for mel, row in zip(mels, rows, strict=True)]
    ys = [encoder.stem(mel) for mel in mels]
    for number, module in enumerate(encoder.biases):
        bias, layer, other = cast(RelativePositionBias1d, module), encoder.layers[number], placed.layers[number]
        total, count = torch.zeros_like(bias.table), bias.table.new_zeros(len(bias.table), 1)
        for x, y in zip(xs, ys, strict=True):
            more = (_scores(cast(Block, other), x) - _scores(cast(Block, layer), y))[0]
            place = torch.arange(x.shape[1], device=x.device)
            distance = place - place[:, None] + bias.reach
            is_near = (distance >= 0) & (distance <= 2 * bias.reach)
            total.index_add_(0, distance[is_near], more[:, is_near].T)
            count.index_add_(0, distance[is_near], count.new_ones(int(is_near.sum()), 1))
        bias.table.copy_(total / count.clamp(min=1))
        xs, ys = [other(x) for x in xs], [encoder.layer(number, y, y.new_ones(y.shape[:2]).bool()) for y in ys]


def _heard(tokenizer: StableTokenTokenizer, items: SpeechItems, count: int) -> list[tuple[Tensor, Tensor]]:
    """Return the spectra (1, M, F) of some utterances, evenly spread, and their frames."""
    device, count = tokenizer.device, min(count, len(items))
    waves = [items.wave(number * len(items) // count).to(device) for number in range(count)]
    return [tokenizer.features(wave[None], torch.tensor([len(wave)], device=device)) for wave in waves]


def _states(encoder: SpeechEncoder, heard: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the vectors (N, D) of spectra and their frames, and which token of its item each is."""
    states, places = [], []
    for mel, frames in heard:
        hidden, mask = encoder(mel, frames)
        states.append(hidden[mask])
        places.append(mask[0].nonzero()[:, 0])
    return torch.cat(states), torch.cat(places)


def with_positions(encoder: SpeechEncoder) -> SpeechEncoder:
    """Return an encoder with the same weights, and the position table."""
    other = SpeechEncoder(replace(encoder.config, attention_reach=None), None).to(encoder.conv1.weight.device)
    other.project = encoder.project
    own = encoder.state_dict()
    other.load_state_dict({name: own[name] for name in other.state_dict()})
    return other


def _scores(layer: Block, x: Tensor) -> Tensor:
    """Return the scores (B, H, T, T) of rows x (B, T, D) to each other."""
    attention, rows = layer.attention, layer.attention_norm(x)
    scale = attention.head_size**-0.5 if attention.scale is None else attention.scale
    scores: Tensor = attention.queries(rows) @ attention.keys_values(rows)[0].transpose(2, 3) * scale
    return scores


def _by_place(
    state: Tensor, place: Tensor, length: int, kernel: int, signs: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return what states (N, D) at `place` (N,) are on the average at each place, (length, D).

    A regression on the main components of Whisper's position table, which the states were made with: a mean of the
    states at each place would need far more of them. Places that none has count as the last one that has. With the
    `signs` (N, d) of tokens, it is one on these as well, and what they stand for is the second result, (d, D).
    """
    seen = int(place.max()) + 1
    table = sincos_1d(length * kernel, state.shape[1], endpoint=True).view(length, kernel, -1).mean(1)[:seen]
    table = (table - table.mean(0)).to(state.device)
    components = torch.linalg.svd(table, full_matrices=False)[2][: min(_MOST_FEATURES, seen // 2, len(state) // 20)]
    features = torch.cat([table @ components.T, table.new_ones(seen, 1)], 1)
    x = features[place].double() if signs is None else torch.cat([features[place], signs.float()], 1).double()
    ridge = 1e-4 * x.square().mean() * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    weights = torch.linalg.solve(x.T @ x + ridge, x.T @ state.double())
    means = (features.double() @ weights[: features.shape[1]]).float()
    return means[torch.arange(length, device=means.device).clamp(max=seen - 1)], weights[features.shape[1] :].float()
