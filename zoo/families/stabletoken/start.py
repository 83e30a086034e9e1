"""A start for the quantizer and the positions behind it, from what Whisper's own first layers make of speech.

Thirteen random directions and no positions tell the layers behind the quantizer nothing, and a short training is half
over before they do. Here what a state has from its place in time is estimated and becomes the positions, and the
quantizer starts from what is left: directions whose signs say most about it, and codes that stand for these signs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.components.layers.positions import sincos_1d
from zoo.components.quantizers import VotingLFQ
from zoo.data.speech import SpeechItems
from zoo.errors import ConfigError
from zoo.families.stabletoken.recognizer import Recognizer
from zoo.families.stabletoken.tokenizer import StableTokenTokenizer

__all__ = ["start_from_speech"]

_MOST_FEATURES = 64


@torch.no_grad()
def start_from_speech(
    tokenizer: StableTokenTokenizer, recognizer: Recognizer, items: SpeechItems, num_utterances: int
) -> None:
    """Set a `voting_lfq`'s weights and the recogniser's positions, the same for the same items on every process.

    Args:
        tokenizer: Whose encoder has Whisper's weights.
        recognizer: What follows it.
        items: Training utterances, of which `num_utterances` are taken, evenly spread.
        num_utterances: How many.

    Raises:
        ConfigError: The quantizer is another, or has no biases.
    """
    quantizer = tokenizer.quantizer
    if not isinstance(quantizer, VotingLFQ):
        raise ConfigError(
            f"start_utterances is for a voting_lfq with biases, not for {tokenizer.config.quantizer.kind!r}."
        )
    states, places = [], []
    for number in range(min(num_utterances, len(items))):
        wave = items.wave(number * len(items) // min(num_utterances, len(items)))
        mel, frames = tokenizer.features(wave[None], torch.tensor([len(wave)], device=wave.device))
        hidden, mask = tokenizer.encoder(mel, frames)
        states.append(hidden[mask])
        places.append(mask[0].nonzero()[:, 0])
    state, place = torch.cat(states), torch.cat(places)
    positions = _by_place(state, place, recognizer.positions.shape[0], tokenizer.config.pooling_kernel)
    recognizer.positions.copy_(positions)
    quantizer.start_from(state - positions[place], state.mean(0), torch.Generator().manual_seed(0))


def _by_place(state: Tensor, place: Tensor, length: int, kernel: int) -> Tensor:
    """Return what states (N, D) at `place` (N,) are on the average at each place, (length, D).

    A regression on the main components of Whisper's position table, which the states were made with: a mean of the
    states at each place would need far more of them. Places that none has count as the last one that has.
    """
    seen = int(place.max()) + 1
    table = sincos_1d(length * kernel, state.shape[1], endpoint=True).view(length, kernel, -1).mean(1)[:seen]
    table = table - table.mean(0)
    components = torch.linalg.svd(table, full_matrices=False)[2][: min(_MOST_FEATURES, seen // 2, len(state) // 20)]
    features = torch.cat([table @ components.T, table.new_ones(seen, 1)], 1)
    x = features[place].double()
    ridge = 1e-4 * x.square().mean() * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(x.T @ x + ridge, x.T @ state.double())
    means: Tensor = (features.double() @ weights).float()
    return means[torch.arange(length, device=means.device).clamp(max=seen - 1)]
